"""The builder's list of fields, by topic."""

from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from simpletuner_tui.builder.model import Builder, Place
from simpletuner_tui.tui.glyphs import Glyphs
from simpletuner_tui.tui.widgets.field_row import field_row


class FieldList(OptionList):
    """Fields that matter, all of them, or those that a search finds."""

    def __init__(self, builder: Builder, glyphs: Glyphs) -> None:
        """Lists nothing yet.

        Args:
            builder: what is edited.
            glyphs: signs this terminal can show.
        """
        super().__init__(id="fields", compact=True)
        self._builder, self._glyphs = builder, glyphs
        self._rows: list[Place | None] = []
        """What each row is about; None for a topic."""

    def on_mount(self) -> None:
        marks = self._glyphs
        self.border_subtitle = f"{marks.changed} set {marks.fault} error ! warned {marks.ahead} idle"

    @property
    def place(self) -> Place | None:
        """What the highlighted row is about."""
        return None if self.highlighted is None else self._rows[self.highlighted]

    def fill(self, *, full: bool, words: str, here: Place | None) -> None:
        """Lists what is wanted.

        Args:
            full: every field, and not only those that matter.
            words: of a search; empty: there is none.
            here: what is being edited; its row stays.
        """
        rows: list[Place | None] = []
        prompts: list[Content] = []
        for topic, places in self._builder.listed(full=full, words=words, also=here):
            rows += [None, *places]
            rows_of_topic = (field_row(place, self._builder, self._glyphs) for place in places)
            prompts += [Content.styled(topic, "bold"), *rows_of_topic]
        self.border_title = f"Search: {words}" if words else "All fields" if full else "Basic fields"
        if rows == self._rows:
            for index, prompt in enumerate(prompts):
                if self.get_option_at_index(index).prompt != prompt:
                    self.replace_option_prompt_at_index(index, prompt)
            return
        self._rows = rows
        self.clear_options()
        if not rows:
            self.add_option(Option("No field is about this.", disabled=True))
            self._rows = [None]
        self.add_options([Option(prompt, disabled=place is None) for place, prompt in zip(rows, prompts, strict=True)])
        stays = here is not None and here in rows and not words
        shown = here if stays else self._builder.closest(filter(None, rows), words)
        self.highlighted = rows.index(shown) if shown is not None else None

    def highlight(self, place: Place) -> None:
        """Goes to the row of a place that is listed."""
        self.highlighted = self._rows.index(place)
