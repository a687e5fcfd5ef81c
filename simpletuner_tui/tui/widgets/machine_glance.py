"""The machine at a glance: each GPU's memory and the host's, a line each, live."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from textual import work
from textual.content import Content

from simpletuner_tui.text import bar, size
from simpletuner_tui.tui.glyphs import ASCII, Glyphs
from simpletuner_tui.tui.widgets.drawn import Drawn
from simpletuner_tui.tui.widgets.gpu_line import INTERVAL, MOVED_MIB

if TYPE_CHECKING:
    from launcher.machine.gpus import Gpu, Gpus, Reader
    from launcher.machine.host import Host
    from launcher.preflight import Machine

MANY = 4
"""GPUs beyond which a low window has no room for a line each."""
LOW = 32
"""Rows below which a window is low."""
BAR = 20


class MachineGlance(Drawn):
    """Reads in a thread, as long as its screen is the one that is seen; draws only what has changed."""

    DEFAULT_CSS = "MachineGlance { height: auto; }"

    def __init__(self, reader: "Reader", machine: "Callable[[], Machine]", glyphs: Glyphs) -> None:
        super().__init__(self._drawn)
        self._reader, self._machine, self._glyphs = reader, machine, glyphs
        self._gpus: Gpus | None = None
        self._host: Host | None = None
        self.styles.height = 2

    def on_mount(self) -> None:
        self.call_after_refresh(self._look)  # loading the driver's library would hold up the first screen
        self.set_interval(INTERVAL, self._look)

    def _look(self) -> None:
        if self.screen.is_current:
            self._read()

    @work(thread=True, exclusive=True, exit_on_error=False)
    def _read(self) -> None:
        # A driver that hangs must not stop the keyboard, so it is asked from a thread.
        gpus, host = self._reader(), self._machine().host()
        self.app.call_from_thread(self._take, gpus, host)

    def _take(self, gpus: "Gpus", host: "Host") -> None:
        if not self.is_attached:
            return
        self._gpus = gpus
        if self._host is None or abs(host.available_mib - self._host.available_mib) >= MOVED_MIB:
            self._host = host  # every process moves it a little, all the time
        self._fit()
        self.show(self._drawn)

    def on_resize(self) -> None:
        self._fit()
        super().on_resize()

    def _fit(self) -> None:
        count = len(self._gpus.gpus) if self._gpus else 0
        rows = 1 + ((count + 1) // 2 if self._in_pairs else max(1, count))
        if self.styles.height is None or self.styles.height.value != rows:
            self.styles.height = rows

    @property
    def _in_pairs(self) -> bool:
        return self._gpus is not None and len(self._gpus.gpus) > MANY and self.app.size.height < LOW

    def _drawn(self, width: int, _: int) -> list[Content]:
        return [*map(Content, self._gpu_lines(width)), Content(self._host_line(width))]

    def _gpu_lines(self, width: int) -> Iterable[str]:
        if self._gpus is None:
            return [f"GPU  {self._glyphs.ellipsis}"]
        gpus = self._gpus.gpus
        if not gpus:
            return [f"no GPU: {self._gpus.reason}" if self._gpus.reason else "no GPU"]
        if not self._in_pairs:
            name = max(len(_named(gpu)) for gpu in gpus)
            return [self._line(f"{_named(gpu):<{name}}", gpu.used_mib, gpu.total_mib, width) for gpu in gpus]
        each = [f"GPU {gpu.index}  {_share(gpu.used_mib, gpu.total_mib)}" for gpu in gpus]
        widest = max(map(len, each))
        return [
            "   ".join(f"{cell:<{widest}}" for cell in each[row : row + 2]).rstrip() for row in range(0, len(each), 2)
        ]

    def _host_line(self, width: int) -> str:
        if self._host is None:
            return f"RAM  {self._glyphs.ellipsis}"
        name = "RAM"
        if self._gpus is not None and self._gpus.gpus and not self._in_pairs:
            name = f"RAM{'':<{max(len(_named(gpu)) for gpu in self._gpus.gpus) - 3}}"
        return self._line(name, self._host.total_mib - self._host.available_mib, self._host.total_mib, width)

    def _line(self, name: str, used: float, total: float, width: int) -> str:
        told = _share(used, total)
        room = width - len(name) - len(told) - 4
        if room < 5:
            return f"{name}  {told}"
        return f"{name}  {bar(used, total, min(BAR, room), ascii_only=self._glyphs is ASCII)}  {told}"


def _named(gpu: "Gpu") -> str:
    return f"GPU {gpu.index}  {gpu.name.removeprefix('NVIDIA ').removeprefix('GeForce ')}"


def _share(used: float, total: float) -> str:
    return f"{size(used)} of {size(total)} used"
