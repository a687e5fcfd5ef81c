"""Following runs, leaving them, and finding them again: real terminals, real supervisors."""

import json
import os
import re
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.runs import CLI, cli, end_run, events, stand_in_run, supervisor, wait_for, wait_until_over
from harness.terminal import Terminal
from launcher.errors import ExitCode
from launcher.runs.checkpoints import FACTS, Identity
from launcher.runs.directory import RunDirectory
from launcher.runs.index import register
from launcher.runs.marker import mark
from launcher.runs.spawn import launch
from launcher.runs.state import Status, status
from launcher.runs.stop import request_stop

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own_index(tmp_path, monkeypatch):
    """No runs of other tests."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def terminal():
    """Opens terminals with one command each and closes them."""
    opened = []

    def open_terminal(*command: str, **options) -> Terminal:
        opened.append(Terminal(*command, **options))
        return opened[-1]

    yield open_terminal
    for each in opened:
        each.close()


@pytest.fixture
def long_run(started) -> RunDirectory:
    """A run that goes on until it is stopped, in its first steps."""
    run = started("long with bar", "cats-1")
    wait_for(lambda: events(run, "step"))
    return run


def steps_go_on(run: RunDirectory) -> bool:
    """Whether the training makes another step."""
    before = len(events(run, "step"))
    return bool(wait_for(lambda: len(events(run, "step")) > before, 10))


def last_line_shown(seen: str) -> str:
    """What a terminal's line holds after every return to its start."""
    line = ""
    for part in seen.rsplit("\n", 1)[-1].split("\r"):
        line = part + line[len(part) :]
    return line.rstrip()


# leaving


def test_ctrl_c_wipes_the_bar_names_the_commands_and_leaves_the_run_going(long_run, terminal):
    attached = terminal(CLI, "attach", "cats-1", "--plain")
    attached.read_until("░")
    before = attached.seen
    assert last_line_shown(before).startswith("  train ")
    attached.interrupt()
    assert attached.wait() == ExitCode.CANCELLED
    said = attached.seen[len(before) :]
    assert "Detached; cats-1 goes on." in said
    assert re.search(r"^  simpletuner-tui attach cats-1 +follows it again\r$", said, re.MULTILINE)
    assert re.search(r"^  simpletuner-tui stop cats-1 +saves a checkpoint and ends it\r$", said, re.MULTILINE)
    bar_line = attached.seen[: attached.seen.index("Detached")].rstrip("\r\n")
    assert last_line_shown(bar_line + "\r").startswith(("", "^C"))
    assert "train" not in last_line_shown(bar_line)
    assert status(long_run).status is Status.RUNNING
    assert steps_go_on(long_run)


def test_hanging_up_ends_the_command_and_not_the_run(long_run, terminal):
    attached = terminal(CLI, "attach", "cats-1", "--plain")
    attached.read_until("train")
    attached.hang_up()
    assert attached.wait() == ExitCode.HANGUP
    assert steps_go_on(long_run)


def test_under_nohup_following_outlives_the_terminal(long_run, terminal, tmp_path):
    shell = terminal("sh", "-c", f"nohup {CLI} attach cats-1 >out 2>err & echo started; wait", cwd=tmp_path)
    shell.read_until("started")
    time.sleep(1)
    shell.hang_up()
    shell.wait()
    request_stop(long_run, "asked to stop")
    wait_until_over(long_run)
    wait_for(lambda: "Stopped after" in (tmp_path / "out").read_text(), 10)


def test_ctrl_c_in_the_moment_of_the_start_is_told_what_became_of_the_run(home, terminal):
    replay = terminal(CLI, "--replay", "answers.json", "--run-dir", "run", cwd=home)
    run = RunDirectory(home / "run")
    wait_for(run.plan_json.exists)
    replay.interrupt()
    try:
        assert replay.wait() == ExitCode.CANCELLED
        assert "nothing was started" not in replay.seen
        assert "simpletuner-tui stop run" in replay.seen
        assert status(run).status is Status.RUNNING
    finally:
        end_run(run)


