"""TensorBoard and Weights & Biases, through accelerate's own trackers; rank 0 alone has any.

What a tracker does must not decide whether a run lives: one that fails is said once and dropped.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from accelerate.state import PartialState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, filter_trackers

from launcher.config.training import TrackingSettings
from launcher.runs.directory import RunDirectory
from launcher.train.platform import found_here
from launcher.train.report import LOGGER, Report


@contextmanager
def tracking(run: RunDirectory, report: Report) -> Iterator[None]:
    """Tells what the run is, and passes its steps on to the trackers that are wanted until it ends.

    Args:
        run: its settings say which; TensorBoard's files go below it.
        report: of rank 0.
    """
    about = {"plan": run.plan(), "platform": found_here(), "deepspeed": run.deepspeed()}
    LOGGER.info("on this platform: %s", json.dumps(about["platform"]))
    report.event("configuration", **about)
    about["training"] = run.training().to_json()
    settings = run.training().tracking
    trackers = [_Guarded(name, report) for name in settings.trackers]
    for tracker in trackers:
        tracker.start(run, settings, about)
        report.add_follower(tracker.follow)
    try:
        yield
    finally:
        for tracker in trackers:
            tracker.finish()


class _Guarded:
    """One tracker of accelerate's that may fail."""

    def __init__(self, name: str, report: Report) -> None:
        self._name, self._report = name, report
        self._tracker: Any = None

    def start(self, run: RunDirectory, settings: TrackingSettings, about: Mapping[str, Any]) -> None:
        """Opens it, and stores what the run is."""
        self._try(lambda: self._start(run, settings, about))

    def follow(self, event: str, fields: Mapping[str, Any]) -> None:
        """Logs a step or an evaluation; passes over other events."""
        values = _VALUES[event](fields) if event in _VALUES else {}
        if self._tracker is not None and values:
            self._try(lambda: self._tracker.log(values, step=fields["step"]))

    def finish(self) -> None:
        """Closes it."""
        if self._tracker is not None:
            self._try(self._tracker.finish)

    def _start(self, run: RunDirectory, settings: TrackingSettings, about: Mapping[str, Any]) -> None:
        PartialState()  # accelerate's trackers ask it whether this is the main process; the group is there already
        folder = run.path / "tensorboard"
        if not filter_trackers([self._name], folder):
            raise ModuleNotFoundError(f"{self._name} is not installed")
        name = settings.tracker_run_name or run.name
        kind = LOGGER_TYPE_TO_CLASS[self._name]
        if kind.requires_logging_directory:
            tracker = kind(re.sub(r"[^\w.-]+", "-", name).strip(".") or "run", folder)
        else:
            # A launch that continues a run continues it there too.
            identity = hashlib.sha256(str(run.path).encode()).hexdigest()[:16]
            names = {"name": name, "id": identity, "resume": "allow", "dir": str(run.path)}
            tracker = kind(settings.tracker_project_name, **names)
        tracker.start()
        tracker.store_init_configuration({key: value for part in about.items() for key, value in _flat(*part)})
        if kind.requires_logging_directory:  # its table of values is hard to read as a whole
            tracker.log({key: f"```\n{json.dumps(value, indent=2)}\n```" for key, value in about.items()}, step=0)
        self._tracker = tracker

    def _try(self, do: Callable[[], object]) -> None:
        try:
            do()
        except Exception as error:
            self._tracker = None
            LOGGER.exception("%s fails", self._name)
            self._report.warning(
                f"{self._name} fails and is not followed any more; the run goes on ({type(error).__name__}: {error})"
            )


def _step(fields: Mapping[str, Any]) -> dict[str, float]:
    values = {key: fields[key] for key in ("loss", "lr", "grad_norm", "samples_per_second")}
    values |= {f"vram_mib/rank_{rank}": memory["peak"] for rank, memory in enumerate(fields["vram_mib"])}
    values |= {f"seconds/{part}": seconds for part, seconds in fields["seconds"].items()}
    return {key: value for key, value in values.items() if value is not None}


def _evaluation(fields: Mapping[str, Any]) -> dict[str, float]:
    return {f"evaluation_loss/{fields['when']}": fields["loss"]}


_VALUES: Mapping[str, Callable[[Mapping[str, Any]], dict[str, float]]] = {"step": _step, "evaluation": _evaluation}
"""What is logged, by event."""


def _flat(name: str, value: Any) -> Iterator[tuple[str, str | int | float | bool]]:
    """Values by path, each of a kind that trackers take."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flat(f"{name}.{key}", part)
    else:
        yield name, value if isinstance(value, str | int | float | bool) else json.dumps(value)
