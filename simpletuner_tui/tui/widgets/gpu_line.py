"""Each GPU's memory in one line, live; the only thing that redraws by itself."""

from typing import TYPE_CHECKING

from textual import work
from textual.message import Message
from textual.widgets import Static

if TYPE_CHECKING:
    from launcher.machine.gpus import Gpus, Reader

INTERVAL = 2.0
"""Seconds between two readings."""

MOVED_MIB = 256
"""By how much a GPU's free memory has to change before a plan is held against it anew."""


class GpuLine(Static):
    """Used and total memory of each GPU, or why there is none."""

    class Changed(Message):
        """A GPU's memory is not what it was."""

        def __init__(self, gpus: "Gpus") -> None:
            super().__init__()
            self.gpus = gpus

    def __init__(self, reader: "Reader") -> None:
        super().__init__("", markup=False)
        self._reader = reader
        self._text = ""
        self._gpus: Gpus | None = None

    def on_mount(self) -> None:
        self.call_after_refresh(self._read)  # loading the driver's library would hold up the first screen
        self.set_interval(INTERVAL, self._read)

    @work(thread=True, exclusive=True, exit_on_error=False)
    def _read(self) -> None:
        # A driver that hangs must not stop the keyboard, so it is asked from a thread.
        gpus = self._reader()
        self.app.call_from_thread(self._take, gpus)

    def _take(self, gpus: "Gpus") -> None:
        if gpus != self._gpus:
            self._gpus = gpus
            self.post_message(self.Changed(gpus))
            self._show()

    def on_resize(self) -> None:
        self._show()

    def _show(self) -> None:
        text = gpu_text(self._gpus, self.content_size.width) if self._gpus else ""
        if text != self._text:
            self._text = text
            self.update(text)


def gpu_text(gpus: "Gpus", width: int) -> str:
    """One line for all GPUs, MiB as nvidia-smi prints them; GiB where many cards leave no room for more.

    Args:
        gpus: what was read.
        width: columns there are.
    """
    if not gpus.gpus:
        # The driver's own words in brackets are for `check`; a line has no room for them.
        reason = gpus.reason.split(" (")[0]
        return f"no GPU: {reason}" if reason else "no GPU"
    whole = "  ".join(f"GPU {gpu.index} {gpu.used_mib:,}/{gpu.total_mib:,} MiB" for gpu in gpus.gpus)
    if len(whole) <= width:
        return whole
    short = "  ".join(f"{gpu.index}: {gpu.used_mib / 1024:.0f}/{gpu.total_mib / 1024:.0f}" for gpu in gpus.gpus)
    if len(short) + 10 <= width:
        return f"GPU GiB  {short}"
    return f"GPU GiB used  {' '.join(f'{gpu.used_mib / 1024:.0f}' for gpu in gpus.gpus)}"
