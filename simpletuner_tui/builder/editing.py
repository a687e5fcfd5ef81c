"""One configuration being edited alone, and what goes with it."""

from dataclasses import dataclass
from pathlib import Path

from simpletuner_tui.builder.model import Builder
from simpletuner_tui.drafts import Drafts

DEFAULT = Path("deepspeed.json")
"""Where a configuration is saved that came from no file that can hold it."""


@dataclass(frozen=True, slots=True)
class Editing:
    """What a front end of the builder is given."""

    builder: Builder
    path: Path
    """Where it is saved unless another place is given."""
    drafts: Drafts | None
    """Where it is kept at every edit; None: nowhere."""
    offers_draft: bool = True
    """Whether a draft that is there is offered; not where a person named what to begin from."""
    remarks: tuple[str, ...] = ()
    """What a person should know of where it came from, in sentences."""
    applies: bool = False
    """Whether someone waits for the configuration itself; saving it to a file is beside that then."""
    full: bool = False
    """Whether every field is asked or listed, and not only those that matter."""
