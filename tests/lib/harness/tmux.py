"""A command in tmux, whose server is nobody else's."""

import contextlib
import os
import shlex
import subprocess
import time
import uuid


class Tmux:
    """Runs a command in a session of a tmux server of its own."""

    def __init__(self, *command: str, columns: int = 80, rows: int = 24, cwd, **environment: str) -> None:
        self._socket = f"test-{uuid.uuid4().hex[:8]}"
        # Given whole: readline, which pytest loads, puts a fixed size of the window into C's own environment.
        self._environment = {**os.environ, **environment}
        size = ["-x", str(columns), "-y", str(rows)]
        self._tmux("new-session", "-d", "-s", "w", *size, "-c", str(cwd), f"exec {shlex.join(command)}")
        self.pid = int(self._tmux("display-message", "-p", "-t", "w", "#{pane_pid}"))
        """Of the command."""

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-L", self._socket, "-f", "/dev/null", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=30, env=self._environment
        ).stdout

    def read_until(self, text: str, seconds: float = 60.0) -> str:
        """The screen, once ``text`` is on it."""
        deadline = time.monotonic() + seconds
        while text not in (screen := self._tmux("capture-pane", "-p", "-t", "w")):
            assert time.monotonic() < deadline, f"{text!r} was not shown:\n{screen}"
            time.sleep(0.05)
        return screen

    def type(self, text: str) -> None:
        self._tmux("send-keys", "-t", "w", "-l", text)

    def press(self, key: str) -> None:
        """A key by tmux's name of it, such as F2."""
        self._tmux("send-keys", "-t", "w", key)

    def resize(self, columns: int, rows: int) -> None:
        self._tmux("resize-window", "-t", "w", "-x", str(columns), "-y", str(rows))

    def kill_session(self) -> None:
        self._tmux("kill-session", "-t", "w")

    def close(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):  # without a session it has ended by itself
            self._tmux("kill-server")
