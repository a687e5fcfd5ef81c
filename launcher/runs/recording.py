"""What a run's machine shows while it runs, recorded beside its events. Nothing of it may hold a run up, or end it."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from launcher.config.accelerate import LaunchSettings, read_accelerate
from launcher.errors import LauncherError
from launcher.machine.disk_sample import DiskReader
from launcher.machine.nvml_sample import NvmlReader
from launcher.machine.process_tree import ProcessTree
from launcher.machine.reader import MachineReader
from launcher.machine.sample import Sample
from launcher.machine.sampler import Sampler
from launcher.runs.directory import RunDirectory
from launcher.runs.processes import RUN_VARIABLE
from launcher.runs.readings import ReadingsFile
from launcher.runs.swap import swap_folders


def recording(run: RunDirectory) -> Sampler:
    """A thread that looks at what a run uses of this machine, once a second, and keeps it in ``readings.bin``.

    Args:
        run: this machine's run directory.
    """
    return Sampler(RunReader(run), then=ReadingsFile(run.readings).append)


class RunReader:
    """Looks at what a run uses: its GPUs, its processes, the host, the disks that it writes to.

    Its files are read at the first look, in whichever thread that is.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._read: MachineReader | None = None

    def __call__(self) -> Sample:
        """What they are now."""
        if self._read is None:
            run = self._run
            self._read = MachineReader(
                _gpus(run), DiskReader(folders_of(run)), ProcessTree(RUN_VARIABLE, str(run.path))
            )
        return self._read()


def _gpus(run: RunDirectory) -> NvmlReader:
    """Reads the GPUs that CUDA shows the run's processes, as many as there are processes."""
    environment: Mapping[str, str] = {**os.environ, **run.plan()["environment"]}
    names = environment.get("CUDA_VISIBLE_DEVICES")
    launch = _launch(run)
    if launch is None:
        return NvmlReader(names)
    return NvmlReader(names if launch.gpu_ids == "all" else launch.gpu_ids, launch.processes_here)


def _launch(run: RunDirectory) -> LaunchSettings | None:
    import yaml  # noqa: PLC0415 - the supervisor starts without it

    try:
        content: dict[str, Any] = yaml.safe_load(run.accelerate_yaml.read_bytes())
    except OSError:
        return None
    return read_accelerate(content)[0]


def folders_of(run: RunDirectory) -> list[Path]:
    """Where a run writes: its directory, where checkpoints and exports go, and where it swaps to."""
    trained = run.trains()
    folders = [trained.path]
    with suppress(LauncherError):
        folders.append(trained.path / trained.output_dir())
    with suppress(LauncherError, KeyError):
        folders += [folder.parent for folder in swap_folders(trained.deepspeed(), trained.path).values()]
    return list(dict.fromkeys(folders))
