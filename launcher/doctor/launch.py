"""What every launch does before it trains: it listens at a port, and writes outside of its run directory."""

from collections.abc import Iterator

from launcher.doctor.diagnosis import Diagnosis, Group, Status
from launcher.doctor.facts import Facts


def launch(facts: Facts) -> Iterator[Diagnosis]:
    """Ports and folders."""
    if facts.has_ports:
        told = "a run on one machine takes a free one at its start"
        yield Diagnosis("ports", Group.LAUNCH, "ports", Status.OK, told)
    else:
        told = "this process can listen at no port"
        why = "the processes of a run meet at one, even where there is only one process"
        yield Diagnosis("ports", Group.LAUNCH, "ports", Status.ERROR, told, why, ("ip link set lo up",))
    for folder, reason in facts.unwritable.items():
        told = f"{folder} cannot be written: {reason}"
        if folder == facts.extensions:
            why, variable = "what DeepSpeed compiles is kept there", "TORCH_EXTENSIONS_DIR"
        else:
            why, variable = "what was measured and traced is kept there, and is done anew each time", "XDG_CACHE_HOME"
        yield Diagnosis("folders", Group.LAUNCH, "folders", Status.WARNING, told, why, (f"export {variable}=DIR",))
    if not facts.unwritable:
        yield Diagnosis("folders", Group.LAUNCH, "folders", Status.OK, "extensions and caches can be written")
