"""What ``convert`` would make of a checkpoint, and where; told before torch is loaded."""

from dataclasses import dataclass
from pathlib import Path

from launcher.errors import CannotRunHereError, InvalidInputError, RefusedToOverwriteError
from launcher.machine.disk import free_bytes, why_not_writable
from launcher.runs.checkpoints import CONVERTIBLE, UNIVERSAL, Checkpoint, checkpoint_at
from launcher.runs.marker import bytes_of

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Conversion:
    """A checkpoint, and the folder of the one that is made of it."""

    source: Checkpoint
    target: Path

    @property
    def unfinished(self) -> Path:
        """Where it is written until it is whole; no run takes this name for a checkpoint."""
        return self.target.with_name(f"{self.target.name}.unfinished")


def conversion(source: Path, folder: Path | None, *, content: bool = True) -> Conversion:
    """Plans it; nothing is written.

    Args:
        source: a checkpoint of any engine.
        folder: of the checkpoints that the new one joins; the source's own by default.
        content: whether all of the source is read and held against its checksums.

    Raises:
        LauncherError: the source is not whole or cannot be converted, or the target cannot be written.
    """
    checkpoint = checkpoint_at(source, content=content)
    if checkpoint.universal:
        raise InvalidInputError(
            f"{checkpoint.path} is converted already: any ZeRO stage, number of processes and plain PyTorch continue it"
        )
    if not checkpoint.resumable:
        raise InvalidInputError(f"{checkpoint.path} holds weights alone: there is nothing to continue")
    if (optimizer := checkpoint.facts["optimizer"]) not in CONVERTIBLE:
        raise InvalidInputError(
            f"{checkpoint.path} was trained with {optimizer}, whose states cannot be carried over; those of "
            f"{', '.join(CONVERTIBLE)} can. Continue it with its own settings"
        )
    parent = checkpoint.path.parent if folder is None else folder.absolute()
    target = parent / f"checkpoint-{checkpoint.step}-{UNIVERSAL}"
    if target.exists():
        raise RefusedToOverwriteError(f"{target} is there already; a run continues it, or remove it")
    if reason := why_not_writable(parent):
        raise CannotRunHereError(f"{target} cannot be written: {reason}; choose another folder")
    needed, free = bytes_of(checkpoint.path), free_bytes(parent)
    if needed > free:
        raise CannotRunHereError(
            f"{target} needs up to {needed / GIB:.1f} GiB, and {free / GIB:.1f} GiB are free on its disk; make room, "
            "or choose a folder on another"
        )
    return Conversion(checkpoint, target)
