"""``python -m launcher.train.convert CHECKPOINT [FOLDER]``: makes a checkpoint that any engine continues; on a CPU."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from launcher.errors import CannotRunHereError
from launcher.imports import without_collecting
from launcher.runs.checkpoints import FACTS, UNIVERSAL
from launcher.runs.converting import Conversion, conversion
from launcher.runs.directory import write_atomic
from launcher.runs.marker import mark

with without_collecting():
    from launcher.train.alone import Progress, run_alone
    from launcher.train.models import first_line
    from launcher.train.universal.form import AVERAGE, MASTER, STATES, Parameter, write
    from launcher.train.universal.sources import Source, open_source


def convert(wanted: Conversion, progress: Progress) -> Path:
    """Writes the universal form of a checkpoint beside its source, whole or not at all.

    One parameter at a time is read, and one shard at a time held.

    Raises:
        InvalidInputError: the source cannot be read.
        CannotRunHereError: the target cannot be written; nothing of it is left.
    """
    source, unfinished = wanted.source, wanted.unfinished
    state = open_source(source)
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        kinds = (MASTER, *STATES[source.facts["optimizer"]], *((AVERAGE,) if state.has_average else ()))
        write(unfinished, _told(state, kinds, progress), state.counters)
        facts = {**source.facts, "form": UNIVERSAL, "torch_adam": False, "converted_from": source.path.name}
        write_atomic(unfinished / FACTS, json.dumps(facts, indent=2).encode())
        mark(unfinished)
        unfinished.rename(wanted.target)
    except OSError as error:
        raise CannotRunHereError(
            f"{wanted.target} could not be written: {first_line(error)}; {source.path} is untouched"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return wanted.target


def _told(state: Source, kinds: tuple[str, ...], progress: Progress) -> Iterator[Parameter]:
    for count, parameter in enumerate(state.parameters(kinds), start=1):
        yield parameter
        progress(count, len(state.shapes))


def main() -> int:
    """Converts what the command line names; prints the new checkpoint's folder."""
    source, *folder = (Path(argument) for argument in sys.argv[1:])

    def work(progress: Progress) -> str:
        return str(convert(conversion(source, folder[0] if folder else None), progress))

    return run_alone("convert", work)


if __name__ == "__main__":
    sys.exit(main())
