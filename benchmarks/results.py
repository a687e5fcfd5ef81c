"""The JSON: written after every measurement, so that a command that is killed loses none."""

import json
from pathlib import Path
from typing import Any

from launcher.runs.directory import write_atomic

Asked = dict[str, Any]


class Results:
    """``machines`` by id, and by kind and name what was measured: ``ours`` and others; whether it is of a ``tiny`` model."""

    def __init__(self, file: Path, machine: str, *, tiny: bool) -> None:
        """Goes on with a file that is there.

        Args:
            file: the JSON.
            machine: id of the one that measures now.
            tiny: whether rows are measured in their tiny form.
        """
        self._file, self._machine = file, machine
        self.content: dict[str, Any] = json.loads(file.read_bytes()) if file.exists() else {"tiny": tiny}

    def has_machine(self) -> bool:
        """Whether this machine is described."""
        return self._machine in self.content.get("machines", {})

    def put_machine(self, described: dict[str, Any]) -> None:
        """Describes it."""
        self._put("machines", self._machine, described)

    def has(self, kind: str, name: str, asked: Asked, *, here: bool = False) -> bool:
        """Whether it was measured to its end with the same settings.

        Args:
            kind: ``ours``, or one of others.
            name: of the setting, row or peer.
            asked: its settings.
            here: on this machine.
        """
        found = self.content.get(kind, {}).get(name)
        if found is None or found.get("code") or found["asked"] != json.loads(json.dumps(asked)):
            return False
        return not here or found["machine"] == self._machine

    def put(self, kind: str, name: str, asked: Asked, measured: dict[str, Any]) -> None:
        """Keeps a measurement."""
        self._put(kind, name, {"asked": asked, "machine": self._machine, **measured})

    def _put(self, kind: str, name: str, content: dict[str, Any]) -> None:
        self.content.setdefault(kind, {})[name] = content
        self._file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self._file, (json.dumps(self.content, indent=1) + "\n").encode())
