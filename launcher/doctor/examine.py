"""The whole examination, in the order in which it is told."""

from collections.abc import Iterable
from dataclasses import replace

from launcher.doctor.diagnosis import Diagnosis, Group, Status
from launcher.doctor.extensions import extensions
from launcher.doctor.facts import Facts
from launcher.doctor.gpu import gpu
from launcher.doctor.host import host
from launcher.doctor.launch import launch
from launcher.doctor.plan import Planned, planned
from launcher.doctor.platform import platform
from launcher.doctor.speed import speed
from launcher.plan import Plan


def examine(facts: Facts, given: Planned | None = None) -> list[Diagnosis]:
    """Judges a machine, and a plan on it.

    Args:
        facts: of the machine.
        given: what it is to run; None: nothing in particular.

    Returns:
        Every finding, group by group. One that a plan does not depend on is no more than a note.
    """
    found = [each for check in (platform, gpu, extensions, host, speed, launch) for each in check(facts)]
    if given is None:
        return found
    lowered = [replace(each, status=Status.NOTE) if _is_idle(each, given.plan) else each for each in found]
    return [*lowered, *planned(given, facts)]


def _is_idle(each: Diagnosis, plan: Plan) -> bool:
    """Whether it is ill, and this plan does not care."""
    if each.status in (Status.OK, Status.NOTE):
        return False
    launch = plan.settings.launch
    if each.group is Group.GPU:
        return launch.use_cpu
    return each.group is Group.EXTENSIONS and not launch.deepspeed


def found_platform(facts: Facts) -> str:
    """Whose accelerator there is: ``cuda``, ``rocm``, ``mps`` or ``cpu``."""
    if facts.why_not_cuda:
        return "rocm" if facts.torch_hip else "mps"
    return "cuda" if facts.gpus.gpus else "cpu"


def trains_on(facts: Facts, found: Iterable[Diagnosis]) -> str | None:
    """What a training would use now: ``cuda``, ``cpu``, or None where none would begin."""
    ill = {each.group for each in found if each.status is Status.ERROR}
    if ill & {Group.PLATFORM, Group.LAUNCH}:
        return None
    return "cuda" if found_platform(facts) == "cuda" and Group.GPU not in ill else "cpu"
