"""The DeepSpeed builder as numbered lines on stdin and stdout."""

from launcher.errors import InvalidInputError
from simpletuner_tui.builder.model import Place
from simpletuner_tui.builder.walk import Walk
from simpletuner_tui.frontends.accessible import Lines


class BuilderLines(Lines):
    """Asks for fields in lines."""

    _listed: tuple[Place, int] | None = None
    """Whose rows were said last, after how many edits: they are said once, not after every command."""

    def ask(self, walk: Walk) -> str:
        """What is typed to the current field.

        Raises:
            QuitWalkError: the person leaves.
            EOFError: the input has ended.
        """
        place = walk.current
        assert place is not None
        if (place, walk.builder.edits) != self._listed:
            self._listed = place, walk.builder.edits
            for number, row in enumerate(walk.rows(), start=1):
                reason = f" (not here: {row.unavailable})" if row.unavailable else ""
                self.say(f"{f'{number}. ' if walk.numbered() else ''}{row.label}{reason}", "    ")
        return self.hear(f"[{walk.standing()}] > ")

    def hear(self, prompt: str, question: str = "") -> str:
        """One line.

        Raises:
            QuitWalkError: the person leaves.
            EOFError: the input has ended.
        """
        try:
            return super().hear(prompt, question)
        except InvalidInputError:  # its own words are a questionnaire's
            raise EOFError from None
