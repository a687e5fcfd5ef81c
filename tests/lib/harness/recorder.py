"""A report that keeps what it is told."""

from typing import Any

from launcher.train.report import Report


class Recorder(Report):
    """Events in order, each with its name under ``event``."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []

    def event(self, name: str, **fields: Any) -> None:
        self.events.append({"event": name, **fields})

    def named(self, name: str) -> list[dict[str, Any]]:
        """The events of one name."""
        return [event for event in self.events if event["event"] == name]

    @property
    def phases(self) -> list[str]:
        """Phases in the order in which they began."""
        return [event["phase"] for event in self.named("phase") if event["state"] == "start"]

    @property
    def warnings(self) -> list[str]:
        return [event["message"] for event in self.named("warning")]
