"""The DeepSpeed builder as questionary prompts."""

import questionary
from prompt_toolkit.document import Document
from prompt_toolkit.validation import ValidationError, Validator

from launcher.deepspeed.fields import Kind
from simpletuner_tui.builder.walk import Walk
from simpletuner_tui.frontends.build_commands import command_in
from simpletuner_tui.text import printable

_COMMAND = object()
"""Chosen in a menu, to type a command."""


class PromptsAsk:
    """Asks for a field by a prompt: a menu where it has rows, else a line."""

    def say(self, text: str = "", indent: str = "") -> None:
        """A paragraph."""
        questionary.print(f"{indent}{printable(text)}")

    def show(self, text: str) -> None:
        """A text as it is."""
        for line in text.splitlines():
            questionary.print(printable(line))

    def ask(self, walk: Walk) -> str:
        """What is answered to the current field.

        Raises:
            KeyboardInterrupt: Ctrl-C.
            EOFError: Ctrl-D.
        """
        place = walk.current
        assert place is not None
        if walk.rows():
            return self._menu(walk)
        ask = questionary.path if place.field is not None and place.field.kind is Kind.PATH else questionary.text
        return str(ask(f"{place.path} [{walk.standing()}]", validate=_Checked(walk)).unsafe_ask())

    def _menu(self, walk: Walk) -> str:
        place = walk.current
        assert place is not None
        chosen = walk.builder.chosen(place)
        rows = [
            questionary.Choice(f"{row.label}{f'  (not here: {row.unavailable})' if row.unavailable else ''}", row)
            for row in walk.rows()
        ]
        given = questionary.select(
            place.path,
            choices=[
                *rows,
                questionary.Separator(),
                questionary.Choice("back", "back"),
                questionary.Choice("help", "help"),
                questionary.Choice("another command", _COMMAND),
            ],
            default=next((row for row in rows if row.value.value == chosen), None),
            instruction=" ",
        ).unsafe_ask()
        if given is _COMMAND:
            return self.hear("command: ")
        if isinstance(given, str):
            return given
        return "" if given.value == chosen else given.label.partition("  (")[0].strip()

    def hear(self, prompt: str) -> str:
        """One line.

        Raises:
            KeyboardInterrupt: Ctrl-C.
            EOFError: Ctrl-D.
        """
        return str(questionary.text(prompt.strip()).unsafe_ask())


class _Checked(Validator):
    """Says what is wrong while it is typed."""

    def __init__(self, walk: Walk) -> None:
        self._walk = walk

    def validate(self, document: Document) -> None:
        typed, place = document.text, self._walk.current
        if place is None or not typed.strip() or command_in(typed) is not None:
            return
        try:
            self._walk.builder.foresee(place, typed)
        except ValueError as error:
            raise ValidationError(len(typed), printable(str(error))) from error
