"""``serve`` as a person meets it: pages for whoever has the token, in a real browser, and an orderly end."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from textual_serve.download_manager import DownloadManager

from harness.chromium import CHROMIUM, Chromium
from harness.runs import CLI, cli, end_run, events, gone, wait_for
from harness.serving import WEBSOCKET, Pages, Served, keep_draft, launch_in_page, step_shown
from harness.terminal import Terminal
from launcher.runs.directory import RunDirectory
from launcher.runs.state import status
from simpletuner_tui.serving.server import PageProcess

ROOT = Path(__file__).parents[1]
TOKEN = "a-token-of-my-own"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where it is served: a folder with a draft of the demo."""
    folder = tmp_path_factory.mktemp("served")
    keep_draft(folder)
    return folder


@pytest.fixture(scope="module")
def served(place):
    it = Served(place)
    yield it
    it.close()


@pytest.fixture
def serve(tmp_path):
    """Serves from an empty folder."""
    started = []

    def start(*arguments: str, **environment: str) -> Served:
        started.append(Served(tmp_path, *arguments, **environment))
        return started[-1]

    yield start
    for each in started:
        each.close()


# access


@pytest.mark.parametrize(
    "path", ["/", "/?token=", "/?token=wrong", "/?token=%FF%00", "/ws", "/page.js", "/static/js/textual.js", "/nothing"]
)
def test_without_the_token_nothing_is_answered(served, path):
    for headers in ({}, {"Cookie": served.cookie[:-1]}):
        answer = served.get(path, Origin=f"http://{served.place}", **(WEBSOCKET if path == "/ws" else {}), **headers)
        assert answer.status == 403
        assert "The token is missing" in answer.read().decode()
    assert not served.apps


def test_the_token_opens_the_page_and_nothing_else(served):
    answer = served.get(f"/?token={served.token}")
    assert answer.status == 200
    given = answer.getheader("Set-Cookie")
    assert "HttpOnly" in given and "SameSite=Strict" in given
    policy = answer.getheader("Content-Security-Policy")
    assert "default-src 'none'" in policy and "//" not in policy
    assert answer.getheader("Referrer-Policy") == "no-referrer"
    origin = f"http://{served.place}"
    assert served.get(f"/ws?token={served.token}", Origin=origin, **WEBSOCKET).status == 403
    assert served.get("/page.js", Cookie=served.cookie).status == 200


@pytest.mark.parametrize("host", ["attacker.example", "127.0.0.1.attacker.example", "", "[::1", "localhost.example"])
def test_a_name_that_was_made_to_point_here_is_refused(served, host):
    answer = served.get("/", Cookie=served.cookie, Host=f"{host}:{served.port}")
    assert answer.status in {400, 403}  # what is no name at all aiohttp refuses itself
    assert "does not go by this name" in answer.read().decode() or answer.status == 400


def test_a_tunnel_from_another_port_is_fine(served):
    for host in ("localhost:9000", "127.0.0.1:80", "[::1]:9000"):
        assert served.get("/", Cookie=served.cookie, Host=host).status == 200


@pytest.mark.parametrize("origin", ["http://attacker.example", "http://127.0.0.1:1", "null", "http://[", None])
def test_another_page_opens_no_websocket(served, origin):
    headers = {**WEBSOCKET, "Cookie": served.cookie, **({"Origin": origin} if origin else {})}
    assert served.get("/ws", **headers).status == 403
    assert not served.apps


def test_a_token_of_ones_own_stays_out_of_what_others_see(serve):
    server = serve(SIMPLETUNER_SERVE_TOKEN=TOKEN)
    assert server.token == TOKEN
    app = psutil.Process(server.open_page())
    assert TOKEN not in " ".join([*app.cmdline(), *app.environ().values()])


def test_an_easy_token_is_refused():
    done = cli("serve", SIMPLETUNER_SERVE_TOKEN="1234")
    assert done.returncode == 2
    assert "SIMPLETUNER_SERVE_TOKEN: at least 16" in done.stderr


# where it listens


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_others_reach_it_only_where_that_was_asked_for(host):
    done = cli("serve", "--host", host)
    assert done.returncode == 2
    assert "ssh -N -L 8000:127.0.0.1:8000" in done.stderr and "--allow-remote" in done.stderr


def test_asked_for_it_warns(serve):
    server = serve("--host", "0.0.0.0", "--allow-remote")
    assert urlsplit(server.url).hostname == socket.gethostname().lower()
    assert server.get("/", Cookie=server.cookie, Host=f"{socket.gethostname()}:{server.port}").status == 200
    assert "warning: what is shown and typed" in server.end(signal.SIGTERM)[1]


def test_over_ssh_it_says_how_to_get_there(serve):
    server = serve(SSH_CONNECTION="1.2.3.4 5 6.7.8.9 22")
    assert f"ssh -N -L {server.port}:127.0.0.1:{server.port}" in server.end(signal.SIGTERM)[1]


