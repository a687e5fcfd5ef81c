"""What a run has told and shown since it began, as far as a screen has room for it."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from launcher.runs.readings import Header
from simpletuner_tui.event_lines import line_of
from simpletuner_tui.progress import Progress
from simpletuner_tui.series import Series

KEPT = 400
"""Messages and pictures that are kept."""
PARTS = ("data", "forward", "backward", "optimizer", "ema")
"""Of a step, as its event names them; what is left of the whole is called other."""
SMOOTHING = 0.9
"""Weight of the steps before in figures that would flicker."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One that was drawn while it trained, or at the end."""

    step: int
    path: str
    thumbnail: str
    prompt: str
    seed: int


@dataclass(frozen=True, slots=True)
class Message:
    """A line about what happened."""

    time: float
    """Seconds since the epoch."""
    text: str
    warning: bool


@dataclass(slots=True)
class History:
    """The latest launch of a run, with what earlier ones trained."""

    progress: Progress = field(default_factory=Progress)
    loss: Series = field(default_factory=Series)
    learning_rate: Series = field(default_factory=Series)
    gradient_norm: Series = field(default_factory=Series)
    seconds: Series = field(default_factory=Series)
    """Of a step."""
    parts: dict[str, float] = field(default_factory=dict)
    """Seconds of a step by part, smoothed."""
    samples_per_second: float = 0.0
    skipped: int = 0
    """Steps whose gradients overflowed in fp16."""
    messages: deque[Message] = field(default_factory=lambda: deque(maxlen=KEPT))
    warnings: int = 0
    pictures: deque[Picture] = field(default_factory=lambda: deque(maxlen=KEPT))
    checkpoints: int = 0
    peak: dict[str, int] = field(default_factory=dict)
    """MiB of one GPU at the most: ``allocated``, ``reserved`` and ``process``, the largest of all ranks."""
    out_of_memory: dict[str, Any] = field(default_factory=dict)
    """The event, where it ran out of GPU memory."""
    header: Header | None = None
    """Of the readings."""
    readings: dict[str, Series] = field(default_factory=dict)
    """By column, over seconds since the readings began."""

    def take(self, event: dict[str, Any]) -> None:
        """Counts an event in."""
        self.progress.take(event)
        if text := line_of(event):
            warning = event["event"] == "warning"
            self.warnings += warning
            self.messages.append(Message(float(event.get("time", 0.0)), text.strip(), warning))
        handler = getattr(self, f"_on_{event['event']}", None)
        if handler is not None:
            handler(event)

    def take_row(self, header: Header, row: Sequence[float]) -> None:
        """Counts a row of readings in."""
        if header != self.header:
            self.header = header
            self.readings = {column: Series() for column in header.columns[1:]}
        for series, value in zip(self.readings.values(), row[1:], strict=True):
            series.add(row[0], value)

    def _on_start(self, _: dict[str, Any]) -> None:
        self.warnings, self.parts, self.samples_per_second = 0, {}, 0.0
        self.out_of_memory, self.peak = {}, {}

    def _on_step(self, event: dict[str, Any]) -> None:
        step, seconds = event["step"], event.get("seconds") or {}
        for series, name in (
            (self.loss, "loss"),
            (self.learning_rate, "lr"),
            (self.gradient_norm, "grad_norm"),
        ):
            series.add(step, _figure(event.get(name)))
        self.seconds.add(step, _figure(seconds.get("total")))
        for name in (*PARTS, "total"):
            self.parts[name] = _smoothed(self.parts.get(name), _figure(seconds.get(name, 0.0)))
        self.samples_per_second = _smoothed(self.samples_per_second or None, _figure(event.get("samples_per_second")))
        self.skipped += bool(event.get("skipped"))
        for rank in event.get("vram_mib") or ():
            # The event has torch's peak since the run began, and what the process holds beside it.
            beside = max(0, rank.get("process", 0) - rank["reserved"]) if rank.get("process") else 0
            self._peak(allocated=rank["allocated"], reserved=rank["peak"], process=rank["peak"] + beside)

    def _on_phase(self, event: dict[str, Any]) -> None:
        if held := event.get("vram_mib"):
            self._peak(**held)

    def _on_checkpoint(self, _: dict[str, Any]) -> None:
        self.checkpoints += 1

    def _on_pictures(self, event: dict[str, Any]) -> None:
        for each in event.get("pictures") or ():
            self.pictures.append(
                Picture(
                    int(event.get("step") or 0),
                    str(each["path"]),
                    str(each.get("thumbnail") or each["path"]),
                    str(each.get("prompt", "")),
                    int(each.get("seed") or 0),
                )
            )

    def _on_out_of_memory(self, event: dict[str, Any]) -> None:
        self.out_of_memory = event

    def _peak(self, **held: int) -> None:
        for name, mib in held.items():
            self.peak[name] = max(mib, self.peak.get(name, 0))


def _figure(value: object) -> float:
    """A figure of an event; NaN for what is none, as for a loss that is told as text since JSON has no NaN."""
    return float(value) if isinstance(value, int | float) else math.nan


def _smoothed(before: float | None, now: float) -> float:
    if math.isnan(now):
        return before or 0.0
    return now if before is None else SMOOTHING * before + (1 - SMOOTHING) * now
