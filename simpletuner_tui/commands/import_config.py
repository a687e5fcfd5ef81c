"""``import``: a configuration of SimpleTuner's as a file of answers."""

import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from launcher.errors import ExitCode, RefusedToOverwriteError
from simpletuner_tui.answers import write_answers
from simpletuner_tui.commands.deepspeed_check import print_json
from simpletuner_tui.messages import tell
from simpletuner_tui.paths import typed_path
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.saving import saving
from simpletuner_tui.session import probe_machine
from simpletuner_tui.setups import remember
from simpletuner_tui.simpletuner.importing import Imported, import_config
from simpletuner_tui.simpletuner.rows import Fate, Row
from simpletuner_tui.text import printable


def import_(arguments: Namespace) -> ExitCode:
    """Writes the answers and, where they need one, the file of sources; lists what became of every key.

    Raises:
        InvalidInputError: the configuration cannot be read, or a file cannot be written.
        RefusedToOverwriteError: another file is there; nothing is written then.
    """
    path = typed_path(arguments.out).absolute()
    listing = path.with_name(f"{path.stem}.sources.json")
    imported = import_config(typed_path(arguments.config), REGISTRY, probe_machine(), listing)
    planned = [saving(path, write_answers(imported.resolved, imported.base, path.parent))]
    if imported.sources:  # before the answers, which name it
        planned.insert(0, saving(listing, (json.dumps(imported.sources, indent=2, ensure_ascii=False) + "\n").encode()))
    if arguments.json:
        print_json(_told(imported, path, listing))
    else:
        for fate in Fate:
            rows = [row for row in imported.rows if row.fate is fate]
            _print("\n".join([f"{fate} ({len(rows)})", *(printable(_line(row)) for row in rows)]))
    there = [each for each in planned if each.before is not None and not each.changes_nothing]
    if there and not arguments.force:
        raise RefusedToOverwriteError(
            "\n".join(
                f"{each.path} is there already; --force replaces it, and keeps it as {each.backup.name}"
                for each in there
            )
        )
    for each in planned:
        each.write()
    remember(path)
    for problem in imported.needed:
        tell(f"still needed: {problem.field}: {problem.message}")
    if imported.sources:
        tell(f"sources of pictures written to {listing}")
    tell(f"written to {path}: simpletuner-tui check {arguments.out} says whether it can run here")
    return ExitCode.USAGE if imported.needed else ExitCode.OK


def _told(imported: Imported, path: Path, listing: Path) -> dict[str, Any]:
    return {
        "answers": str(path),
        "sources": str(listing) if imported.sources else None,
        "keys": [row.to_json() for row in imported.rows],
        "needed": [{"field": problem.field, "message": problem.message} for problem in imported.needed],
    }


def _line(row: Row) -> str:
    answers = ", ".join(f"{key} = {value}" for key, value in {**row.answers, **row.source}.items())
    return f"  {row.key}: {'; '.join(part for part in (answers, row.how) if part)}"


def _print(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))  # noqa: T201
