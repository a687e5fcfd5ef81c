"""Drawing in a page of ``serve``."""

from textual.drivers.web_driver import WebDriver
from textual.messages import ExitApp


class PageDriver(WebDriver):
    """Textual's own, but the app leaves when nobody can reach it any more: a server that was killed takes no leave."""

    def run_input_thread(self) -> None:
        super().run_input_thread()
        if not self.exit_event.is_set():
            self._app.post_message(ExitApp())
