"""A saved DeepSpeed configuration with a name: what it is, and its file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher.deepspeed.reading import Read, decode, fault, read_json

SCHEMA = 1
"""Of the files; a newer one is refused by name."""


@dataclass(frozen=True, slots=True)
class Template:
    """One configuration to begin from."""

    name: str
    description: str
    config: Mapping[str, Any]
    """DeepSpeed's JSON as an object."""
    corrected: tuple[str, ...] = field(default=())
    """What is other than where it was taken from, a sentence each."""

    def to_bytes(self) -> bytes:
        """The template's file, to keep or to give away."""
        content: dict[str, Any] = {"schema": SCHEMA, "name": self.name, "description": self.description}
        if self.corrected:
            content["corrected"] = list(self.corrected)
        content["deepspeed"] = self.config
        return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def read_template(data: bytes) -> Template | Read:
    """A template from its file's bytes, or the problems that say why it is none."""
    text = decode(data)
    read = text if isinstance(text, Read) else read_json(text)
    if read.problems:
        return read
    content = read.value
    if not isinstance(content, dict) or not isinstance(content.get("deepspeed"), dict):
        return fault("is no template: it has no object deepspeed")
    if content.get("schema") != SCHEMA:
        return fault(f"is a template of schema {content.get('schema')}; this program reads {SCHEMA}")
    name, description = content.get("name"), content.get("description", "")
    if not isinstance(name, str) or not isinstance(description, str):
        return fault("is no template: name and description must be text")
    corrected = content.get("corrected", [])
    if not isinstance(corrected, list) or not all(isinstance(sentence, str) for sentence in corrected):
        return fault("is no template: corrected must be a list of texts")
    return Template(name, description, content["deepspeed"], tuple(corrected))
