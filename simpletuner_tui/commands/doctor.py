"""``doctor``: what this machine can train, what is in the way, and the command that mends it."""

import os
import shlex
import sys
import textwrap
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from launcher.doctor import (
    Asking,
    Diagnosis,
    Facts,
    Planned,
    Status,
    examine,
    exit_code_of,
    found_platform,
    read_facts,
    trains_on,
)
from launcher.doctor.asking import PINNED_MIB
from launcher.doctor.plan import OF_ANSWERS
from launcher.errors import ExitCode, InvalidInputError
from launcher.machine.host import read_host
from launcher.plan import Plan
from simpletuner_tui.commands.deepspeed_check import print_json
from simpletuner_tui.commands.replay import answers_and_run_dir
from simpletuner_tui.launching import prepare
from simpletuner_tui.messages import wait_in_seconds
from simpletuner_tui.text import is_ascii, printable

SCHEMA = 1
"""Of ``--json``; another one where a key changes its meaning or goes."""
OPTIONS = ("--run-dir", "--set", "--preset", "--offload_param_path", "--strict")
"""What changes a file of answers on the command line."""
WIDTH = 80
STATUS_WIDTH, TITLE_WIDTH = 7, 13
COLOURS = {Status.OK: "32", Status.NOTE: "36", Status.WARNING: "33", Status.ERROR: "1;31"}
"""SGR codes of the word that says it anyway."""


def doctor(arguments: Namespace) -> ExitCode:
    """``doctor [FILE] [--json]``.

    Returns:
        3 where something stops the plan here or, without one, stops what this machine has from training.

    Raises:
        InvalidInputError: the answers make no plan, or options of answers have none to change.
    """
    given = _planned(arguments)
    asking = Asking(_to_pin(given.plan) if given else PINNED_MIB)
    try:
        long = "; DeepSpeed's CPU Adam is compiled, a minute or two this once" if asking.compiles else ""
        wait_in_seconds(lambda: asking.ended, f"looking at this machine{long}")
    except BaseException:  # Ctrl-C too, which the probes may not have seen
        asking.stop()
        raise
    facts = read_facts(asking)
    found = examine(facts, given)
    if arguments.json:
        print_json(_to_json(facts, found, arguments.file))
    else:
        print(_shown("\n".join(_lines(facts, found, arguments.file))))  # noqa: T201
    return exit_code_of(found)


def _planned(arguments: Namespace) -> Planned | None:
    if arguments.file is None:
        if any(_options(arguments)):
            raise InvalidInputError("these options change a file of answers: name one, as in doctor answers.json")
        return None
    answers, run_dir = answers_and_run_dir(arguments, arguments.file)
    prepared = prepare(answers, run_dir, strict=arguments.strict)
    return Planned(prepared.plan, prepared.findings, shlex.join([arguments.file, *_options(arguments)]))


def _options(arguments: Namespace) -> Iterator[str]:
    """What was typed beside the file of answers."""
    for option in OPTIONS:
        value = getattr(arguments, option.strip("-").replace("-", "_"))
        for each in value if isinstance(value, list) else [value]:
            yield from [option] if each is True else [option, each] if each else []


def _to_pin(plan: Plan) -> int:
    """MiB that one process of a plan pins, as far as the machine has it to spare now."""
    each = plan.estimate.host_pinned_mib // plan.settings.launch.processes_here
    return max(1, min(each, read_host().available_mib * 3 // 4))


def _to_json(facts: Facts, found: Sequence[Diagnosis], file: str | None) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "exit_code": int(exit_code_of(found)),
        "platform": found_platform(facts),
        "trains_on": trains_on(facts, found),
        "answers": file,
        "counts": {str(status): sum(each.status is status for each in found) for status in Status},
        "findings": [asdict(each) for each in found],
    }


def _lines(facts: Facts, found: Sequence[Diagnosis], file: str | None) -> Iterator[str]:
    for group, members in groupby(found, key=lambda each: each.group):
        yield group
        for each in members:
            yield from _of_one(each)
        yield ""
    yield from _verdict(facts, found, file)


def _of_one(each: Diagnosis) -> Iterator[str]:
    status = _coloured(f"{each.status:<{STATUS_WIDTH}}", each.status)
    yield from _row(f"  {status}  {each.title:<{TITLE_WIDTH}}  ", each.what)
    blank = " " * (2 + STATUS_WIDTH + 2)
    if each.why:
        yield from _row(f"{blank}{'why':<{TITLE_WIDTH}}  ", each.why)
    for number, command in enumerate(each.mend):
        yield f"{blank}{'or' if number else 'mend':<{TITLE_WIDTH}}  {printable(command)}"  # whole, to be copied


def _row(begin: str, text: str) -> Iterator[str]:
    indent = 2 + STATUS_WIDTH + 2 + TITLE_WIDTH + 2
    # A path longer than a line stays whole, to be copied.
    lines = textwrap.wrap(printable(text), WIDTH - indent, break_on_hyphens=False, break_long_words=False) or [""]
    yield begin + lines[0]
    yield from (" " * indent + line for line in lines[1:])


def _verdict(facts: Facts, found: Sequence[Diagnosis], file: str | None) -> Iterator[str]:
    """What it comes to, last: a terminal of 24 rows shows the end."""
    counts = ", ".join(_counted(status, found) for status in reversed(Status) if _has(status, found))
    yield from textwrap.wrap(counts, WIDTH, break_on_hyphens=False)
    device, gpus = trains_on(facts, found), len(facts.gpus.gpus)
    if file is not None:
        faulty = any(each.id == OF_ANSWERS and each.status is Status.WARNING for each in found)
        can = "can run here, once its answers are mended" if faulty else "can run here"
        told = f"{file} {can if exit_code_of(found) is ExitCode.OK else 'cannot run here'}"
    elif device == "cpu" and gpus:
        told = f"This machine could train on its {'GPU' if gpus == 1 else f'{gpus} GPUs'}, once the errors are mended"
    elif device == "cuda":
        told = f"This machine trains on {'its GPU' if gpus == 1 else f'its {gpus} GPUs'}"
    elif device == "cpu":
        told = "This machine trains on the CPU alone: the demo, not SDXL"
    else:
        told = "Nothing trains here"
    yield printable(told)


def _has(status: Status, found: Iterable[Diagnosis]) -> bool:
    return any(each.status is status for each in found)


def _counted(status: Status, found: Iterable[Diagnosis]) -> str:
    """How many, and which of those that somebody should look at: they may have scrolled away."""
    titles = [each.title for each in found if each.status is status]
    plural = "s" if len(titles) > 1 and status is not Status.OK else ""
    named = f" ({', '.join(dict.fromkeys(titles))})" if status in (Status.ERROR, Status.WARNING) else ""
    return f"{len(titles)} {status}{plural}{named}"


def _coloured(text: str, status: Status) -> str:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") in (None, "", "dumb")
    if plain or sys.stdout is None or not sys.stdout.isatty():
        return text
    return f"\x1b[{COLOURS[status]}m{text}\x1b[0m"


def _shown(text: str) -> str:
    """As the terminal can show it."""
    text = text.replace("…", "...")
    return text.encode("ascii", "replace").decode() if is_ascii(sys.stdout) else text
