"""Known failures: what a run died of, or hangs at, and what to do about it. Torch-free.

The supervisor says it in ``state.json``, interfaces show it; ``rules`` are the one place where a failure is explained.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from launcher.errors import LauncherError
from launcher.runs.diagnosis.build_lock import stale_locks
from launcher.runs.diagnosis.evidence import Evidence, last_lines, read_evidence
from launcher.runs.diagnosis.gpu_memory import changes, of_event
from launcher.runs.diagnosis.rules import AGAIN, RULES, Rule
from launcher.runs.directory import RunDirectory, read_json
from launcher.runs.outcome import Outcome
from launcher.runs.processes import booted, processes_of_run
from launcher.runs.state import RunStatus, Status, status
from launcher.runs.vitality import Vital, Vitality

__all__ = ["Diagnosis", "diagnose", "diagnose_hang", "explain", "explained", "last_lines"]

SHOWN = 6
"""Lines of the log that tell of a failure, at the most."""
LONGEST = 300
"""Characters of a line that are shown."""
BUILDS = ("compile_communication", "compile", "engine")
"""Phases in which extensions are built: a lock that lies there hangs no other."""
STANDS_FOR = 5.0
"""Seconds in one place before a compile is suspected to wait for nobody."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A known failure."""

    name: str
    """For programs: that of the rule."""
    what: str
    """In a few words."""
    happened: str
    """A sentence without its full stop."""
    advice: tuple[str, ...]
    """What to do: one of these, the likeliest first."""
    lines: tuple[str, ...] = ()
    """Of the log, that tell of it."""

    def __str__(self) -> str:
        return "; ".join(filter(None, (self.happened, ", or ".join(self.advice))))

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def diagnose(run: RunDirectory, current: RunStatus | None = None) -> Diagnosis | None:
    """What a run that failed or was lost died of; None where it did not, or of nothing that is known.

    Args:
        run: its directory.
        current: what it is, where that was asked already.
    """
    current = current or status(run)
    if not current.failed:
        return None
    if current.status is Status.LOST and current.state["heartbeat"] < booted():
        happened = "the machine was restarted, or lost its power, while it trained"
        return Diagnosis("restarted", "the machine was restarted", happened, (AGAIN,))
    return explain(read_evidence(run, current.state))


def explain(evidence: Evidence) -> Diagnosis | None:
    """The first rule that what is left of a run fits; None where none does."""
    if evidence.outcome is not None and evidence.outcome.result != "failed":
        return None  # what was lost is its supervisor
    return next((_told_by(rule, evidence) for rule in RULES if _fits(rule, evidence)), None)


def explained(outcome: Outcome, run: RunDirectory, state: Mapping[str, Any]) -> Outcome:
    """A failure that the training did not explain, in the words of what is known; every other outcome as it is.

    Args:
        outcome: how a run ended.
        run: its directory.
        state: as state.json holds it.
    """
    if outcome.result != "failed" or not outcome.unforeseen:
        return outcome
    known = explain(read_evidence(run, state))
    return replace(outcome, message=str(known), unforeseen=False) if known else outcome


def diagnose_hang(run: RunDirectory, vital: Vitality) -> Diagnosis | None:
    """What keeps a run from getting on that lives; None where nothing is known.

    Args:
        run: its directory.
        vital: how it is.
    """
    if vital.phase not in BUILDS or vital.vital not in (Vital.WELL, Vital.STANDS) or vital.seconds < STANDS_FOR:
        return None
    locks = stale_locks(processes_of_run(str(run.path)))
    if not locks:
        return None
    named = " ".join(map(str, locks))
    return Diagnosis(
        "stale-build-lock",
        "a compile waits for a build that was killed",
        f"{named} was left by a build that was killed, and whoever needs what it built waits for it without end",
        (f"remove it (`rm {named}`): the run goes on by itself",),
    )


def _fits(rule: Rule, evidence: Evidence) -> bool:
    by_signal = evidence.signal in rule.signals
    if rule.both and not by_signal:
        return False
    by_sign = any(map(rule.sign_in, evidence.said))
    return by_sign if rule.both else by_signal or by_sign


def _told_by(rule: Rule, evidence: Evidence) -> Diagnosis:
    run, outcome, event = evidence.run, evidence.outcome, evidence.out_of_memory
    shown = [line for line in evidence.log if rule.sign_in(line) or any(re.search(each, line) for each in rule.shown)]
    facts = {**_of_plan(run), **rule.unless}
    for name, pattern in rule.facts.items():
        found = (re.search(pattern, line) for line in (*evidence.said, *shown) if rule.sign_in(line))
        facts[name] = next((match[1] for match in found if match), facts[name])
    happened, advice = rule.happened.format(**facts), tuple(each.format(**facts) for each in rule.advice)
    if outcome is not None and not outcome.unforeseen:
        happened = outcome.message  # it names what it is about
    if rule.name == "gpu-memory":
        happened = of_event(event) if event else happened
        with suppress(LauncherError):  # its settings cannot be read
            advice = changes(event["phase"] if event else "step", run)
    return Diagnosis(rule.name, rule.what, happened, advice, tuple(line[:LONGEST] for line in shown[-SHOWN:]))


def _of_plan(run: RunDirectory) -> dict[str, str]:
    """Facts that its plan has: the interpreter that trains, and the folder that it compiles extensions to."""
    plan = read_json(run.plan_json) or {}
    extensions = plan.get("environment", {}).get("TORCH_EXTENSIONS_DIR", "$TORCH_EXTENSIONS_DIR")
    return {"python": (plan.get("argv") or ["python"])[0], "extensions": extensions}
