"""``serve`` as a process, requests to it as any program may make them, and a run started in a page of it."""

import contextlib
import http.client
import json
import os
import re
import subprocess
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil

from harness.chromium import Chromium
from harness.runs import CLI, wait_for
from launcher.runs.directory import RunDirectory

DEMO = Path(__file__).parents[3] / "examples/demo/answers.json"
MODEL = "training.pretrained_model_name_or_path"
LONG = {"training.max_train_steps": 10_000, "training.num_validation_images": 0, "training.cpu_threads": 1}
"""A demo that goes on for as long as it is looked at."""

WEBSOCKET = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


class Pages:
    """Requests to a server that goes by the address it printed."""

    def __init__(self, url: str, pid: int) -> None:
        self.url, self._pid = url, pid
        parts = urlsplit(url)
        self.port, self.place, self.token = parts.port, parts.netloc, parse_qs(parts.query)["token"][0]
        self._connections: list[http.client.HTTPConnection] = []

    def get(self, path: str, **headers: str) -> http.client.HTTPResponse:
        """One request; headers in Python's spelling."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        self._connections.append(connection)
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        return connection.getresponse()

    @property
    def cookie(self) -> str:
        """What a browser sends once it has opened the address."""
        return self.get(f"/?token={self.token}").getheader("Set-Cookie").partition(";")[0]

    def open_page(self) -> int:
        """A page's websocket; the process of its app, once it draws."""
        answer = self.get("/ws", Cookie=self.cookie, Origin=f"http://{self.place}", **WEBSOCKET)
        assert answer.status == 101
        drawn = self._connections[-1].sock
        assert wait_for(lambda: drawn.recv(1 << 16))
        (app,) = self.apps
        return app

    @property
    def apps(self) -> list[int]:
        return [child.pid for child in psutil.Process(self._pid).children()]

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


class Served(Pages):
    """The command, and what it answers."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [CLI, "serve", "--port", "0", *arguments],
            cwd=folder,
            env={**os.environ, "XDG_STATE_HOME": str(folder / "state"), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        super().__init__(self.process.stdout.readline().strip(), self.process.pid)

    def end(self, number: int) -> tuple[int, str]:
        """Its exit code after a signal, and what it said; nobody likes to wait for that."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=8)
        return self.process.returncode, said

    def close(self) -> None:
        super().close()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.communicate()


def keep_draft(folder: Path) -> None:
    """A draft of the demo below ``folder/state``, which lacks the model."""
    answers = {**json.loads(DEMO.read_text())["answers"], **LONG}
    del answers[MODEL]
    draft = folder / "state/simpletuner-tui/draft.json"
    draft.parent.mkdir(parents=True)
    draft.write_text(json.dumps({"answers": answers, "place": MODEL, "base": str(folder), "saved": 0.0}))


def launch_in_page(browser: Chromium, url: str, folder: Path, assets: Path) -> RunDirectory:
    """Answers what the draft lacks and launches, with keys alone; the page then shows the run.

    Args:
        browser: opens the page.
        url: with the token.
        folder: where it is served.
        assets: the demo's model and pictures.
    """
    (folder / "assets").symlink_to(assets)
    browser.open(url)
    browser.read_until("Continue the draft")
    browser.press("Enter")
    browser.read_until("Which SDXL model should be fine-tuned?")
    browser.type("./assets/model")
    browser.press("Enter")
    browser.read_until(" 2 of ")
    browser.press("F4")
    browser.read_until("nothing speaks against it")
    browser.press("F9")
    browser.read_until("Start sdxl-")
    browser.type("y")
    (found,) = wait_for(lambda: list(folder.glob("runs/sdxl-*")))
    return RunDirectory(found)


def step_shown(browser: Chromium) -> int:
    """The step that the dashboard in the page shows; 0 before the first."""
    found = re.search(rf" ([\d,]+)/{LONG['training.max_train_steps']:,} ", browser.screen)
    return int(found[1].replace(",", "")) if found else 0
