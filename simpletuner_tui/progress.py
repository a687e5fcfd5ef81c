"""What a run has told so far, gathered from its events."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Progress:
    """The latest launch of a run, event by event."""

    phase: str = ""
    done: float = 0
    total: float = 0
    seconds_left: float | None = None
    """Of the phase, at the speed so far."""
    step: dict[str, Any] = field(default_factory=dict)
    """The last step event."""
    evaluations: dict[str, float] = field(default_factory=dict)
    """Mean loss on held-out noise, ``before`` and ``after``."""
    checkpoint: str = ""
    pipeline: str = ""
    pictures: str = ""
    parameters: int = 0
    """Of the model; 0 until it is loaded."""
    steps_per_second: float = 0.0
    """Smoothed over about ten steps."""
    resumed_at: int = 0
    end: dict[str, Any] = field(default_factory=dict)
    """The end event."""
    started: float = 0.0
    latest: float = 0.0
    """When the last event happened, in seconds since the epoch."""

    def take(self, event: dict[str, Any]) -> None:
        """Counts an event in; unknown ones are left to those who know them."""
        if event["event"] == "start":
            self.__init__()  # type: ignore[misc]
            self.started = float(event.get("time", 0.0))
        self.latest = float(event.get("time", self.latest))
        handler = getattr(self, f"_on_{event['event']}", None)
        if handler is not None:
            handler(event)

    def _on_phase(self, event: dict[str, Any]) -> None:
        if event.get("state") == "start":
            self.phase, self.done, self.total, self.seconds_left = str(event.get("phase", "")), 0, 0, None
        elif event.get("state") == "progress":
            self.phase = str(event.get("phase", ""))
            self.done, self.total = float(event.get("done") or 0), float(event.get("total") or 0)
            left = event.get("seconds_left")
            self.seconds_left = None if left is None else float(left)
        else:
            self.phase = ""

    def _on_model(self, event: dict[str, Any]) -> None:
        self.parameters = int(event.get("parameters", 0))

    def _on_step(self, event: dict[str, Any]) -> None:
        self.step = event
        seconds = float((event.get("seconds") or {}).get("total") or 0)
        if seconds > 0:
            now = 1 / seconds
            self.steps_per_second = now if not self.steps_per_second else 0.9 * self.steps_per_second + 0.1 * now

    def _on_evaluation(self, event: dict[str, Any]) -> None:
        self.evaluations[str(event.get("when"))] = float(event["loss"])

    def _on_checkpoint(self, event: dict[str, Any]) -> None:
        self.checkpoint = str(event["path"])

    def _on_resumed(self, event: dict[str, Any]) -> None:
        self.resumed_at, self.checkpoint = int(event["step"]), str(event["path"])

    def _on_export(self, event: dict[str, Any]) -> None:
        self.pipeline = str(event["path"])

    def _on_pictures(self, event: dict[str, Any]) -> None:
        self.pictures = str(event["path"])

    def _on_end(self, event: dict[str, Any]) -> None:
        self.end, self.phase = event, ""