def test_ctrl_c_ends_reading_a_log_without_a_word_about_the_run(long_run, terminal):
    logs = terminal(CLI, "logs", "--follow", "cats-1")
    logs.read_until("stand-in: long with bar")
    logs.interrupt()
    assert logs.wait() == ExitCode.CANCELLED
    assert "started" not in logs.seen
    assert "Traceback" not in logs.seen
    assert status(long_run).live


def test_whoever_stops_reading_events_stops_the_command_quietly(long_run):
    with subprocess.Popen(
        [CLI, "attach", "cats-1", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as attached:
        assert json.loads(attached.stdout.readline())["event"] == "start"
        attached.stdout.close()
        assert attached.wait(20) == ExitCode.OK
        assert attached.stderr.read() == ""
    assert status(long_run).live


# attach


def test_attach_json_gives_the_events_one_a_line(started):
    run = started("short", "cats-1")
    done = cli("attach", "cats-1", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(line) for line in done.stdout.splitlines()] == events(run)
    assert events(run)[-1]["event"] == "end"


def test_attach_begins_with_the_latest_launch(started):
    run = started("short", "cats-1")
    wait_until_over(run)
    launch(run)
    done = cli("attach", "cats-1", "--json")
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()].count("start") == 1
    assert len(events(run, "start")) == 2


def test_attach_refreshes_as_often_as_asked(long_run):
    def lateness(seconds: str) -> float:
        """How late, at the most, a step is told within two and a half seconds, once it reads at all."""
        late = 0.0
        with subprocess.Popen(
            [CLI, "attach", "cats-1", "--json", "--refresh", seconds], stdout=subprocess.PIPE, text=True
        ) as attached:
            attached.stdout.readline()
            begun = time.time()
            while time.time() < begun + 2.5:
                happened = json.loads(attached.stdout.readline())["time"]
                if happened > begun:
                    late = max(late, time.time() - happened)
            attached.kill()
        return late

    with ThreadPoolExecutor() as pool:
        often, seldom = pool.map(lateness, ("0.05", "2"))
    assert often < 1 < seldom


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "1e9", "often"])
def test_a_refresh_that_makes_no_sense_is_refused(seconds):
    done = cli("attach", "cats-1", f"--refresh={seconds}")
    assert done.returncode == ExitCode.USAGE
    assert "argument --refresh: between 0.05 and 3600 seconds" in done.stderr


@pytest.mark.parametrize(
    ("mode", "code", "message"),
    [
        ("failure", ExitCode.USAGE, "error: this picture is damaged"),
        ("silent exit", ExitCode.RUN_FAILED, "error: the training ended with exit code 7 and no word"),
    ],
)
def test_a_run_that_failed_gives_its_reason_its_log_and_its_exit_code(started, mode, code, message):
    run = started(mode)
    done = cli("attach", str(run.path))
    assert done.returncode == code
    assert message in done.stderr
    assert str(run.log) in done.stderr
    assert done.stdout.startswith("Failed after")


def test_a_run_that_was_stopped_is_no_failure(long_run):
    request_stop(long_run, "asked to stop")
    wait_until_over(long_run)
    done = cli("attach", "cats-1")
    assert done.returncode == ExitCode.OK
    assert "Stopped after" in done.stdout and "asked to stop" in done.stdout


@pytest.mark.parametrize("contents", ["full", "weights"])
def test_a_run_that_was_stopped_says_how_it_goes_on_where_it_can(long_run, contents):
    saved = long_run.path / "checkpoints/checkpoint-1"
    saved.mkdir(parents=True)
    (saved / FACTS).write_text(json.dumps({**dict.fromkeys(Identity.__slots__), "contents": contents}))
    mark(saved)
    event = {"time": time.time(), "event": "checkpoint", "path": str(saved), "step": 1, "bytes": 1, "removed": []}
    with long_run.events_jsonl.open("a") as file:
        file.write(json.dumps(event) + "\n")
    request_stop(long_run, "asked to stop")
    wait_until_over(long_run)
    done = cli("attach", "cats-1", cwd=long_run.path.parent)
    assert "checkpoint              cats-1/checkpoints/checkpoint-1" in done.stdout
    command = "simpletuner-tui --replay cats-1/answers.json --run-dir cats-1"
    assert (f"goes on with            {command}" in done.stdout.replace(str(CLI), "simpletuner-tui")) == (
        contents == "full"
    )


