"""A headless Chromium, driven by its DevTools protocol over two pipes."""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium"))), None)
KEEP_TERMINAL = """
Object.defineProperty(Object.prototype, "terminal", {
  configurable: true,
  set(value) {
    Object.defineProperty(this, "terminal", {value, writable: true, configurable: true});
    if (value && value.buffer) window.shown = value;
  },
});
"""
"""xterm.js draws on a canvas and textual-serve keeps its terminal to itself: this keeps hold of it as it is made."""
READ_TERMINAL = """
window.shown ? Array.from({length: shown.rows},
  (_, row) => shown.buffer.active.getLine(row)?.translateToString(true) ?? "").join("\\n") : ""
"""
KEYS = {"Enter": (13, "\r"), "Escape": (27, ""), "Tab": (9, ""), "ArrowDown": (40, "")}
"""Virtual key codes of keys that are not letters, and their text; function keys follow from their number."""

LEFT = "Inspected target navigated or closed"
"""What a command comes to whose page goes away meanwhile."""


class PageLeftError(Exception):
    """The page that a command was for is not there any more."""


class Chromium:
    """One browser with one page at a time."""

    def __init__(self, profile: Path, *, width: int = 1000, height: int = 500) -> None:
        reads, self._writes = os.pipe()
        self._reads, writes = os.pipe()
        # Out of the way of 3 and 4, which is where the browser looks for its ends.
        commands, answers = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (reads, writes))
        self.process = subprocess.Popen(
            [
                *(CHROMIUM, "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-dev-shm-usage"),
                *("--no-first-run", "--disable-background-networking", f"--user-data-dir={profile}"),
                *("--enable-unsafe-swiftshader", f"--window-size={width},{height}"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=False,
            preexec_fn=lambda: (os.dup2(commands, 3), os.dup2(answers, 4)),  # noqa: PLW1509 -- the tests have no threads
        )
        for end in (reads, writes, commands, answers):
            os.close(end)
        self._size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._unread, self._number = b"", 0
        self._page: str | None = None
        self._target: str | None = None
        self.requested: list[str] = []
        """What the page asked for, over the network or not."""

    def open(self, url: str) -> None:
        """Opens a page in place of the one that is open, as a new tab would."""
        before = self._target
        self._target = self._send("Target.createTarget", url="about:blank", session=None)["targetId"]
        self._page = self._send("Target.attachToTarget", targetId=self._target, flatten=True, session=None)["sessionId"]
        self._send("Page.enable")
        self._send("Network.enable")
        self._send("Emulation.setDeviceMetricsOverride", **self._size)
        self._send("Page.addScriptToEvaluateOnNewDocument", source=KEEP_TERMINAL)
        if before is not None:
            self._send("Target.closeTarget", targetId=before, session=None)
        self.requested.clear()
        self._send("Page.navigate", url=url)

    def close_page(self) -> None:
        """Closes the page, as a person closes a tab."""
        self._send("Target.closeTarget", targetId=self._target, session=None)
        self._page = self._target = None

    def run(self, script: str) -> object:
        """What a script in the page comes to; a promise is waited for."""
        done = self._send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in done:
            raise AssertionError(done["exceptionDetails"])
        return done["result"].get("value")

    @property
    def screen(self) -> str:
        """What the terminal in the page shows, line by line."""
        return str(self.run(READ_TERMINAL))

    def read_until(self, text: str, seconds: float = 60.0) -> str:
        """The screen, once ``text`` is on it."""
        return self.until(lambda: text in self.screen and self.screen, seconds, text)

    def until(self, what: Callable[[], object], seconds: float = 60.0, told: str = ""):
        """What a callable gives once it is true; the screen where it is not."""

        def now() -> object:
            try:
                return what()
            except PageLeftError:  # by a click before, whose page is not there yet
                return None

        deadline = time.monotonic() + seconds
        while not (value := now()):
            assert time.monotonic() < deadline, f"not within {seconds} s: {told or what}\n{self.screen}"
            time.sleep(0.05)
        return value

    def type(self, text: str) -> None:
        """As if each letter was struck."""
        for letter in text:
            self._send("Input.dispatchKeyEvent", type="char", text=letter)

    def press(self, *keys: str) -> None:
        """Keys by the names that browsers give them: ``Enter``, ``F4``."""
        for key in keys:
            code, text = KEYS.get(key) or (111 + int(key.removeprefix("F")), "")
            about = {"key": key, "code": key, "windowsVirtualKeyCode": code, **({"text": text} if text else {})}
            self._send("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **about)
            self._send("Input.dispatchKeyEvent", type="keyUp", **about)

    def screenshot(self, path: Path) -> None:
        """The page as a PNG."""
        path.write_bytes(base64.b64decode(self._send("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        """Ends the browser."""
        with contextlib.suppress(OSError):
            self._send("Browser.close", session=None)
        self.process.kill()
        self.process.wait()
        os.close(self._writes)
        os.close(self._reads)

    def _send(self, method: str, *, session: str | None = "", **parameters) -> dict:
        """One command, and its answer; what is told meanwhile is looked through."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session or self._page
        os.write(self._writes, json.dumps(message).encode() + b"\0")
        while True:
            told = self._told()
            if told.get("method") == "Network.requestWillBeSent":
                self.requested.append(told["params"]["request"]["url"])
            if told.get("id") == self._number:
                if LEFT in told.get("error", {}).get("message", ""):
                    raise PageLeftError(method)
                if "error" in told:
                    raise AssertionError(f"{method}: {told['error']}")
                return told["result"]

    def _told(self, seconds: float = 60.0) -> dict:
        while b"\0" not in self._unread:
            if not select.select([self._reads], [], [], seconds)[0]:
                raise AssertionError("the browser does not answer")
            chunk = os.read(self._reads, 1 << 20)
            if not chunk:
                raise OSError("the browser has ended")
            self._unread += chunk
        told, _, self._unread = self._unread.partition(b"\0")
        return json.loads(told)
