"""What is wrong with the builder's configuration, and what DeepSpeed would change in it."""

from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from simpletuner_tui.builder.model import Builder, Place
from simpletuner_tui.builder.told import change_line, count_line, problem_line
from simpletuner_tui.tui.glyphs import Glyphs


class Checks(OptionList):
    """A row each, which leads to where it is mended."""

    def __init__(self, builder: Builder, glyphs: Glyphs) -> None:
        """Says nothing yet.

        Args:
            builder: what is edited.
            glyphs: signs this terminal can show.
        """
        super().__init__(id="problems", compact=True)
        self._builder, self._glyphs = builder, glyphs
        self._targets: list[Place | None] = []

    def show(self) -> None:
        """Says what holds now."""
        builder = self._builder
        told = [(problem_line(problem), builder.place_of(problem.field, problem.rule)) for problem in builder.problems]
        told += [(change_line(change), builder.place_of(change.field)) for change in builder.changes]
        if not builder.problems:
            told.insert(0, (f"{self._glyphs.done} nothing speaks against it", None))
        self._targets = [place for _, place in told]
        self.clear_options()
        self.add_options([Option(Content(line), disabled=place is None) for line, place in told])
        self.highlighted = next((row for row, place in enumerate(self._targets) if place is not None), None)
        self.border_title, self.border_subtitle = "Checks", count_line(builder)

    def target(self, row: int) -> Place | None:
        """Where a row leads."""
        return self._targets[row]
