"""The command palette in the DeepSpeed builder: every field, by its path or its meaning, and what the keys do."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.types import IgnoreReturnCallbackType

from simpletuner_tui.tui.commands import MEASURE

if TYPE_CHECKING:
    from simpletuner_tui.tui.screens.builder import BuilderScreen


class FieldCommands(Provider):
    """Goes to fields."""

    @property
    def _builder_screen(self) -> "BuilderScreen":
        return cast("BuilderScreen", self.screen)

    async def discover(self) -> Hits:
        for title, help_text, action in self._actions():
            yield DiscoveryHit(title, action, help=help_text)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for title, help_text, action in self._actions():
            if (score := matcher.match(title)) > 0:
                yield Hit(score, matcher.highlight(title), action, help=help_text)
        screen = self._builder_screen
        listed = [place for _, places in screen.builder.listed(full=True, words=query) for place in places]
        closest = screen.builder.closest(listed, query)
        for place in listed:
            meaning = place.field.meaning if place.field else "not edited here"
            yield Hit(1.0 if place == closest else 0.5, f"{place.path}  {meaning}", partial(screen.go_to, place))

    def _actions(self) -> Iterator[tuple[str, str, IgnoreReturnCallbackType]]:
        screen = self._builder_screen
        if screen.check_action("apply", ()):
            yield "Apply", "what is built here becomes the wizard's answers", screen.action_apply
        yield "Save", "to a file, or to the place in one that holds it", screen.action_save
        for title, help_text, action in (
            ("Templates", "begin from one, keep this one", "templates"),
            ("Basic or all fields", "those that matter, or every one", "view"),
            ("JSON or cost", "the file as it would be saved, and what it takes", "pane"),
            ("Card", "another one to hold the cost against", "card"),
            MEASURE,
            ("Help", "all about this field, and the keys", "help"),
            ("Leave", "without saving", "cancel"),
        ):
            yield title, help_text, partial(screen.run_action, action)
