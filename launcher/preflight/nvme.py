"""NVMe offload: drives that corrupt it, and what its extension and its buffers need."""

import os
from collections.abc import Iterator

from launcher.config.setting import Level
from launcher.errors import ExitCode
from launcher.estimate.host import LOCKED
from launcher.machine.nvme_drive import UNSAFE
from launcher.plan import Plan
from launcher.preflight.finding import About, Finding, size
from launcher.preflight.machine import Machine
from launcher.runs.swap import swap_folders


def nvme(plan: Plan, machine: Machine, *, on_gpu: bool) -> Iterator[Finding]:
    """Why what is offloaded to NVMe cannot be; nothing below stage 3, where DeepSpeed takes it for cpu.

    Args:
        plan: of the run.
        machine: that it runs on.
        on_gpu: whether it trains on GPUs: DeepSpeed compiles async_io with CUDA then.
    """
    parts = plan.settings.deepspeed.nvme_parts
    if not parts or not plan.settings.launch.deepspeed:
        return
    yield from _drives(plan, machine)
    device = f"deepspeed.zero_optimization.{parts[0]}.device"
    if packages := machine.missing_for_nvme(machine.toolchain()):
        yield Finding(
            device,
            "NVMe offload needs DeepSpeed's async_io extension, which cannot be compiled here; install "
            f"{' '.join(packages)} (apt install …), or choose cpu",
            exit_code=ExitCode.CANNOT_RUN_HERE,
            about=About.ASYNC_IO,
        )
    if on_gpu and (reason := machine.why_not_compiled_for_gpus()):
        yield Finding(
            device,
            f"NVMe offload needs DeepSpeed's async_io extension, which cannot be compiled for GPUs here: {reason}; "
            "mend that, or choose cpu",
            exit_code=ExitCode.CANNOT_RUN_HERE,
            about=About.ASYNC_IO,
        )
    needed, lockable = locked_mib(plan), machine.lockable_mib()
    if lockable is not None and needed > lockable:
        yield Finding(
            device,
            f"each process locks {size(needed)} of host RAM for NVMe offload, where this user may lock "
            f"{size(lockable)}: DeepSpeed would end it without a word. Raise the limit (`ulimit -l unlimited`, memlock "
            "in /etc/security/limits.conf, docker run --ulimit memlock=-1), lower "
            "deepspeed.zero_optimization.sub_group_size, or choose cpu",
            exit_code=ExitCode.CANNOT_RUN_HERE,
            about=About.MEMLOCK,
        )


def locked_mib(plan: Plan) -> int:
    """What each process locks of host memory for NVMe offload."""
    return sum(part.mib for part in plan.estimate.host if part.name == LOCKED) // plan.settings.launch.processes_here


def _drives(plan: Plan, machine: Machine) -> Iterator[Finding]:
    told = set()
    for path, folder in swap_folders(plan.settings.deepspeed_json(), plan.run_dir).items():
        chosen = folder.parent
        if chosen in told or (reason := machine.why_no_nvme_offload(chosen)) is None:
            continue
        told.add(chosen)
        message = f"NVMe offload cannot go to {chosen}: {reason}; choose cpu, or a folder on a local NVMe drive"
        if os.environ.get(UNSAFE):
            yield Finding(f"deepspeed.{path}", f"{message}. {UNSAFE} lets it", Level.WARNING, about=About.NVME_DRIVE)
        else:
            yield Finding(f"deepspeed.{path}", message, exit_code=ExitCode.CANNOT_RUN_HERE, about=About.NVME_DRIVE)
