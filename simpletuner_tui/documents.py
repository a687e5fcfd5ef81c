"""What a walk makes when it is saved: the answers of a run, or accelerate's file alone."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.errors import InvalidInputError
from launcher.runs.index import state_folder
from simpletuner_tui.drafts import Drafts
from simpletuner_tui.paths import typed_path
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.questions.accelerate import ACCELERATE
from simpletuner_tui.questions.accelerate.common import DEEPSPEED, DS_FILE
from simpletuner_tui.questions.accelerate.file import accelerate_file, file_bytes
from simpletuner_tui.questions.conditions import Condition
from simpletuner_tui.questions.model import Question
from simpletuner_tui.questions.resolving import Resolved

if TYPE_CHECKING:
    from simpletuner_tui.preview import Preview
    from simpletuner_tui.saving import Saving

# What shows and what writes a file is loaded when one is shown or written, not before the first question is.


@dataclass(frozen=True, slots=True)
class Document:
    """One kind of file, the questions it comes from, and what can be done with it."""

    name: str
    """Shown in the header."""
    registry: Sequence[Question]
    path: Path
    """Where it is saved unless another place is given."""
    content: Callable[[Resolved, Path], bytes]
    """The file as it is written to a path; raises InvalidInputError where answers do not make one yet."""
    preview: Callable[[Resolved, Path], "Preview"]
    """What answers so far amount to; relative paths count from the folder given."""
    told: Callable[[Path], str]
    """What a person who saved it can do with it."""
    launches: bool
    """Whether it can be launched as well as saved."""
    draft: str
    """Name of the draft in the state folder."""
    builds: Condition
    """With which answers the DeepSpeed builder has something to work on."""
    sources: tuple[Path, ...] = ()
    """Where a file of accelerate's may be that a walk can start from."""
    presets: bool = False
    """Whether a walk can start from a preset."""

    def saving(self, resolved: Resolved, path: Path) -> "Saving":
        """Looks what saving would replace.

        Raises:
            InvalidInputError: answers do not make a file yet, or none can be at ``path``.
        """
        from simpletuner_tui.saving import saving  # noqa: PLC0415

        return saving(path, self.content(resolved, path), make_folder=path in accelerates_places())

    def drafts(self) -> Drafts:
        """Where its unsaved answers are kept."""
        return Drafts(state_folder() / self.draft)


def run_document() -> Document:
    """A run's answers, from every question."""
    return Document(
        name="sdxl",
        registry=REGISTRY,
        path=Path("answers.json"),
        content=_answers,
        preview=_run_preview,
        told=lambda path: f"simpletuner-tui --replay {path} starts it without questions",
        launches=True,
        draft="draft.json",
        builds=DEEPSPEED,
        sources=accelerates_places(),
        presets=True,
    )


def accelerate_document(path: Path | None) -> Document:
    """accelerate's file, from its own questions.

    Args:
        path: where it is wanted; accelerate's own place by default.
    """
    places = accelerates_places()
    wanted = path or places[0]
    return Document(
        name="accelerate config",
        registry=ACCELERATE,
        path=wanted,
        content=_accelerates,
        preview=partial(_file_preview, wanted.name),
        told=lambda path: f"accelerate launch --config_file {path} takes it",
        launches=False,
        draft="accelerate-config-draft.json",
        builds=DS_FILE,  # of DeepSpeed's JSON its own file has room for a part only
        sources=tuple(dict.fromkeys((wanted, *places))),
    )


def _answers(resolved: Resolved, path: Path) -> bytes:
    from simpletuner_tui.answers import write_answers  # noqa: PLC0415

    return write_answers(resolved, Path.cwd(), path.absolute().parent)


def _run_preview(resolved: Resolved, base: Path) -> "Preview":
    from simpletuner_tui.preview import preview  # noqa: PLC0415

    return preview(resolved, base)


def _file_preview(name: str, resolved: Resolved, _: Path) -> "Preview":
    from simpletuner_tui.preview import preview_file  # noqa: PLC0415

    return preview_file(resolved, name)


def _accelerates(resolved: Resolved, path: Path) -> bytes:
    from simpletuner_tui.answers import faults_in  # noqa: PLC0415

    if faults := faults_in(resolved):
        raise InvalidInputError("\n".join(f"{fault.field}: {fault.message.strip()}" for fault in faults))
    return file_bytes(accelerate_file(resolved), path.name)


def accelerates_places() -> tuple[Path, Path]:
    """Where accelerate looks for its file when nobody says otherwise, the one it writes first."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")
    folder = typed_path(os.environ.get("HF_HOME", str(cache))) / "accelerate"
    return folder / "default_config.yaml", folder / "default_config.json"
