"""SimpleTuner's config.json or config.env as options with their values; what they mean is said elsewhere."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from launcher.deepspeed.fields import shown
from launcher.deepspeed.reading import LARGEST, Read, decode, read_json
from launcher.errors import InvalidInputError

EXTRA_ARGUMENTS = "TRAINER_EXTRA_ARGS"
"""The variable of a config.env that holds options as on a command line."""

OF_VARIABLE = MappingProxyType(
    {
        "RESUME_CHECKPOINT": "resume_from_checkpoint",
        "DATALOADER_CONFIG": "data_backend_config",
        "TRAINING_SEED": "seed",
        "MINIMUM_RESOLUTION": "minimum_image_size",
        "MAX_NUM_STEPS": "max_train_steps",
        "NUM_EPOCHS": "num_train_epochs",
        "CHECKPOINTING_LIMIT": "checkpoints_total_limit",
        "HUB_MODEL_NAME": "hub_model_id",
        "MODEL_NAME": "pretrained_model_name_or_path",
        "USE_GRADIENT_CHECKPOINTING": "gradient_checkpointing",
        "LR_SCHEDULE": "lr_scheduler",
        "TRAINING_NUM_PROCESSES": "num_processes",
        "TRAINING_NUM_MACHINES": "num_machines",
        "TRAINING_DYNAMO_BACKEND": "dynamo_backend",
        "TRAINER_DYNAMO_BACKEND": "dynamo_backend",
    }
)
"""Options that a config.env calls otherwise than by their name in capitals."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One option as it was written."""

    key: str
    """As it stands in the file."""
    name: str
    """Without dashes, in SimpleTuner's spelling."""
    value: Any


def read_entries(path: Path) -> list[Entry]:
    """The options of a config.json, or of a config.env.

    Raises:
        InvalidInputError: it cannot be read, or holds no options.
    """
    text = read_text(path)
    if path.suffix == ".env" or not text.lstrip().startswith(("{", "[", '"')):
        return _of_environment(text, path)
    content = _object(read_json(text), path)
    if not isinstance(content, dict):
        raise InvalidInputError(f"{path} holds {shown(content)}, not an object of options")
    return [Entry(key, key.lstrip("-").replace("-", "_"), value) for key, value in content.items()]


def read_list(path: Path) -> list[dict[str, Any]]:
    """The data backends in a file: a list of objects.

    Raises:
        InvalidInputError: it cannot be read, or holds something else.
    """
    content = _object(read_json(read_text(path)), path)
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        raise InvalidInputError(f"{path} holds no list of data backends")
    return content


def read_text(path: Path) -> str:
    """A file's text.

    Raises:
        InvalidInputError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            decoded = decode(file.read(LARGEST + 1))
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        reason = getattr(error, "strerror", None) or error
        raise InvalidInputError(f"{path} cannot be read: {reason}") from error
    if isinstance(decoded, Read):
        raise InvalidInputError(f"{path} {decoded.problems[0].message}")
    return decoded


def _object(read: Read, path: Path) -> Any:
    if read.problems:
        raise InvalidInputError(f"{path} {read.problems[0].message}")
    return read.value


def _of_environment(text: str, path: Path) -> list[Entry]:
    entries: dict[str, Entry] = {}
    for number, line in enumerate(text.splitlines(), 1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise InvalidInputError(f"{path}, line {number}: {error}") from error
        words = words[1:] if words[:1] == ["export"] else words
        if not words:
            continue
        variable, equals, value = " ".join(words).partition("=")
        more = variable.endswith("+")
        variable = variable.removesuffix("+")
        if not equals or not variable.isidentifier():
            raise InvalidInputError(f"{path}, line {number} is neither JSON nor NAME=value: {shown(line)}")
        name = OF_VARIABLE.get(variable, variable.lower())
        before = f"{entries[variable].value} " if more and variable in entries else ""
        entries[variable] = Entry(variable, name, f"{before}{value}")
    if not entries:
        raise InvalidInputError(f"{path} holds no options")
    extra = entries.pop(EXTRA_ARGUMENTS, None)
    return [*entries.values(), *(_of_arguments(str(extra.value), path) if extra else [])]


def _of_arguments(text: str, path: Path) -> list[Entry]:
    """Options as on a command line; one without a value is switched on."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InvalidInputError(f"{path}: {EXTRA_ARGUMENTS}: {error}") from error
    entries: dict[str, Entry] = {}
    name = ""
    for word in words:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            entries[name] = Entry(name, name.lstrip("-"), value if equals else True)
        elif name:
            before = entries[name].value
            entries[name] = Entry(name, entries[name].name, word if before is True else f"{before} {word}")
        else:
            entries[word] = Entry(f"{EXTRA_ARGUMENTS} {word}", word, None)
    return list(entries.values())
