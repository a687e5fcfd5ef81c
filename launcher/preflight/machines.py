"""Several machines started over SSH: what does it, and which machines they are."""

from collections.abc import Iterator
from pathlib import Path

from launcher.errors import ExitCode
from launcher.plan import Plan
from launcher.preflight.finding import Finding
from launcher.preflight.machine import Machine


def machines(plan: Plan, machine: Machine) -> Iterator[Finding]:
    """Why pdsh could not start the machines; nothing where they are started one by one."""
    chosen = plan.settings.launch.machines
    if chosen is None or not chosen.over_ssh:
        return
    if machine.which("pdsh") is None:
        yield Finding(
            "accelerate.ds_launcher",
            "pdsh is not installed; apt install pdsh, or choose standard",
            exit_code=ExitCode.CANNOT_RUN_HERE,
        )
    try:
        lines = Path(chosen.hostfile).read_text().splitlines()
    except (OSError, ValueError) as error:
        message = f"{chosen.hostfile} cannot be read: {getattr(error, 'strerror', None) or error}"
        yield Finding("accelerate.ds_hostfile", message)
        return
    hosts = {line.split()[0] for line in lines if line.strip() and not line.lstrip().startswith("#")}
    filtered = chosen.inclusion_filter or chosen.exclusion_filter
    if not filtered and len(hosts) != chosen.count:
        message = f"{chosen.hostfile} names {len(hosts)} hosts, and there are to be {chosen.count} machines"
        yield Finding("accelerate.ds_hostfile", message)
