"""Questions made from settings: kind, default, bounds and meaning are the setting's own."""

from collections.abc import Callable

from launcher.config.setting import Setting
from simpletuner_tui.questions.conditions import Answer, Condition, Context
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Choice, Question

KINDS = {bool: Kind.YES_NO, int: Kind.INT, float: Kind.FLOAT, tuple: Kind.LIST, str: Kind.TEXT}


def question_of(
    declared: Setting, question_id: str, text: str, section: str, when: Condition | None = None
) -> Question:
    """The question that asks for a setting.

    Args:
        declared: the setting.
        question_id: its public id.
        text: how it is asked.
        section: under which heading.
        when: on which condition.
    """
    kind = _kind(declared)
    default: Answer = list(declared.default) if isinstance(declared.default, tuple) else declared.default
    return Question(
        id=question_id,
        kind=kind,
        text=text,
        section=section,
        choices=tuple(Choice(name, name) for name in declared.choices),
        default=None if declared.required else default,
        when=when,
        check=_checked_by(declared),
        hub=declared.hub,
        more="Another? [yes/NO]: " if kind is Kind.REPEAT else "",
        help=_help(declared),
    )


def _kind(declared: Setting) -> Kind:
    if declared.choices:
        return Kind.MENU
    if declared.kind is tuple and declared.of is str:
        return Kind.REPEAT
    return Kind.PATH if declared.path else KINDS[declared.kind]


def _checked_by(declared: Setting) -> Callable[[Answer, Context], None]:
    def check(answer: Answer, _: Context) -> None:
        declared.parse(answer)

    return check


def _help(declared: Setting) -> str:
    bounds = [
        f"{word} {bound:,.10g}".replace(",", " ")
        for word, bound in (("at least", declared.minimum), ("at most", declared.maximum))
        if bound is not None
    ]
    unit = [f"in {declared.unit}"] if declared.unit else []
    facts = ", ".join([*unit, *bounds])
    return f"{declared.doc} ({facts})" if facts else declared.doc