def test_a_run_that_was_prepared_and_never_started_says_how(tmp_path):
    run = stand_in_run(tmp_path / "cats-1", "short")
    done = cli("attach", str(run.path))
    assert done.returncode == ExitCode.USAGE
    assert "was never started; replay" in done.stderr
    assert cli("logs", str(run.path)).returncode == ExitCode.USAGE
    stopped = cli("stop", str(run.path))
    assert (stopped.returncode, run.stop_json.exists()) == (ExitCode.USAGE, False)
    assert "it is prepared" in stopped.stderr


# lost runs


def test_attach_follows_an_orphaned_training_to_its_end(started, terminal):
    run = started("long with bar", "cats-1", STAND_IN_SAVE_SECONDS="3")
    wait_for(lambda: events(run, "step"))
    attached = terminal(CLI, "attach", "cats-1", "--plain")
    attached.read_until("train")
    os.kill(supervisor(run), signal.SIGKILL)
    attached.read_until("warning: the supervisor of cats-1 died; its training saves a checkpoint and ends")
    assert not (run.path / "saved").exists()
    assert attached.wait() == ExitCode.RUN_FAILED
    assert (run.path / "saved").exists()
    assert "died without a word" in attached.seen
    assert "stopped at step" in attached.seen
    assert "--run-dir" in attached.seen


def test_a_lost_run_is_listed_explained_and_can_be_started_again(started):
    run = started("long", "cats-1")
    wait_for(lambda: events(run, "step"))
    os.kill(supervisor(run), signal.SIGKILL)
    wait_for(lambda: status(run).status is Status.LOST and not status(run).orphans)
    (row,) = [line.split() for line in cli("runs").stdout.splitlines()[1:]]
    assert row[:2] == ["cats-1", "lost"]
    done = cli("attach", "cats-1")
    assert done.returncode == ExitCode.RUN_FAILED
    assert "died without a word" in done.stderr and "Start it again with the same --run-dir" in done.stderr
    assert "it is lost" in cli("stop", "cats-1").stderr
    launch(run)
    assert status(run).live


# runs, stop, logs


def test_no_runs_is_no_failure(tmp_path):
    done = cli("runs")
    assert (done.returncode, done.stdout) == (0, "")
    assert "--replay" in done.stderr
    assert cli("runs", "--json").stdout == "[]\n"


def test_runs_are_listed_for_people_and_for_programs(started, long_run):
    short = started("short", "dogs-1")
    wait_until_over(short)
    register(RunDirectory(short.path.parent / "removed"))
    header, *rows = cli("runs").stdout.splitlines()
    assert header.split() == ["NAME", "STATUS", "PHASE", "STEP", "STARTED", "FOLDER"]
    assert [row.split()[:2] for row in rows] == [["cats-1", "running"], ["dogs-1", "completed"]]
    assert rows[0].endswith(str(long_run.path))
    wait_for(lambda: status(long_run).state["phase"] == "train")
    cats, dogs = json.loads(cli("runs", "--json").stdout)
    assert (cats["name"], cats["path"], cats["status"], cats["orphans"]) == (
        *("cats-1", str(long_run.path)),
        *("running", []),
    )
    assert (dogs["status"], dogs["result"], dogs["exit_code"]) == ("completed", "completed", 0)
    assert cats["supervisor"]["pid"] == supervisor(long_run)


def test_a_second_stop_ends_a_run_at_once(started):
    run = started("long with child", "cats-1", STAND_IN_SAVE_SECONDS="600")
    wait_for(lambda: events(run, "step"))
    first = cli("stop", "cats-1")
    assert (first.returncode, first.stdout) == (0, "")
    assert "finishes the step, saves a checkpoint and ends" in first.stderr
    wait_for(lambda: status(run).status is Status.STOPPING)
    second = cli("stop", str(run.path))
    assert second.returncode == 0
    assert "at once, without a checkpoint" in second.stderr
    assert wait_until_over(run, 20).status is Status.STOPPED
    third = cli("stop", "cats-1")
    assert third.returncode == ExitCode.USAGE
    assert "error: cats-1 does not run: it is stopped" in third.stderr


