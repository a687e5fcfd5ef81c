"""What a rehearsal measured, beside what was predicted, and how long the whole run takes by it. Torch-free."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from launcher.runs.directory import RunDirectory
from launcher.runs.events import read_events
from launcher.runs.rehearsal import MIB, Rehearsal, rehearsal_of
from launcher.runs.state import Status, status


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run takes, measured or predicted; None where it is not known."""

    gpu_reserved_mib: int | None
    """The most that torch holds of a GPU, of the rank that holds most."""
    gpu_process_mib: int | None
    """The same by the driver: what nvidia-smi shows for the process."""
    host_mib: int | None
    """Of all ranks together."""
    step_seconds: float | None
    """Of the last step."""


@dataclass(frozen=True, slots=True)
class WholeRun:
    """The run that was rehearsed, from its first step to its last checkpoint."""

    steps: int
    saves: int
    step_seconds: float
    """Of all steps."""
    save_seconds: float | None
    """Of all checkpoints, at the speed of a sample; None where it was not measured."""

    @property
    def seconds(self) -> float:
        """As far as it is known."""
        return self.step_seconds + (self.save_seconds or 0)


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What a rehearsal measured until now."""

    status: Status
    message: str
    measured: Figures
    predicted: Figures
    losses: tuple[float, ...]
    """Of each step that was taken."""
    seconds: Mapping[str, float]
    """Of the last step, by phase."""
    skipped: int
    """Steps without an update, as gradients overflowed in fp16."""
    whole_run: WholeRun | None
    """None before the first step."""

    @property
    def finite(self) -> bool | None:
        """Whether every loss is; None before the first step. One that is not ends a run, whose message then says so."""
        return all(map(math.isfinite, self.losses)) if self.losses else None

    def to_json(self) -> dict[str, Any]:
        """For ``rehearse --json``."""
        whole_run = asdict(self.whole_run) | {"seconds": self.whole_run.seconds} if self.whole_run else None
        return {
            "status": self.status,
            "message": self.message,
            "steps": len(self.losses),
            "measured": asdict(self.measured),
            "predicted": asdict(self.predicted),
            "losses": self.losses,
            "finite": self.finite,
            "seconds": self.seconds,
            "skipped": self.skipped,
            "whole_run": whole_run,
        }


def read_rehearsed(run: RunDirectory) -> Rehearsed:
    """What a rehearsal has measured so far.

    Args:
        run: a rehearsal that was started.
    """
    rehearsal, current = rehearsal_of(run), status(run)
    assert rehearsal is not None
    events, _ = read_events(run.events_jsonl)
    steps = [event for event in events if event["event"] == "step"]
    seconds: dict[str, float] = dict(steps[-1]["seconds"]) if steps else {}
    measured = _measured(events, steps, seconds.get("total"))
    return Rehearsed(
        status=current.status,
        message=str(current.state.get("message", "")),
        measured=measured,
        predicted=_predicted(run.plan()["estimate"], events),
        losses=tuple(float(step["loss"]) for step in steps),
        seconds={name: each for name, each in seconds.items() if name != "total"},
        skipped=sum(bool(step["skipped"]) for step in steps),
        whole_run=_whole_run(run, rehearsal, seconds["total"], events) if steps else None,
    )


def _measured(
    events: Sequence[Mapping[str, Any]], steps: Sequence[Mapping[str, Any]], seconds: float | None
) -> Figures:
    """The peaks of all phases once it has ended, until then those of its steps."""
    ranks = [rank for step in steps for rank in step.get("vram_mib") or ()]
    reserved = [int(rank["peak"]) for rank in ranks]
    process = [int(rank["process"]) for rank in ranks if rank.get("process")]
    host = [float(step["rss_mib"]) for step in steps]
    for cost in (event for event in events if event["event"] == "cost"):
        reserved += [held["reserved"] for held in cost["phases"].values()]
        process += [held["process"] for held in cost["phases"].values() if held["process"]]
        host += [each["measured"] for each in cost["compared"] if each["what"] == "host"]
    return Figures(
        gpu_reserved_mib=max(reserved, default=None),
        gpu_process_mib=max(process, default=None),
        host_mib=round(max(host)) if host else None,
        step_seconds=seconds,
    )


def _predicted(estimate: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> Figures:
    """Of the phases that it went through: it draws no pictures and saves nothing."""
    phases = {"load", "init", "step"}
    if any(data["latents_computed"] or data["prompts_computed"] for data in events if data["event"] == "data"):
        phases.add("caching")
    gpu = [phase for phase in estimate["gpu"] if phase["name"] in phases]
    return Figures(
        gpu_reserved_mib=max(phase["reserved_mib"] for phase in gpu),
        gpu_process_mib=max(phase["process_mib"] for phase in gpu),
        host_mib=estimate["host_mib"],
        step_seconds=estimate["step_seconds"],
    )


def _whole_run(
    run: RunDirectory, rehearsal: Rehearsal, seconds: float, events: Sequence[Mapping[str, Any]]
) -> WholeRun:
    training = run.training()
    steps = training.optimization.max_train_steps
    saves = math.ceil(steps / training.checkpoints.checkpointing_steps)
    speeds = [event["bytes"] / event["seconds"] for event in events if event["event"] == "write_speed"]
    save_seconds = saves * rehearsal.checkpoint_mib * MIB / speeds[-1] if speeds else None
    return WholeRun(steps=steps, saves=saves, step_seconds=steps * seconds, save_seconds=save_seconds)
