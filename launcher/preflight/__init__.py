"""What refuses to start: every fault that can be known before anything is loaded, all at once."""

from launcher.preflight.checks import named, preflight
from launcher.preflight.finding import About, Finding, exit_code_of, raise_for
from launcher.preflight.machine import Machine

__all__ = ["About", "Finding", "Machine", "exit_code_of", "named", "preflight", "raise_for"]
