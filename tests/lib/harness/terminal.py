"""A command in a real pseudo-terminal."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

KEYS = {"Enter": "\r", "F9": "\x1b[20~"}
"""What a terminal sends."""
ON_AT_FIRST = ("7", "25")
"""Of a terminal's private modes: lines wrap, the cursor is shown."""


class Terminal:
    """Runs a command with a terminal of its own; hanging up closes it as a dropped line does."""

    def __init__(self, *command: str, columns: int = 80, rows: int = 24, cwd=None, **environment: str) -> None:
        self._master, slave = pty.openpty()
        self._modes = termios.tcgetattr(slave)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            list(command),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=cwd,
            env={**os.environ, "TERM": "xterm", **environment},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 -- the tests have no threads
        )
        os.close(slave)
        self.pid = self.process.pid
        """Of the command."""
        self.seen = ""

    def read_until(self, text: str, seconds: float = 60.0) -> str:
        """Everything shown so far, once ``text`` is in it."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            if time.monotonic() > deadline or (not self._read(0.1) and self.process.poll() is not None):
                raise AssertionError(f"{text!r} was not shown:\n{self.seen[-3000:]}")
        return self.seen

    def read_for(self, seconds: float) -> str:
        """Everything shown so far, so many seconds from now."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._read(left)
        return self.seen

    def quiet(self, seconds: float) -> None:
        """Waits until nothing was shown for so long."""
        while self._read(seconds):
            pass

    def forget(self) -> None:
        """What was shown so far counts no more."""
        self.seen = ""

    def resize(self, columns: int, rows: int) -> None:
        """As when a window is dragged: the terminal tells its processes."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        self.type_bytes(text.encode())

    def type_bytes(self, content: bytes) -> None:
        os.write(self._master, content)

    def press(self, key: str) -> None:
        """A key by its name, as tmux names it."""
        self.type(KEYS[key])

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.type("\x03")

    @property
    def restored(self) -> bool:
        """Whether all is as it was before the command: what is typed, where is drawn, cursor, mouse, keys, pasting."""
        switched = dict(re.findall(r"\x1b\[\?(\d+)([hl])", self.seen))  # the last time counts
        off = [mode for mode, now in switched.items() if (now == "h") != (mode in ON_AT_FIRST)]
        keys_left = len(re.findall(r"\x1b\[>\d+u", self.seen)) - self.seen.count("\x1b[<u")
        return termios.tcgetattr(self._master) == self._modes and not off and not keys_left

    def hang_up(self) -> None:
        os.close(self._master)
        self._master = -1

    def wait(self, seconds: float = 60.0) -> int:
        """The exit code; keeps reading, so that nobody waits for a full terminal."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < deadline:
            self._read(0.1)
        while self._read(0.1):
            pass
        return self.process.wait(1)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self._master >= 0:
            self.hang_up()

    def _read(self, seconds: float) -> bool:
        if self._master < 0 or not select.select([self._master], [], [], seconds)[0]:
            return False
        try:
            self.seen += os.read(self._master, 1 << 16).decode("utf-8", "replace")
        except OSError:
            return False
        return True
