"""Several machines: where they meet, what starts them over SSH, and which they are."""

from collections.abc import Iterator
from pathlib import Path

from launcher.errors import ExitCode
from launcher.plan import Plan
from launcher.preflight.finding import About, Finding
from launcher.preflight.machine import Machine


def machines(plan: Plan, machine: Machine) -> Iterator[Finding]:
    """Why they could not meet at this machine, and why pdsh could not start them."""
    chosen = plan.settings.launch.machines
    if chosen is None:
        return
    port = chosen.main_process_port
    if chosen.rank == 0 and not machine.is_free(port):
        yield Finding(
            "accelerate.main_process_port",
            f"port {port} of this machine, at which the others are to meet it, is in use; choose another one on all",
            exit_code=ExitCode.CANNOT_RUN_HERE,
            about=About.PORT,
        )
    if not chosen.over_ssh:
        return
    if machine.which("pdsh") is None:
        yield Finding(
            "accelerate.ds_launcher",
            "pdsh is not installed; apt install pdsh, or choose standard",
            exit_code=ExitCode.CANNOT_RUN_HERE,
            about=About.PDSH,
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
