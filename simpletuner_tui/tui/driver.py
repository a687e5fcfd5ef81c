"""Keys as a terminal sends them, whatever their bytes."""

from codecs import IncrementalDecoder, getincrementaldecoder
from collections.abc import Callable
from functools import partial

from textual.driver import Driver
from textual.drivers import linux_driver
from textual.drivers.linux_driver import LinuxDriver

from simpletuner_tui.serving.inside import in_a_browser


class TolerantDriver(LinuxDriver):
    """Textual's own, but a byte that is no UTF-8 is a sign in the field, where Textual would end with a traceback."""

    def run_input_thread(self) -> None:
        # The thread makes its decoder itself, strict, by this name.
        linux_driver.getincrementaldecoder = _tolerant  # type: ignore[attr-defined,assignment]
        super().run_input_thread()


def driver_here() -> type[Driver]:
    """What draws where this process was started: in a terminal, or in a page."""
    if not in_a_browser():
        return TolerantDriver
    from simpletuner_tui.tui.page_driver import PageDriver  # noqa: PLC0415 - a terminal does not need it

    return PageDriver


def _tolerant(encoding: str) -> Callable[[], IncrementalDecoder]:
    return partial(getincrementaldecoder(encoding), errors="replace")
