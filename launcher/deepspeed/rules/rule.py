"""A rule: one thing DeepSpeed refuses, ignores or gets wrong."""

from collections.abc import Callable
from dataclasses import dataclass

from launcher.config.setting import Level, Problem
from launcher.deepspeed.run_facts import RunFacts
from launcher.deepspeed.view import View


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, as data."""

    id: str
    fields: tuple[str, ...]
    """What it is about, by path; a problem is shown at the first of them that the configuration says."""
    broken: Callable[[View, RunFacts], bool]
    message: str | Callable[[View, RunFacts], str]
    """What would happen."""
    mend: str
    """What to do about it."""
    source: str
    """Where it was learnt: ``run`` means by running DeepSpeed 0.19.8 on a CPU, ``code`` from its sources; what only a
    GPU can show says so."""
    level: Level = Level.ERROR

    def problem(self, view: View, run: RunFacts) -> Problem:
        """The problem to show where the rule is broken."""
        field = next((path for path in self.fields if view.has(path)), self.fields[0])
        message = self.message if isinstance(self.message, str) else self.message(view, run)
        return Problem(field, f"{message}; {self.mend}", self.level, self.id)
