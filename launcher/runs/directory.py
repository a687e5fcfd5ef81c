"""The run directory: all that the interface and the launcher share."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.config.accelerate import Dynamo
from launcher.config.training import TrainingSettings, read_training
from launcher.errors import CannotRunHereError, InvalidInputError

MACHINE = "machine-"
"""Folders in a run directory for what later machines' interface and supervisor write begin with it."""


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Where everything of a run lies. ``path`` is absolute."""

    path: Path

    @property
    def name(self) -> str:
        """What commands call the run."""
        name = self.path.name
        return f"{self.path.parent.name}/{name}" if name.startswith(MACHINE) else name

    @property
    def answers(self) -> Path:
        """The answers it was made from."""
        return self.path / "answers.json"

    @property
    def accelerate_yaml(self) -> Path:
        """What ``accelerate launch`` reads."""
        return self.path / "accelerate.yaml"

    @property
    def deepspeed_json(self) -> Path:
        """What ``deepspeed.initialize`` reads."""
        return self.path / "deepspeed.json"

    @property
    def training_json(self) -> Path:
        """The training settings."""
        return self.path / "training.json"

    @property
    def plan_json(self) -> Path:
        """Command line, environment, versions, estimate."""
        return self.path / "plan.json"

    @property
    def lock(self) -> Path:
        """Held by the supervisor for as long as it lives."""
        return self.path / "lock"

    @property
    def state_json(self) -> Path:
        """What the supervisor knows."""
        return self.path / "state.json"

    @property
    def log(self) -> Path:
        """Both streams of everything the supervisor starts."""
        return self.path / "train.log"

    @property
    def events_jsonl(self) -> Path:
        """What happened, one object a line."""
        return self.path / "events.jsonl"

    @property
    def readings(self) -> Path:
        """What the machine showed while it ran."""
        return self.path / "readings.bin"

    @property
    def stop_json(self) -> Path:
        """A stop request."""
        return self.path / "stop.json"

    @property
    def checkpoint_json(self) -> Path:
        """A request for a checkpoint."""
        return self.path / "checkpoint.json"

    @property
    def heartbeat_json(self) -> Path:
        """Rank 0's sign of life."""
        return self.path / "heartbeat.json"

    @property
    def outcome_json(self) -> Path:
        """How the training processes ended."""
        return self.path / "outcome.json"

    def training(self) -> TrainingSettings:
        """The training settings.

        Raises:
            InvalidInputError: training.json is missing, unreadable or faulty.
        """
        settings, problems = read_training(_read_object(self.training_json))
        if problems:
            faults = "; ".join(f"{problem.field} {problem.message}" for problem in problems)
            raise InvalidInputError(f"{self.training_json}: {faults}")
        return settings

    def plan(self) -> dict[str, Any]:
        """The plan, as plan.json holds it."""
        return _read_object(self.plan_json)

    def trains(self) -> "RunDirectory":
        """The run that the training reads and writes: this one, or the one whose second or later machine this is."""
        plan = read_json(self.plan_json) or {}
        return RunDirectory(Path(plan["trains"])) if "trains" in plan else self

    def deepspeed(self) -> dict[str, Any]:
        """DeepSpeed's configuration, as deepspeed.json holds it."""
        return _read_object(self.deepspeed_json)

    def uses_deepspeed(self) -> bool:
        """Whether DeepSpeed trains, as accelerate.yaml says; without it plain PyTorch does."""
        return bool(self._accelerate()["distributed_type"] == "DEEPSPEED")

    def dynamo(self) -> Dynamo | None:
        """How the U-Net is compiled, as accelerate.yaml says; None: it is not."""
        return Dynamo.read(self._accelerate())

    def _accelerate(self) -> dict[str, Any]:
        import yaml  # noqa: PLC0415 - the interface knows run directories from its start, and reads none then

        content: dict[str, Any] = yaml.safe_load(self.accelerate_yaml.read_bytes())
        return content

    def output_dir(self) -> Path:
        """Where checkpoints and exports go."""
        chosen = self.training().checkpoints.output_dir
        return Path(chosen) if chosen else self.path


def create(path: Path, files: Mapping[str, bytes]) -> RunDirectory:
    """Makes a run directory, or renews the plan of one, each file whole or not at all.

    Raises:
        CannotRunHereError: it cannot be written.
    """
    run = RunDirectory(path.resolve())
    is_new = not os.path.exists(run.path)  # noqa: PTH110 - Path's own raises where a name is too long
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_atomic(run.path / name, content)
    except OSError as error:
        if is_new:
            shutil.rmtree(run.path, ignore_errors=True)  # half a run would stand in the way of the next try
        raise CannotRunHereError(
            f"the run directory {run.path} cannot be written: {error.strerror}; choose another with --run-dir"
        ) from error
    return run


def write_atomic(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replaces a file so that a reader, or a power cut, meets the old content or the new, nothing between.

    Args:
        path: the file.
        data: its new content.
        durable: waits for the disk, as a power cut demands. Behind gigabytes that another writes that may take long.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a small file of a run directory; None while there is none."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _read_object(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if content is None:
        raise InvalidInputError(f"{path} is missing or is not a JSON object; make the run directory anew")
    return content
