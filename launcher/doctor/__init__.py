"""What this machine can train, what is in the way, and the command that mends it."""

from launcher.doctor.asking import Asking
from launcher.doctor.diagnosis import Diagnosis, Group, Status, exit_code_of
from launcher.doctor.examine import examine, found_platform, trains_on
from launcher.doctor.facts import Facts, read_facts
from launcher.doctor.plan import Planned

__all__ = [
    "Asking",
    "Diagnosis",
    "Facts",
    "Group",
    "Planned",
    "Status",
    "examine",
    "exit_code_of",
    "found_platform",
    "read_facts",
    "trains_on",
]
