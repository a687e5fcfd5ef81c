"""What DeepSpeed compiles: what that takes, what is in its way, and whether CPU Adam works once compiled."""

import shlex
import time
from collections.abc import Iterator

from launcher.doctor.diagnosis import Diagnosis, Group, Status
from launcher.doctor.facts import Facts
from launcher.machine.arch_list import VARIABLE, not_parsed
from launcher.machine.build_locks import BuildLock
from launcher.machine.installing import install_command

STANDS_IN = "torch's fused AdamW does the same update instead, as fast; Lion and Adagrad are refused"
FOR_NVME = "NVMe offload needs DeepSpeed's async_io extension; nothing else does"


def extensions(facts: Facts) -> Iterator[Diagnosis]:
    """All that is about compiling."""
    yield from _toolchain(facts)
    if facts.torch_cuda and facts.gpus.gpus:
        yield _cuda_toolkit(facts)
    if facts.arch_list:
        yield _arch_list(facts)
    yield from _locks(facts)
    yield _cpu_adam(facts)
    yield _libaio(facts)


def _toolchain(facts: Facts) -> Iterator[Diagnosis]:
    found = facts.toolchain
    for name, title, there, package in (
        ("compiler", "C++ compiler", found.compiler, "g++"),
        ("ninja", "ninja", found.ninja, "ninja-build"),
        ("headers", "Python.h", found.headers and "there", "python3-dev"),
    ):
        if there:
            yield Diagnosis(name, Group.EXTENSIONS, title, Status.OK, str(there))
        else:
            mend = "pip install ninja" if name == "ninja" else install_command([package], facts.which)
            why = f"DeepSpeed's CPU Adam cannot be compiled: {STANDS_IN}"
            yield Diagnosis(name, Group.EXTENSIONS, title, Status.WARNING, "not found", why, (mend,))


def _cuda_toolkit(facts: Facts) -> Diagnosis:
    """nvcc: without one, or with one of another major version, only what is compiled for CPUs is compiled."""
    title, wanted, found = "CUDA toolkit", facts.torch_cuda, facts.toolkit
    why = "async_io for NVMe offload cannot be compiled, nor fused Adam without offload, for which torch's stands in"
    major, _, rest = wanted.partition(".")
    mend = (f"apt install cuda-toolkit-{major}-{rest.partition('.')[0]}", f"export CUDA_HOME=/usr/local/cuda-{wanted}")
    if found is None or not found.release:
        told = (
            f"{found.folder} has no nvcc that answers" if found else "no nvcc on PATH, in CUDA_HOME or /usr/local/cuda"
        )
        return Diagnosis("cuda-toolkit", Group.EXTENSIONS, title, Status.NOTE, told, why, mend)
    told = f"{found.release} in {found.folder}"
    if found.release.partition(".")[0] == major:
        return Diagnosis("cuda-toolkit", Group.EXTENSIONS, title, Status.OK, told)
    told = f"{told}, and torch is built for CUDA {wanted}"
    why = "what is compiled with another major version may not load; CPU Adam is compiled without it"
    return Diagnosis("cuda-toolkit", Group.EXTENSIONS, title, Status.WARNING, told, why, mend)


def _arch_list(facts: Facts) -> Diagnosis:
    entry = not_parsed(facts.arch_list)
    if entry is None:
        told = f"{VARIABLE}={facts.arch_list}"
        return Diagnosis("arch-list", Group.EXTENSIONS, "architectures", Status.OK, told)
    devices = facts.device.told.get("devices") or ()
    here = ";".join(sorted({str(each["capability"]) for each in devices}))
    return Diagnosis(
        "arch-list",
        Group.EXTENSIONS,
        "architectures",
        Status.WARNING,
        f"DeepSpeed cannot read {entry!r} in {VARIABLE}={facts.arch_list}",
        "torch takes names, `native` and letters; DeepSpeed only numbers such as 8.6;9.0+PTX, and ends with a "
        "ValueError when it compiles for a GPU: async_io for NVMe offload, fused Adam",
        (f"unset {VARIABLE}", *([f"export {VARIABLE}={shlex.quote(here)}"] if here else [])),
    )


def _locks(facts: Facts) -> Iterator[Diagnosis]:
    for lock in facts.locks:
        yield _held(lock) if lock.holder else _stale(lock)
    if not facts.locks:
        told = f"none in {facts.extensions}"
        yield Diagnosis("build-lock", Group.EXTENSIONS, "stale locks", Status.OK, told)


def _held(lock: BuildLock) -> Diagnosis:
    told = f"process {lock.holder} is building {lock.extension} now"
    why = "a launch that needs it waits for that"
    return Diagnosis(f"build-lock-{lock.extension}", Group.EXTENSIONS, "build lock", Status.NOTE, told, why)


def _stale(lock: BuildLock) -> Diagnosis:
    hours = max(0.0, time.time() - lock.since) / 3600
    age = f"{hours:.0f} h" if hours >= 1 else f"{hours * 60:.0f} min"
    return Diagnosis(
        f"build-lock-{lock.extension}",
        Group.EXTENSIONS,
        "stale lock",
        Status.WARNING,
        f"a build of {lock.extension} was killed {age} ago and left its lock",
        "whatever loads that extension waits for it without end and without a word; a launch from here takes it away",
        (f"rm -f {shlex.quote(str(lock.path))}",),
    )


def _cpu_adam(facts: Facts) -> Diagnosis:
    name, title, answer = "cpu-adam", "CPU Adam", facts.cpu_adam
    told, folder = answer.told, facts.extensions / "cpu_adam"
    rebuild = (f"rm -rf {shlex.quote(str(folder))}",)
    if answer.signal == "SIGILL":
        what = "what was compiled earlier is for another CPU: an illegal instruction ended it"
        why = "a training would end in the same way, at its first step"
        return Diagnosis(name, Group.EXTENSIONS, title, Status.ERROR, what, why, rebuild)
    if answer.failure:
        return Diagnosis(
            name,
            Group.EXTENSIONS,
            title,
            Status.WARNING,
            f"was not tried to its end: {answer.failure}",
            STANDS_IN,
            rebuild,
        )
    if untried := told.get("untried"):
        why = "whether it works is known once it was compiled and stepped"
        return Diagnosis(name, Group.EXTENSIONS, title, Status.NOTE, f"not tried: {untried}", why)
    if failure := told["failure"]:
        return Diagnosis(name, Group.EXTENSIONS, title, Status.WARNING, f"does not work: {failure}", STANDS_IN, rebuild)
    when = "before" if told.get("remembered") else f"in {told['seconds']:.0f} s"
    what = f"built and stepped {when}, as torch's within {told['difference']:.0e}"
    return Diagnosis(name, Group.EXTENSIONS, title, Status.OK, what)


def _libaio(facts: Facts) -> Diagnosis:
    if "libaio-dev" not in facts.missing_for_nvme:
        return Diagnosis("libaio", Group.EXTENSIONS, "libaio", Status.OK, "a program links against it")
    mend = (install_command(["libaio-dev"], facts.which),)
    return Diagnosis("libaio", Group.EXTENSIONS, "libaio", Status.NOTE, "not found", FOR_NVME, mend)
