"""What refuses to start: every fault that can be known before anything is loaded, all at once."""

from launcher.preflight.checks import named, preflight
from launcher.preflight.finding import Finding, exit_code_of, raise_for
from launcher.preflight.machine import Machine

__all__ = ["Finding", "Machine", "exit_code_of", "named", "preflight", "raise_for"]
