"""The packages a launch needs, whether torch works, and what DeepSpeed can do with what is here."""

from collections.abc import Iterator

from launcher.deepspeed.installed import TESTED, untested
from launcher.doctor.diagnosis import Diagnosis, Group, Status
from launcher.doctor.facts import Facts, Package

NEEDED = "a launch stops before it begins"
UNTESTED = "what is offered, judged and predicted was only held against the tested versions"


def platform(facts: Facts) -> Iterator[Diagnosis]:
    """Packages, torch, DeepSpeed."""
    yield from _packages(facts)
    yield _torch(facts)
    yield _deepspeed(facts)


def _packages(facts: Facts) -> Iterator[Diagnosis]:
    others = [package for package in facts.packages if package.name != "deepspeed"]
    for package in others:
        if package.installed is None:
            yield _package(package, Status.ERROR, f"{package.name} is not installed", NEEDED)
        elif not package.is_tested:
            told = f"{package.name} {package.installed} is outside the tested set ({package.wanted})"
            yield _package(package, Status.WARNING, told, UNTESTED)
    if others and all(package.is_tested for package in others):
        told = f"{len(others)} needed, each of a tested version"
        yield Diagnosis("packages", Group.PLATFORM, "packages", Status.OK, told)
    elif not others:
        told = "simpletuner-tui is not installed, so which versions it wants is not known"
        yield Diagnosis("packages", Group.PLATFORM, "packages", Status.NOTE, told, UNTESTED, ("pip install .",))


def _package(package: Package, status: Status, told: str, why: str) -> Diagnosis:
    mend = (f"pip install '{package.wanted}'",)
    return Diagnosis(f"package-{package.name}", Group.PLATFORM, package.name, status, told, why, mend)


def _torch(facts: Facts) -> Diagnosis:
    if failure := facts.device.failure:
        return Diagnosis(
            "torch",
            Group.PLATFORM,
            "torch",
            Status.ERROR,
            f"torch does not work: {failure}",
            "everything that is trained is computed by it",
            ("pip install --force-reinstall torch",),
        )
    build = f"CUDA {facts.torch_cuda}" if facts.torch_cuda else f"ROCm {facts.torch_hip}" if facts.torch_hip else "CPUs"
    told = f"{facts.device.told['torch']}, built for {build}"
    return Diagnosis("torch", Group.PLATFORM, "torch", Status.OK, told)


def _deepspeed(facts: Facts) -> Diagnosis:
    number = facts.deepspeed
    mend = (f"pip install 'deepspeed=={TESTED.version}'",)
    if number is None:
        told = "not available: DeepSpeed is not installed"
        return Diagnosis("deepspeed", Group.PLATFORM, "DeepSpeed", Status.ERROR, told, NEEDED, mend)
    if told_of_version := untested(number):
        return Diagnosis("deepspeed", Group.PLATFORM, "DeepSpeed", Status.WARNING, told_of_version, UNTESTED, mend)
    if facts.why_not_cuda:
        told = f"{number}, available on the CPU alone: {facts.why_not_cuda}"
        why = "a launch that does not choose the CPU is refused"
        chosen = ("simpletuner-tui --replay FILE --set accelerate.use_cpu=yes",)
        return Diagnosis("deepspeed", Group.PLATFORM, "DeepSpeed", Status.WARNING, told, why, chosen)
    where = "GPUs and the CPU" if facts.torch_cuda and facts.gpus.gpus else "the CPU: its backend without CUDA"
    return Diagnosis("deepspeed", Group.PLATFORM, "DeepSpeed", Status.OK, f"{number}, available on {where}")
