"""Why a run failed, in lines: what happened, what to do, what its log says last, and with which code it ended."""

from launcher.runs.diagnosis import Diagnosis, diagnose, last_lines
from launcher.runs.diagnosis.evidence import read_evidence
from launcher.runs.diagnosis.rules import AGAIN
from launcher.runs.directory import RunDirectory
from launcher.runs.outcome import read_outcome
from launcher.runs.rehearsal import rehearsal_of
from launcher.runs.state import RunStatus, Status

LOG_LINES = 8
"""Of the log's end, where nothing is known of the failure."""


def why_it_failed(run: RunDirectory, current: RunStatus) -> str:
    """The reason, what helps, and where its log is; empty for a run that did not fail."""
    if not current.failed:
        return ""
    known = diagnose(run, current)
    foreseen = (outcome := read_outcome(run.trains())) is not None and not outcome.unforeseen
    lines = [_reason(run, current, known)]
    if known:
        advice = advice_for(run, current, known)
        lines += [f"  do   {each}" if each == advice[0] else f"       or {each}" for each in advice]
    shown = known.lines if known else () if foreseen else last_lines(run, current.state, LOG_LINES)
    lines += [f"  | {line}" for line in shown]
    lines.append(f"  log  {run.log}")
    if (code := current.state.get("child_exit")) is not None:
        lines.append(f"  exit {code}")
    told = known is not None and AGAIN in known.advice
    if current.status is Status.LOST and not told and not rehearsal_of(run):
        lines.append("Start it again with the same --run-dir: it continues from its newest checkpoint.")
    return "\n".join(lines)


def advice_for(run: RunDirectory, current: RunStatus, known: Diagnosis) -> tuple[str, ...]:
    """What to do, with what only the interface knows: presets."""
    if known.name != "gpu-memory" or (event := read_evidence(run, current.state).out_of_memory) is None:
        return known.advice
    from simpletuner_tui.cheaper import cheaper  # noqa: PLC0415 - presets are loaded for it alone, and few runs need it

    return (*known.advice, *cheaper(run, event))


def _reason(run: RunDirectory, current: RunStatus, known: Diagnosis | None) -> str:
    message = known.happened if known else str(current.state.get("message") or "the run failed")
    if current.status is not Status.LOST:
        return message
    outcome = read_outcome(run)
    if known is None:
        message = "killed, or the machine went down"
    ended = f"; its training {outcome.message}" if outcome and known is None else ""
    return f"the supervisor of {run.name} died without a word ({message}){ended}"
