"""``serve`` as a process, and requests to it as any program may make them."""

import contextlib
import http.client
import os
import subprocess
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil

from harness.runs import CLI, wait_for

WEBSOCKET = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


class Served:
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
        self.url = self.process.stdout.readline().strip()
        parts = urlsplit(self.url)
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
        return [child.pid for child in psutil.Process(self.process.pid).children()]

    def end(self, number: int) -> tuple[int, str]:
        """Its exit code after a signal, and what it said."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.communicate()
