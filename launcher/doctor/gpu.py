"""GPUs: whether there are any, whether driver and torch go together, and whether torch computes on them."""

from collections.abc import Iterator

from launcher.doctor.diagnosis import Diagnosis, Group, Status
from launcher.doctor.facts import Facts
from launcher.machine.gpus import NO_GPU
from launcher.machine.installing import install_command
from launcher.preflight.finding import size

WITHOUT = "training goes to the CPU, where the demo takes minutes and SDXL hours a step"
INDEX = "https://download.pytorch.org/whl/cu"
BUILDS = ("12.6", "12.8", "13.0")
"""CUDA versions that torch is offered for, oldest first."""
DRIVER = ("nvidia-driver",)


def gpu(facts: Facts) -> Iterator[Diagnosis]:
    """All that is about GPUs."""
    if not facts.gpus.gpus:
        yield _none(facts)
        return
    for each in facts.gpus.gpus:
        told = f"{each.name}, {size(each.total_mib)}, {size(each.free_mib)} free"
        yield Diagnosis(f"gpu-{each.index}", Group.GPU, f"GPU {each.index}", Status.OK, told)
    yield _driver(facts)
    if facts.torch_cuda and not facts.device.failure:
        yield from _computes(facts)


def _none(facts: Facts) -> Diagnosis:
    told, mend = f"none: {facts.gpus.reason}", tuple[str, ...]()
    if facts.why_not_cuda:
        told = f"none of NVIDIA's: {facts.why_not_cuda}"
    elif facts.amd_is_idle:
        told = f"none of NVIDIA's: the GPU of AMD's is not trained on ({facts.gpus.reason})"
    elif facts.gpus.driver and facts.gpus.reason != NO_GPU:  # it answers, and is told to show none
        mend = ("unset CUDA_VISIBLE_DEVICES",)
    elif facts.is_on_bus:
        told = f"an NVIDIA GPU is on the bus, and {facts.gpus.reason}"
        mend = ("docker run --gpus all ...", install_command(DRIVER, facts.which))
    return Diagnosis("gpu", Group.GPU, "GPU", Status.WARNING, told, WITHOUT, mend)


def _driver(facts: Facts) -> Diagnosis:
    """Whether the driver runs the CUDA that torch is built for."""
    driver = facts.gpus.driver
    if not facts.torch_cuda:
        return Diagnosis(
            "driver",
            Group.GPU,
            "driver",
            Status.ERROR,
            f"{driver} is there for an NVIDIA GPU, and torch is built without CUDA",
            f"{WITHOUT}, whatever an estimate says of the GPU",
            (_torch_for(facts),),
        )
    if not facts.driver_cuda:
        told = f"{driver} does not say which CUDA it runs; torch wants {facts.torch_cuda}"
        return Diagnosis("driver", Group.GPU, "driver", Status.NOTE, told)
    runs, wants = _numbers(facts.driver_cuda), _numbers(facts.torch_cuda)
    told = f"{driver} runs CUDA {facts.driver_cuda}, torch wants {facts.torch_cuda}"
    if runs >= wants:
        return Diagnosis("driver", Group.GPU, "driver", Status.OK, told)
    if runs[0] == wants[0]:
        why = "within one major version it works, but for kernels that the driver itself would have to compile"
        return Diagnosis("driver", Group.GPU, "driver", Status.NOTE, told, why, (_torch_for(facts),))
    if _failure(facts) is None:
        told += ", through CUDA's compatibility libraries"
        return Diagnosis("driver", Group.GPU, "driver", Status.OK, told)
    why = "torch finds the driver too old and uses no GPU; a newer driver, or an older torch, does"
    return Diagnosis("driver", Group.GPU, "driver", Status.ERROR, told, why, (_torch_for(facts),))


def _torch_for(facts: Facts) -> str:
    """Installs the newest torch that the driver runs, or a newer driver where it runs none of them."""
    if not facts.driver_cuda:
        return "pip install --force-reinstall torch"
    fits = [build for build in BUILDS if _numbers(build) <= _numbers(facts.driver_cuda)]
    if not fits:
        return install_command(DRIVER, facts.which)
    return f"pip install --force-reinstall torch --index-url {INDEX}{fits[-1].replace('.', '')}"


def _numbers(version: str) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    return int(major), int(minor.partition(".")[0] or 0)


def _failure(facts: Facts) -> str | None:
    """Why torch does not compute on every GPU; None where it does."""
    if facts.device.failure:
        return facts.device.failure
    told = facts.device.told
    broken = [f"GPU {index}: {each['failure']}" for index, each in enumerate(told["devices"]) if each["failure"]]
    return told["failure"] or "; ".join(broken) or (None if told["devices"] else "it sees no GPU")


def _computes(facts: Facts) -> Iterator[Diagnosis]:
    """What torch itself did on them, and with memory pinned for them."""
    told, failure = facts.device.told, _failure(facts)
    if failure is not None:
        yield Diagnosis(
            "computes",
            Group.GPU,
            "computing",
            Status.ERROR,
            f"torch does not compute on it: {failure}",
            f"a training would stop there; torch is built for {', '.join(told['architectures']) or 'no GPU of these'}",
            (_torch_for(facts), "nvidia-smi"),
        )
        return
    capabilities = ", ".join(dict.fromkeys(str(each["capability"]) for each in told["devices"]))
    done = f"bf16 on each, compute capability {capabilities}"
    yield Diagnosis("computes", Group.GPU, "computing", Status.OK, done)
    pinned = size(int(told["pinned_mib"]))
    if refused := told.get("pin_failure"):
        yield Diagnosis(
            "pinned",
            Group.GPU,
            "pinned memory",
            Status.WARNING,
            f"{pinned} of host memory cannot be pinned: {refused}",
            "offload pins masters and gradients by default, and would stop there; WSL allows half of the memory",
            ("simpletuner-tui --replay FILE --set deepspeed.zero_optimization.offload_optimizer.pin_memory=no",),
        )
    else:
        yield Diagnosis("pinned", Group.GPU, "pinned memory", Status.OK, f"{pinned} pinned at once")