def test_a_port_that_is_taken(served):
    done = cli("serve", "--port", str(served.port))
    assert done.returncode == 3
    assert f"port {served.port}: address already in use; try --port 0" in done.stderr


def test_a_name_that_nothing_has():
    done = cli("serve", "--host", "nowhere.invalid")
    assert (done.returncode, "no address of this machine" in done.stderr) == (2, True)


def test_without_textual_serve_it_names_the_command():
    code = "import sys; sys.modules['textual_serve'] = None; from simpletuner_tui.cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, "serve"], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    (package,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["serve"]
    assert f"-m pip install '{package}'" in done.stderr


# the end


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGHUP, 129), (signal.SIGKILL, -signal.SIGKILL)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_however_it_ends_the_apps_leave_with_it(serve, number, code):
    server = serve()
    app = server.open_page()
    ended, said = server.end(number)
    assert ended == code
    wait_for(lambda: gone(app), 10)
    assert "Traceback" not in said and "exception" not in said.lower()


def test_a_terminal_that_goes_away_takes_pages_along(tmp_path):
    # What an app says at its end, here how long its imports took, has nowhere to go then.
    told = {"XDG_STATE_HOME": str(tmp_path), "PYTHONPROFILEIMPORTTIME": "1"}
    terminal = Terminal(CLI, "serve", "--port", "0", cwd=tmp_path, **told)
    try:
        url = re.search(r"http://\S+", terminal.read_until("runs go on.\r\n"))[0]
        pages = Pages(url, terminal.process.pid)
        app = pages.open_page()
        terminal.hang_up()
        assert terminal.process.wait(8) == 129
        wait_for(lambda: gone(app), 10)
        pages.close()
    finally:
        terminal.close()


def test_an_app_that_hangs_is_ended_once_its_page_is_gone(monkeypatch):
    monkeypatch.setattr("simpletuner_tui.serving.server.PATIENCE", 0.2)
    begun = asyncio.Event()

    async def drawn(_: bytes) -> None:
        begun.set()

    async def closed() -> None:
        """A browser is not there to agree."""

    async def hang() -> int:
        page = PageProcess("", write_bytes=drawn, write_str=drawn, close=closed, download_manager=DownloadManager())
        await page.start(80, 24)
        await asyncio.wait_for(begun.wait(), 30)
        page._process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.wait_for(page.stop(), 5)
        finally:
            if page._process.returncode is None:
                page._process.kill()
        return page._process.returncode

    assert asyncio.run(hang()) == -signal.SIGKILL


# in a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """One for all tests: starting it takes longer than a page."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    it = Chromium(tmp_path_factory.mktemp("profile"))
    yield it
    it.close()


def test_a_page_whose_app_has_ended_says_so_and_can_be_opened_again(browser, serve):
    server = serve()
    browser.open(server.url)
    ended = "document.readyState == 'complete' && getComputedStyle(document.getElementById('ended')).display"
    for end in (lambda: browser.type("\x11"), lambda: os.kill(server.apps[0], signal.SIGKILL)):
        browser.until(lambda: browser.run(ended) == "none" and "Start anew" in browser.screen)
        end()
        browser.until(lambda: browser.run(ended) == "flex")
        browser.run("document.querySelector('#ended button').click()")


@pytest.fixture(scope="module")
def launched(browser, served, place, assets):
    """A run that was answered for and started in a page; the page still shows what comes then."""
    run = launch_in_page(browser, served.url, place, assets)
    yield run
    end_run(run)


def goes_on(run: RunDirectory) -> bool:
    """Whether it makes more steps than it has made."""
    made = len(events(run, "step"))
    return bool(wait_for(lambda: len(events(run, "step")) > made and status(run).live))


def test_a_question_is_answered_a_run_started_and_its_dashboard_moves(browser, launched):
    browser.read_until(f"{launched.name} · running")
    first = browser.until(lambda: step_shown(browser), 120)
    browser.until(lambda: step_shown(browser) > first)
    assert step_shown(browser) <= len(events(launched, "step")), "what it shows has happened"


def test_the_page_needs_this_server_alone(browser, served, launched):
    assert len(browser.requested) >= 5
    assert {urlsplit(url).netloc for url in browser.requested} <= {served.place, ""}, "pictures in data: have no place"
    assert browser.run("location.href") == f"http://{served.place}/", "the token is not left where others look"
    assert browser.run("document.cookie") == ""


def test_a_run_outlives_its_page_and_its_server(browser, served, launched):
    assert served.apps
    browser.close_page()
    wait_for(lambda: not served.apps, 15)
    assert goes_on(launched)
    assert served.end(signal.SIGTERM)[0] == 130
    assert goes_on(launched)
