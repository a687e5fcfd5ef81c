"""Writing a file a person cares about: nothing is overwritten unseen, nothing old is lost."""

import difflib
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import InvalidInputError
from launcher.runs.directory import write_atomic


@dataclass(frozen=True, slots=True)
class Saving:
    """A file about to be written."""

    path: Path
    content: bytes
    before: bytes | None
    """What is there now."""
    make_folder: bool = False
    """Whether its folder is made when there is none."""

    @property
    def changes_nothing(self) -> bool:
        """Whether the same content is there already."""
        return self.before == self.content

    @property
    def backup(self) -> Path:
        """Where what is there now will be kept."""
        return self.path.with_name(self.path.name + ".bak")

    def diff(self) -> list[str]:
        """A unified diff from what is there now."""
        before = (self.before or b"").decode("utf-8", "replace").splitlines()
        after = self.content.decode("utf-8", "replace").splitlines()
        return list(difflib.unified_diff(before, after, str(self.path), "new", lineterm=""))

    def write(self) -> None:
        """Writes it whole; what was there is kept beside it.

        Raises:
            InvalidInputError: the folder or disk refuses.
        """
        try:
            if self.changes_nothing:
                return
            if self.before is not None:
                write_atomic(self.backup, self.before)
            if self.make_folder:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self.path, self.content)
        except OSError as error:
            raise InvalidInputError(f"{self.path} cannot be written: {error.strerror}; choose another") from error


def saving(path: Path, content: bytes, *, make_folder: bool = False) -> Saving:
    """Looks what is at ``path`` now.

    Args:
        path: where it goes.
        content: the whole file.
        make_folder: a folder that is missing is made when the file is written.

    Raises:
        InvalidInputError: it cannot be read, or its folder is missing.
    """
    try:
        before = path.read_bytes()
    except FileNotFoundError:
        if not make_folder and not path.parent.is_dir():
            raise InvalidInputError(f"{path.parent} is not a folder; make it or choose another") from None
        before = None
    except ValueError:  # what no file can be called
        raise InvalidInputError("that is no name for a file; choose another") from None
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be replaced: {error.strerror}; choose another") from error
    return Saving(path, content, before, make_folder)
