"""This machine, looked at from when somebody wants to see it; and what a plan or a run is expected to take of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.machine.disk_sample import DiskReader
from launcher.machine.gpus import Gpus, visible_to
from launcher.machine.reader import MachineReader
from launcher.machine.sample import DiskSample, Sample
from launcher.machine.sampler import Sampler

if TYPE_CHECKING:
    from launcher.config.settings import Settings
    from simpletuner_tui.history import History


@dataclass(frozen=True, slots=True)
class Expected:
    """What something takes of this machine; MiB, 0 where it is not known."""

    gpu_mib: int = 0
    """Of each of its GPUs, at the peak."""
    uuids: frozenset[str] = frozenset()
    """Its GPUs."""
    host_mib: int = 0
    disks: Mapping[Path, int] = field(default_factory=dict)
    """By folder: where it writes, and where it swaps to."""
    comes_on_top: bool = True
    """Whether it is not among what is used now, as a plan is not."""

    def reaches(self, used: float, mib: float) -> float:
        """How much will be used at the peak.

        Args:
            used: now.
            mib: what is expected of it.
        """
        return used + mib if self.comes_on_top else mib


@dataclass(frozen=True, slots=True)
class Subject:
    """What the machine is looked at for."""

    name: str = ""
    """As it stands before what is expected: ``the plan``, or a run's name."""
    expected: "Callable[[], Expected | None]" = lambda: None
    """May take its time."""
    history: "History | None" = None
    """Of the run, with what its machine showed since it began."""


def expected_of(settings: "Settings", run_dir: Path, gpus: Gpus) -> Expected:
    """What a run would take.

    Args:
        settings: of it.
        run_dir: where it would lie.
        gpus: those of this machine.
    """
    from launcher.estimate.total import ON_NVME  # noqa: PLC0415 - a run's dashboard does without
    from launcher.runs.swap import swap_folders  # noqa: PLC0415
    from simpletuner_tui.preview import cost  # noqa: PLC0415

    estimate, launch = cost(settings), settings.launch
    used = () if launch.use_cpu else visible_to(gpus, launch.gpu_ids).gpus[: launch.processes_here]
    parts = {part.name: part.mib for part in estimate.disk}
    disks: dict[Path, int] = {}
    folders = swap_folders(settings.deepspeed_json(), run_dir)
    for part, folder in zip(settings.deepspeed.nvme_parts, folders.values(), strict=True):
        disks[folder.parent] = disks.get(folder.parent, 0) + parts.pop(ON_NVME[part], 0)
    output = Path(settings.training.checkpoints.output_dir or run_dir).absolute()
    disks[output] = disks.get(output, 0) + sum(parts.values())
    return Expected(estimate.gpu_mib, frozenset(gpu.uuid for gpu in used), estimate.host_mib, disks)


class MachineLooks:
    """One look a second, in a thread; of disks, those below the folders that are wanted."""

    def __init__(self) -> None:
        """Nothing is looked at before ``sampler`` is started."""
        self._machine: MachineReader | None = None
        self._folders: tuple[Path, ...] = ()
        self._disks = DiskReader(())
        self.sampler = Sampler(self._read)

    def want(self, folders: Sequence[Path]) -> None:
        """Looks at the disks below these from the next time on."""
        if tuple(folders) != self._folders:
            self._folders, self._disks = tuple(folders), DiskReader(folders)

    def _read(self) -> Sample:
        if self._machine is None:  # in the thread: counting cores is dear where there are many
            self._machine = MachineReader(disks=self._read_disks)
        return self._machine()

    def _read_disks(self) -> Sequence[DiskSample]:
        return self._disks()
