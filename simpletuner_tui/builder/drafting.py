"""An unsaved configuration, kept at every edit and offered again for the same file."""

import hashlib
from pathlib import Path

from launcher.runs.index import state_folder
from simpletuner_tui.builder.model import Builder
from simpletuner_tui.drafts import Draft, Drafts


def drafts_for(path: Path) -> Drafts:
    """Where the draft of a file is.

    Args:
        path: where the configuration is saved unless another place is given.
    """
    digest = hashlib.sha256(str(path.absolute()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return Drafts(state_folder() / "deepspeed-drafts" / f"{digest}.json")


def draft_of(builder: Builder, drafts: Drafts) -> Draft | None:
    """The draft there is, unless it says what the file says."""
    draft = drafts.read()
    return None if draft is None or draft.answers == builder.written else draft


def draft_details(draft: Draft) -> str:
    """When it was kept, and where it was left."""
    return ", ".join(part for part in (draft.when, f"at {draft.place}" if draft.place else "") if part)
