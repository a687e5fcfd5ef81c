"""A local server that stands in for the hub: what ``huggingface_hub`` asks of it, and the ways it can fail."""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34
API = re.compile(r"/api/(?:models|datasets)/(?P<id>[^/]+/[^/]+)(?P<what>/tree|/revision)?(/.*)?")
FILE = re.compile(r"(?:/datasets)?/(?P<id>[^/]+/[^/]+)/resolve/[^/]+/(?P<path>.+)")


class Hub:
    """Serves folders as models or data sets; use as a context manager."""

    def __init__(self) -> None:
        self.models: dict[str, Path] = {}
        self.gated: set[str] = set()
        self.cut_once: set[str] = set()
        """Files whose first transfer ends in the middle."""
        self.unavailable: set[str] = set()
        """Files whose contents are answered with 503."""
        self.sizes: dict[str, int] = {}
        """What it says of a file's size, where that is not true."""
        self.transfers: list[tuple[str, str | None]] = []
        """Files whose contents were asked for, each with the range."""
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Hub":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_) -> None:
        """Says nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if match := API.fullmatch(path):
            self._api(match["id"], match["what"])
        elif match := FILE.fullmatch(path):
            self._file(match["id"], match["path"])
        else:
            self._fail(404, "EntryNotFound")

    def _api(self, model: str, what: str | None) -> None:
        if model not in self.hub.models:
            self._fail(404, "RepoNotFound")
            return
        folder = self.hub.models[model]
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        names = [str(path.relative_to(folder)) for path in files]
        if what == "/tree":
            content = [
                {"type": "file", "path": name, "size": self._size(name, path), "oid": _digest(path)}
                for name, path in zip(names, files, strict=True)
            ]
        else:
            content = {
                "id": model,
                "modelId": model,
                "sha": COMMIT,
                "siblings": [{"rfilename": name} for name in names],
            }
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _file(self, model: str, name: str) -> None:
        path = self.hub.models[model] / name
        if model in self.hub.gated:
            self._fail(403, "GatedRepo")
        elif name in self.hub.unavailable and self.command == "GET":
            self._fail(503, "")
        elif not path.is_file():
            self._fail(404, "EntryNotFound")
        else:
            self._content(name, path)

    def _content(self, name: str, path: Path) -> None:
        content, status = path.read_bytes(), 200
        headers = {"ETag": f'"{_digest(path)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        asked = self.headers.get("Range")
        if self.command == "GET":
            self.hub.transfers.append((name, asked))
        if asked:
            start = int(asked.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            content, status = content[start:], 206
        if name in self.hub.sizes:
            headers["X-Linked-Size"] = str(self.hub.sizes[name])
        cut = self.command == "GET" and name in self.hub.cut_once
        self.hub.cut_once -= {name} if cut else set()
        self._send(status, content, headers, upto=len(content) // 2 if cut else None)

    def _size(self, name: str, path: Path) -> int:
        return self.hub.sizes.get(name, path.stat().st_size)

    def _fail(self, status: int, code: str) -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code} if code else {})

    def _send(self, status: int, content: bytes, headers: dict[str, str], upto: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:upto])
        if upto is not None:
            self.close_connection = True


def _digest(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
