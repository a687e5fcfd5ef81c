"""A plan against this machine. What speaks against it is what ``preflight`` finds, in ``check`` and at a launch too."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher.config.setting import Level
from launcher.doctor.diagnosis import Diagnosis, Group, Status
from launcher.doctor.facts import Facts
from launcher.doctor.host import UNLOCK
from launcher.estimate.total import ON_NVME
from launcher.machine.disk import free_bytes
from launcher.machine.filesystems import filesystem
from launcher.machine.gpus import visible_to
from launcher.machine.installing import install_command
from launcher.machine.measuring import ToMeasure
from launcher.plan import Plan, speed_here, to_measure
from launcher.preflight import About, Finding
from launcher.preflight.checks import PACKAGES_OF
from launcher.preflight.disks import places
from launcher.preflight.finding import MIB, size
from launcher.preflight.nvme import locked_mib

TITLES: Mapping[About, str] = {
    About.GPU: "GPUs",
    About.GPU_MEMORY: "GPU memory",
    About.HOST_MEMORY: "host RAM",
    About.DISK: "disk",
    About.EXTENSION: "optimizer",
    About.NVME_DRIVE: "offload path",
    About.ASYNC_IO: "async_io",
    About.MEMLOCK: "memlock",
    About.TRACKER: "trackers",
    About.PORT: "port",
    About.PDSH: "pdsh",
}

WHY: Mapping[About, str] = {
    About.GPU: "each process trains on an NVIDIA GPU of its own, or all of them on the CPU",
    About.GPU_MEMORY: "torch runs out of memory in the phase that takes most, perhaps hours after the start",
    About.HOST_MEMORY: "the kernel kills the training (exit -9), often at the start or while a checkpoint is loaded",
    About.DISK: "a checkpoint that cannot be written ends the run; NVMe offload goes on with what was not written",
    About.EXTENSION: "this optimizer exists as an extension alone",
    About.NVME_DRIVE: "DeepSpeed does not look at what became of a read: gradients go wrong, and no message tells",
    About.ASYNC_IO: "NVMe offload reads and writes through it",
    About.MEMLOCK: "DeepSpeed ends the process without a word where it cannot lock its buffers",
    About.TRACKER: "the run would stop where its tracker is to begin",
    About.PORT: "the processes of all machines meet there",
    About.PDSH: "it starts the run on the other machines",
}

OF_ANSWERS = "plan-answers"
"""A warning where a launch is refused for them, on whichever machine."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan to be judged."""

    plan: Plan
    findings: tuple[Finding, ...]
    """Of ``preflight`` on this machine."""
    typed: str
    """The file of answers and what was typed beside it, as a shell takes them again."""


def planned(given: Planned, facts: Facts) -> Iterator[Diagnosis]:
    """What the plan needs beside what there is, and what speaks against it."""
    satisfied = dict(_satisfied(given.plan, facts))
    for about in About:
        against = [finding for finding in given.findings if finding.about is about]
        for number, finding in enumerate(against, 1):
            yield _against(finding, about, number, given, facts)
        if not against and about in satisfied:
            yield Diagnosis(f"plan-{about}", Group.PLAN, TITLES[about], Status.OK, satisfied[about])
    yield from _offload_paths(given.plan, facts)
    yield from _step(given.plan, facts)
    yield from _of_answers(given)


def _against(finding: Finding, about: About, number: int, given: Planned, facts: Facts) -> Diagnosis:
    name = f"plan-{about}" if number == 1 else f"plan-{about}-{number}"
    what = f"{finding.field}: {finding.message}"
    mend = tuple(_mends(finding, about, given, facts))
    return Diagnosis(name, Group.PLAN, TITLES[about], Status(finding.level), what, WHY[about], mend)


def _mends(finding: Finding, about: About, given: Planned, facts: Facts) -> Iterator[str]:
    """Commands, the likeliest first."""
    plan = given.plan
    again = f"simpletuner-tui --replay {given.typed} --set"
    in_memory = " ".join(f"--set accelerate.{part}=cpu" for part in plan.settings.deepspeed.nvme_parts)
    if about is About.GPU and finding.level is Level.ERROR:
        here = len(visible_to(facts.gpus, plan.settings.launch.gpu_ids).gpus)
        yield f"{again} accelerate.num_processes={here}" if here else f"{again} accelerate.use_cpu=yes"
    elif about in (About.GPU_MEMORY, About.HOST_MEMORY):
        yield f"simpletuner-tui plan --resolution {plan.settings.training.data.resolution}"
        if about is About.HOST_MEMORY and facts.host.total_mib < facts.machine_mib:
            yield f"docker run --memory={plan.estimate.host_mib}m ..."
    elif about is About.DISK:
        yield from _elsewhere(finding, given.typed)
    elif about is About.EXTENSION:
        yield install_command(facts.toolchain.missing_packages, facts.which)
        yield f"{again} deepspeed.optimizer.type=AdamW"
    elif about is About.ASYNC_IO:
        if facts.missing_for_nvme:
            yield install_command(facts.missing_for_nvme, facts.which)
        yield f"simpletuner-tui --replay {given.typed} {in_memory}"
    elif about is About.NVME_DRIVE:
        yield from _elsewhere(finding, given.typed)
        yield f"simpletuner-tui --replay {given.typed} {in_memory}"
    elif about is About.MEMLOCK:
        yield from UNLOCK
    elif about is About.TRACKER:
        yield f"pip install {' '.join(PACKAGES_OF[name][0] for name in plan.settings.training.tracking.trackers)}"
    elif about is About.PORT:
        yield f"{again} accelerate.main_process_port=PORT"
    elif about is About.PDSH:
        yield install_command(["pdsh"], facts.which)


