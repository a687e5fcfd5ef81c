"""Host memory: how much there is, and how much of it may be locked and shared."""

from collections.abc import Iterator

from launcher.doctor.diagnosis import Diagnosis, Group, Status
from launcher.doctor.facts import Facts
from launcher.preflight.finding import size

NCCL_MIB = 1024
"""What NVIDIA's NCCL asks for in containers (``--shm-size=1g``), where several GPUs exchange gradients."""
UNLOCK = ("ulimit -l unlimited", "docker run --ulimit memlock=-1 ...")


def host(facts: Facts) -> Iterator[Diagnosis]:
    """All that is about host memory."""
    there = facts.host
    cores = f"{there.cores} core{'s' if there.cores > 1 else ''}"
    told = f"{size(there.total_mib)}, {size(there.available_mib)} available, {cores}"
    yield Diagnosis("ram", Group.HOST, "RAM", Status.OK, told)
    yield _cgroup(facts)
    yield _memlock(facts)
    yield _shared(facts)


def _cgroup(facts: Facts) -> Diagnosis:
    if facts.host.total_mib >= facts.machine_mib:
        return Diagnosis("cgroup", Group.HOST, "cgroup limit", Status.OK, "none below the machine's memory")
    told = f"{size(facts.host.total_mib)} of the machine's {size(facts.machine_mib)}"
    why = "beyond it the kernel kills a process of the training, which ends with -9 and no word"
    mend = ("docker run --memory=SIZE ...", "srun --mem=SIZE ...")
    return Diagnosis("cgroup", Group.HOST, "cgroup limit", Status.NOTE, told, why, mend)


def _memlock(facts: Facts) -> Diagnosis:
    if facts.lockable_mib is None:
        return Diagnosis("memlock", Group.HOST, "memlock limit", Status.OK, "none")
    told = f"a process may lock {size(facts.lockable_mib)}"
    why = "NVMe offload locks its buffers, 1.6 GiB and more, and DeepSpeed ends the process without a word beyond it"
    return Diagnosis("memlock", Group.HOST, "memlock limit", Status.NOTE, told, why, UNLOCK)


def _shared(facts: Facts) -> Diagnosis:
    title, several = "/dev/shm", len(facts.gpus.gpus) > 1
    if facts.shared_mib is not None and (facts.shared_mib >= NCCL_MIB or not several):
        return Diagnosis("shm", Group.HOST, title, Status.OK, size(facts.shared_mib))
    told = "there is none" if facts.shared_mib is None else f"{size(facts.shared_mib)} for {len(facts.gpus.gpus)} GPUs"
    why = "NCCL passes gradients from GPU to GPU through it and fails with a bus error, or hangs, where it is full"
    status = Status.WARNING if several else Status.NOTE
    return Diagnosis("shm", Group.HOST, title, status, told, why, ("docker run --shm-size=1g ...",))
