"""``import``: a configuration of SimpleTuner's as a file of answers."""

import sys
from argparse import Namespace
from typing import Any

from launcher.errors import ExitCode, RefusedToOverwriteError
from simpletuner_tui.answers import write_answers
from simpletuner_tui.commands.deepspeed_check import print_json
from simpletuner_tui.messages import tell
from simpletuner_tui.paths import typed_path
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.saving import saving
from simpletuner_tui.session import probe_machine
from simpletuner_tui.simpletuner.importing import Imported, import_config
from simpletuner_tui.simpletuner.rows import Fate, Row
from simpletuner_tui.text import printable


def import_(arguments: Namespace) -> ExitCode:
    """Writes the answers, and lists what became of every key.

    Raises:
        InvalidInputError: the configuration cannot be read, or the answers cannot be written.
        RefusedToOverwriteError: another file is there.
    """
    imported = import_config(typed_path(arguments.config), REGISTRY, probe_machine())
    path = typed_path(arguments.out).absolute()
    planned = saving(path, write_answers(imported.resolved, imported.base, path.parent))
    if arguments.json:
        print_json(_told(imported, str(path)))
    else:
        for fate in Fate:
            rows = [row for row in imported.rows if row.fate is fate]
            _print("\n".join([f"{fate} ({len(rows)})", *(printable(_line(row)) for row in rows)]))
    if planned.before is not None and not planned.changes_nothing and not arguments.force:
        raise RefusedToOverwriteError(
            f"{path} is there already; --force replaces it, and keeps it as {planned.backup.name}"
        )
    planned.write()
    for problem in imported.needed:
        tell(f"still needed: {problem.field}: {problem.message}")
    tell(f"written to {path}: simpletuner-tui check {arguments.out} says whether it can run here")
    return ExitCode.USAGE if imported.needed else ExitCode.OK


def _told(imported: Imported, path: str) -> dict[str, Any]:
    return {
        "answers": path,
        "keys": [row.to_json() for row in imported.rows],
        "needed": [{"field": problem.field, "message": problem.message} for problem in imported.needed],
    }


def _line(row: Row) -> str:
    answers = ", ".join(f"{key} = {value}" for key, value in row.answers.items())
    return f"  {row.key}: {'; '.join(part for part in (answers, row.how) if part)}"


def _print(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))  # noqa: T201