def test_stop_now_does_not_wait_for_a_second_time(started):
    run = started("long", "cats-1", STAND_IN_SAVE_SECONDS="600")
    assert cli("stop", "cats-1", "--now").returncode == 0
    assert wait_until_over(run, 20).status is Status.STOPPED
    assert not (run.path / "saved").exists()


def test_a_stop_after_a_signal_is_still_the_first(started):
    run = started("long", "cats-1", STAND_IN_SAVE_SECONDS="3")
    wait_for(lambda: events(run, "step"))
    os.kill(supervisor(run), signal.SIGTERM)
    wait_for(lambda: status(run).status is Status.STOPPING)
    assert "finishes the step" in cli("stop", "cats-1").stderr
    wait_until_over(run)
    assert (run.path / "saved").exists()


@pytest.mark.parametrize("way", ["name", "path", "relative", "symlink", "inside"])
def test_a_run_is_named_in_every_way(long_run, way, tmp_path):
    (tmp_path / "link").symlink_to(long_run.path)
    (long_run.path / "inner").mkdir()
    name, cwd = {
        "name": ("cats-1", Path("/")),
        "path": (str(long_run.path), Path("/")),
        "relative": (f"./{long_run.path.name}/", long_run.path.parent),
        "symlink": ("link", tmp_path),
        "inside": ("..", long_run.path / "inner"),
    }[way]
    assert cli("stop", name, cwd=cwd).stderr.startswith("cats-1: it finishes the step")
    assert wait_until_over(long_run).status is Status.STOPPED


@pytest.mark.parametrize("command", ["attach", "stop", "logs"])
def test_an_unknown_run_is_answered_with_the_nearest_names(long_run, command):
    done = cli(command, "cast-1")
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert done.stderr == "error: there is no run 'cast-1'; did you mean cats-1?\n"


@pytest.mark.parametrize("name", ["zzz", "", "/no/such/run", "~nobody-of-this-name/run", "x" * 300, "a/" * 3000])
def test_a_name_that_is_none_is_no_defect(name):
    done = cli("attach", name)
    assert done.returncode == ExitCode.USAGE
    assert "there is no run" in done.stderr and "`simpletuner-tui runs` lists them" in done.stderr


def test_logs_follow_until_the_run_ends(long_run):
    with subprocess.Popen([CLI, "logs", "cats-1", "--follow"], stdout=subprocess.PIPE, text=True) as logs:
        assert logs.stdout.readline() == "stand-in: long with bar\n"
        with pytest.raises(subprocess.TimeoutExpired):
            logs.wait(1)
        with long_run.log.open("a") as log:
            log.write("the last word\n")
        request_stop(long_run, "asked to stop")
        assert logs.wait(20) == 0
        assert logs.stdout.read() == "the last word\n"


def test_logs_keep_bytes_that_are_no_text(started):
    run = started("short", "cats-1")
    wait_until_over(run)
    with run.log.open("ab") as log:
        log.write(b"\xff\xfe\x00\n")
    done = subprocess.run([CLI, "logs", "cats-1"], capture_output=True, check=True)
    assert done.stdout == run.log.read_bytes()


def test_a_second_launch_on_one_run_directory_is_refused(home, started):
    run = started("long", "cats-1")
    before = run.plan_json.read_bytes()
    done = cli("--replay", "answers.json", "--run-dir", str(run.path), cwd=home)
    assert (done.returncode, done.stdout) == (ExitCode.REFUSED_TO_OVERWRITE, "")
    assert "is being trained already; follow it with `simpletuner-tui attach cats-1`" in done.stderr
    assert run.plan_json.read_bytes() == before
    assert not run.answers.exists()
    assert status(run).live
