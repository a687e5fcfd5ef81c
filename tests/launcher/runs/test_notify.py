"""Being told of a run's end: real commands, and a real server that gets what a chat service would."""

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from harness.runs import CLI, cli, end_run, events, stand_in_run, supervisor, wait_for, wait_until_over
from harness.terminal import Terminal
from launcher.config.training import NotificationSettings
from launcher.runs import notify as module
from launcher.runs.directory import create
from launcher.runs.notify import WEBHOOK_VARIABLE, message_of, post
from launcher.runs.outcome import Outcome
from launcher.runs.processes import processes_of_run
from launcher.runs.spawn import launch
from launcher.runs.state import Status, status
from launcher.runs.stop import request_stop

TOKEN = "T0ken-that-nobody-may-read-in-a-file"
WRITE = 'printf "%s\\n" "$RUN_NAME" "$RUN_DIR" "$RESULT" "$EXIT_CODE" "$MESSAGE" >> told; echo said to the log'


@pytest.fixture(autouse=True)
def own_index(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def server():
    """Keeps what is posted to it; answers what ``answers`` has, then 200."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            server.posted.append((self.path, self.headers["Content-Type"], json.loads(body)))
            time.sleep(server.takes)
            self.send_response(server.answers.pop(0) if server.answers else 200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.posted, server.answers, server.takes = [], [], 0.0
    server.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def start(tmp_path):
    """Starts a stand-in whose owner wants to be told."""
    runs = []

    def start(mode: str, *, rehearsal=None, environment=None, **training: str):
        run = stand_in_run(tmp_path / "cats-1", mode, **(environment or {}))
        told = run.plan() | ({"rehearsal": rehearsal} if rehearsal else {})
        create(run.path, {"training.json": json.dumps(training).encode(), "plan.json": json.dumps(told).encode()})
        runs.append(run)
        launch(run)
        return run

    yield start
    for run in runs:
        end_run(run)


def told(run) -> list[str]:
    file = run.path / "told"
    return file.read_text().splitlines() if file.exists() else []


def logged(run) -> list[str]:
    return [line for line in run.log.read_text().splitlines() if line.startswith("notification: ")]


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("short", ["completed", "0", "trained 3 steps"]),
        ("failure", ["failed", "2", "this picture is damaged"]),
        ("silent exit", ["failed", "1", "the training ended with exit code 7 and no word; {log} has its last lines"]),
    ],
)
def test_a_command_of_the_owners_is_told_how_it_ended(start, mode, said):
    run = start(mode, notify_command=WRITE)
    wait_until_over(run)
    wait_for(lambda: logged(run))
    time.sleep(0.3)  # in which rank 0 would have done it too
    assert told(run) == ["cats-1", str(run.path), *(part.format(log=run.log) for part in said)]
    assert logged(run) == ["notification: the command ended with exit code 0"]
    assert "said to the log" in run.log.read_text().splitlines()


def test_a_webhook_gets_one_message_that_chat_services_understand(start, server):
    run = start("failure", notify_webhook=f"{server.address}/hook")
    wait_for(lambda: logged(run))
    ((path, kind, message),) = server.posted
    assert (path, kind) == ("/hook", "application/json")
    assert message["text"] == message["content"]
    assert message["text"].startswith("cats-1 on ") and message["text"].endswith(" failed: this picture is damaged")
    parts = {"run": "cats-1", "path": str(run.path), "result": "failed", "exit_code": 2}
    assert parts.items() <= message.items()
    assert logged(run) == ["notification: 127.0.0.1 was told"]


def test_an_address_from_the_environment_holds_over_the_other_and_is_written_nowhere(start, server, monkeypatch):
    monkeypatch.setenv(WEBHOOK_VARIABLE, f"{server.address}/{TOKEN}")
    run = start("short", notify_webhook=f"{server.address}/other")
    wait_for(lambda: logged(run))
    assert [path for path, *_ in server.posted] == [f"/{TOKEN}"]
    files = [path for path in run.path.rglob("*") if path.is_file()]
    assert run.log in files
    assert [path for path in files if TOKEN.encode() in path.read_bytes()] == []


def test_rank_0_tells_it_where_the_supervisor_was_killed_and_nobody_does_twice(start, server):
    run = start("long", notify_command=WRITE, notify_webhook=server.address)
    wait_for(lambda: events(run, "step"))
    os.kill(supervisor(run), signal.SIGKILL)
    wait_for(lambda: len(logged(run)) == 2)
    assert told(run)[2:4] == ["stopped", "0"]
    assert told(run)[4].endswith("the supervisor of this run died")
    wait_for(lambda: not status(run).orphans)
    time.sleep(0.5)
    assert (len(told(run)), len(server.posted)) == (5, 1)


def test_a_slow_command_and_a_server_that_is_not_there_delay_nothing_and_fail_nothing(start, server):
    server.shutdown()
    run = start("long", notify_command="echo $$ > pid; sleep 600", notify_webhook=server.address)
    wait_for(lambda: events(run, "step"))
    request_stop(run, "asked to stop")
    over = wait_until_over(run, 5)
    assert (over.status, over.state["exit_code"]) == (Status.STOPPED, 0)
    pid = int(wait_for(lambda: (run.path / "pid").exists() and (run.path / "pid").read_text()))
    try:
        assert processes_of_run(str(run.path)) == []  # so that the next launch need not wait
        launch(run)
        assert status(run).live
    finally:
        os.killpg(pid, signal.SIGKILL)


def test_events_that_cannot_be_written_keep_nobody_from_being_told(tmp_path):
    code = "import os; os.remove('events.jsonl'); os.mkdir('events.jsonl'); raise SystemExit(7)"
    plan = {"argv": [sys.executable, "-c", code], "environment": {}}
    files = {"plan.json": json.dumps(plan).encode(), "training.json": json.dumps({"notify_command": WRITE}).encode()}
    run = create(tmp_path / "run", files)
    launch(run)
    wait_for(lambda: told(run)[2:4] == ["failed", "1"])


def test_a_command_that_does_not_end_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "COMMAND_SECONDS", 0.5)
    run = create(tmp_path / "run", {"plan.json": b"{}"})
    began = time.monotonic()
    said = module.run_command("sleep 600 & sleep 600", run, Outcome("completed", 0, "trained"))
    assert (said, time.monotonic() - began < 5) == ("the command was ended after 0 s", True)
    assert module.run_command("exit 3", run, Outcome("completed", 0, "")) == "the command ended with exit code 3"


def test_a_server_that_is_busy_is_asked_again_and_one_that_refuses_is_not(server, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "WAITS", (0.01, 0.01))
    message = message_of(create(tmp_path / "run", {"plan.json": b"{}"}), Outcome("failed", 1, "x" * 5000))
    assert len(message["content"]) == 1900
    server.answers = [503, 429]
    assert post(server.address, message) == "127.0.0.1 was told"
    assert len(server.posted) == 3
    server.answers = [404]
    assert post(server.address, message) == "127.0.0.1 was not told: it answered 404"
    assert len(server.posted) == 4
    server.answers = [500, 500, 500]
    assert post(server.address, message) == "127.0.0.1 was not told: it answered 500"
    monkeypatch.setattr(module, "WEBHOOK_SECONDS", 0.2)
    server.takes = 0.5
    assert post(server.address, message) == "127.0.0.1 was not told: TimeoutError"
    assert post("http://[", message).startswith("the webhook was not told: ")
    assert post(f"{server.address}/{TOKEN} of mine", message) == "127.0.0.1 was not told: InvalidURL"
    assert post("file:///etc/passwd", message) == f"{WEBHOOK_VARIABLE} does not begin with http:// or https://"


def test_of_a_rehearsal_and_of_a_machine_that_joins_nobody_is_told(start, server, monkeypatch):
    monkeypatch.setenv(WEBHOOK_VARIABLE, server.address)
    run = start("short", rehearsal={"steps": 2, "checkpoint_mib": 1, "saves_here": False}, notify_command=WRITE)
    wait_until_over(run)
    second = create(run.path / "machine-1", {"plan.json": json.dumps({"trains": str(run.path)}).encode()})
    assert module.wanted_by(second, os.environ) is None
    time.sleep(0.5)
    assert (server.posted, told(run)) == ([], [])


@pytest.mark.parametrize(
    ("address", "secret"),
    [
        ("", False),
        ("https://ntfy.sh/my-training", False),
        ("http://127.0.0.1:8080/hook?run=cats", False),
        ("https://notifications.research.example.org/", False),
        ("https://hooks.slack.com/services/T00000000/B00000000/" + "X" * 24, True),
        ("https://discord.com/api/webhooks/1234567890123456789/" + "a-B_" * 17, True),
        ("https://example.org/hook?token=" + "0123456789abcdef" * 2, True),
        ("https://me:password@example.org/hook", True),
    ],
)
def test_an_address_that_holds_a_token_is_known(address, secret):
    assert NotificationSettings(notify_webhook=address).webhook_is_secret is secret


def test_a_terminal_that_waited_for_the_end_rings(started):
    run = started("long with bar", "cats-1")
    wait_for(lambda: events(run, "step"))
    attached = Terminal(CLI, "attach", "cats-1", "--plain")
    try:
        attached.read_until("train")
        request_stop(run, "asked to stop")
        attached.wait()
        assert attached.seen.count("\a") == 1
    finally:
        attached.close()
    late = Terminal(CLI, "attach", "cats-1", "--plain")
    late.wait()
    assert "\a" not in late.seen
    late.close()
    assert "\a" not in "".join((cli("attach", "cats-1").stderr, cli("attach", "cats-1", "--json").stdout))
