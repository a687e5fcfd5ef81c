"""What there is to say about a configuration, in sentences that every front end shows."""

from typing import Any

from launcher.config.setting import Level, Problem
from launcher.deepspeed.normalise import Change
from launcher.deepspeed.template import Template
from launcher.deepspeed.view import ABSENT
from simpletuner_tui.builder.model import Builder, Facts
from simpletuner_tui.builder.values import as_typed


def fact_lines(facts: Facts) -> list[str]:
    """All about one field but its name."""
    idle = f"No effect now: {facts.idle}." if facts.idle else ""
    return [line for line in (facts.meaning, idle, facts.now, facts.default, facts.effect) if line]


def problem_line(problem: Problem, own: str = "") -> str:
    """How grave a problem is, where unless it is ``own``, and what."""
    word = "error" if problem.level is Level.ERROR else "warning"
    where = "" if problem.field == own else f"{problem.field}: "
    return f"{word}: {where}{problem.message}"


def change_line(change: Change) -> str:
    """What reads differently than it was written, and why."""
    return f"{difference_line(change.field, change.before, change.after, 'filled in')} ({change.reason})"


def difference_line(path: str, before: Any, after: Any, added: str = "added") -> str:
    """What one of two configurations says otherwise; ``ABSENT`` where one says nothing."""
    if before is ABSENT:
        return f"{added}: {path}: {as_typed(after)}"
    if after is ABSENT:
        return f"taken out: {path}: {as_typed(before)}"
    return f"changed: {path}: {as_typed(before)} to {as_typed(after)}"


def template_lines(template: Template) -> list[str]:
    """What a template is, and what was corrected about it."""
    return [line for line in (template.description, *(f"Corrected: {each}." for each in template.corrected)) if line]


def using_lines(builder: Builder, template: Template) -> list[str]:
    """What a template would bring in place of the configuration there is."""
    return [difference_line(*difference) for difference in builder.against(template.config)]


def count_line(builder: Builder) -> str:
    """How many errors, warnings and changes there are; empty where there is none."""
    warnings = sum(problem.level is Level.WARNING for problem in builder.problems)
    counted = ((builder.errors, "error"), (warnings, "warning"), (len(builder.changes), "change"))
    return ", ".join(f"{count} {word}{'s' if count > 1 else ''}" for count, word in counted if count)


def errors_question(builder: Builder) -> str:
    """Asked before what DeepSpeed would not start with is saved."""
    count = builder.errors
    return f"DeepSpeed would not start with it: {count} error{'s' if count > 1 else ''}. Save it all the same?"