def _elsewhere(finding: Finding, typed: str) -> Iterator[str]:
    """Another folder than the finding's, or less in it; a folder that a DeepSpeed file names is changed there alone."""
    if finding.field == "--run-dir":
        yield f"simpletuner-tui --replay {typed} --run-dir DIR"
    elif finding.field != "accelerate.ds_json":
        yield f"simpletuner-tui --replay {typed} --set {finding.field}=DIR"
    if finding.field == "training.output_dir" and finding.forceable:  # it is short of room
        yield f"simpletuner-tui --replay {typed} --set training.checkpoints_total_limit=1"


def _satisfied(plan: Plan, facts: Facts) -> Iterator[tuple[About, str]]:
    """What the plan asks for and, unless ``preflight`` says otherwise, is there."""
    launch, cost, shown = plan.settings.launch, plan.estimate, visible_to(facts.gpus, plan.settings.launch.gpu_ids)
    if launch.use_cpu:
        yield About.GPU, "trains on the CPU, as chosen"
    elif shown.gpus:
        used = min(shown.gpus[: launch.processes_here], key=lambda gpu: gpu.free_mib)
        yield About.GPU_MEMORY, f"needs {size(cost.gpu_mib)} of {size(used.free_mib)} free on GPU {used.index}"
    else:
        yield About.GPU, "trains on the CPU, as there is no GPU"
    yield About.HOST_MEMORY, f"needs {size(cost.host_mib)} of {size(facts.host.available_mib)} available"
    free = free_bytes(places(plan)["training.output_dir"]) // MIB
    yield About.DISK, f"needs {size(cost.disk_mib)} of {size(free)} free where the run lies"
    if plan.settings.launch.deepspeed and plan.settings.deepspeed.nvme_parts:
        limit = "no limit" if facts.lockable_mib is None else size(facts.lockable_mib)
        yield About.MEMLOCK, f"each process locks {size(locked_mib(plan))}, allowed: {limit}"
    if launch.machines is not None and launch.machines.rank == 0:
        yield About.PORT, f"{launch.machines.main_process_port} is free"


def _offload_paths(plan: Plan, facts: Facts) -> Iterator[Diagnosis]:
    """Each folder for NVMe offload: its room, its filesystem and how fast it was measured."""
    ds = plan.settings.deepspeed
    if not plan.settings.launch.deepspeed:
        return
    chosen: dict[Path, int] = {}
    needed = {part.name: part.mib for part in plan.estimate.disk}
    for part in ds.nvme_parts:
        folder = Path(getattr(ds, f"{part}_nvme_path")).absolute()
        chosen[folder] = chosen.get(folder, 0) + needed.get(ON_NVME[part], 0)
    measured = speed_here(plan.settings)
    for number, (folder, mib) in enumerate(chosen.items(), 1):
        name = "plan-offload" if number == 1 else f"plan-offload-{number}"
        kind, source = filesystem(folder)
        free = free_bytes(folder) // MIB
        what = f"{folder}: {size(mib)} of {size(free)} free, {kind} on {source}"
        # Whether that stops the run is for the finding about the disk: an earlier one may have left some of it there.
        status = Status.OK if mib <= free else Status.NOTE
        yield Diagnosis(f"{name}-space", Group.PLAN, "offload space", status, what)
        drive = measured and measured.drive
        if drive and drive.path == str(folder):
            what = f"{drive.read_gb_s:.1f} GB/s read, {drive.write_gb_s:.1f} written"
            yield Diagnosis(f"{name}-speed", Group.PLAN, "offload speed", Status.OK, what)
        else:
            why = f"a step moves {plan.estimate.traffic.nvme_read / 1e9:,.0f} GB each way, and waits for it"
            mend = (ToMeasure(facts.to_measure.hardware, str(folder)).command,)
            what = f"{folder} is not measured"
            yield Diagnosis(f"{name}-speed", Group.PLAN, "offload speed", Status.NOTE, what, why, mend)


def _step(plan: Plan, facts: Facts) -> Iterator[Diagnosis]:
    """The seconds of a step, or how to learn them."""
    if plan.estimate.step_seconds is not None:
        moved = plan.estimate.traffic
        what = f"{plan.estimate.step_seconds:.1f} s, {(moved.up + moved.down) / 1e9:.1f} GB to the GPU and back"
        yield Diagnosis("plan-step", Group.PLAN, "a step", Status.OK, what)
        return
    if visible_to(facts.gpus, plan.settings.launch.gpu_ids).gpus and (wanted := to_measure(plan.settings, plan.model)):
        why = "the seconds of a step follow from the speed of this machine"
        what = "its seconds are not known: this machine is not measured"
        yield Diagnosis("plan-step", Group.PLAN, "a step", Status.NOTE, what, why, (wanted.command,))


def _of_answers(given: Planned) -> Iterator[Diagnosis]:
    """How much speaks against the answers, on whichever machine."""
    count = sum(each.about is None and each.level is not Level.NOTE for each in given.findings)
    wrong = any(each.about is None and each.level is Level.ERROR for each in given.findings)
    if count:
        what = f"{count} fault{'s' if count > 1 else ''} of the answers, their model, pictures or run directory"
        why = "a launch is refused for those too" if wrong else "a launch tells them, and goes on"
        mend = (f"simpletuner-tui check {given.typed}",)
        status = Status.WARNING if wrong else Status.NOTE
        yield Diagnosis(OF_ANSWERS, Group.PLAN, "answers", status, what, why, mend)
