"""The keys that do something now, in one line."""

from textual.content import Content
from textual.screen import Screen
from textual.style import Style
from textual.widgets import Static


class KeyLine(Static):
    """Each key beside what it does; a click does the same.

    Textual's own footer makes a widget of every key, and all of them anew whenever the focus moves: a third of what a
    step takes, and of what it sends.
    """

    DEFAULT_CSS = """
    KeyLine {
        dock: bottom;
        height: 1;
        text-wrap: nowrap;
        color: $footer-description-foreground;
        background: $footer-background;
    }
    """
    auto_links = False  # keys look like keys

    def __init__(self) -> None:
        super().__init__(markup=False)
        self._shown: list[tuple[str, str, str]] = []

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._show)

    def _show(self, screen: Screen[object]) -> None:
        by_action: dict[str, tuple[str, str, str]] = {}
        for active in screen.active_bindings.values():
            binding = active.binding
            if binding.show:
                shown = (binding.key, self.app.get_key_display(binding), binding.description)
                by_action.setdefault(binding.action, shown)
        keys = list(by_action.values())
        if keys != self._shown:
            self._shown = keys
            self.update(Content(" ").join(self._key(*key) for key in keys))

    @staticmethod
    def _key(key: str, display: str, description: str) -> Content:
        text = Content.assemble((display, "bold $footer-key-foreground"), f" {description}")
        return text.stylize(Style.from_meta({"@click": f"app.simulate_key({key!r})"}))
