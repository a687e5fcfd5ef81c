"""A real run of the demo's model, whose terminals come and go: what they show, and what the run leaves behind."""

import hashlib
import itertools
import json
import re
import signal
from pathlib import Path

import pytest

from harness.abandoned import PHASES, SAVED, STEPS, WAYS, AbandonedRun, abandon
from harness.runs import SAME_EVERYWHERE, cli, events, planned
from launcher.errors import ExitCode
from launcher.runs.checkpoints import whole
from launcher.runs.directory import RunDirectory
from launcher.runs.marker import why_damaged
from launcher.runs.readings import read_header, read_rows
from launcher.runs.removing import removal
from launcher.runs.state import Status, status

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def real_run(assets, tmp_path_factory) -> AbandonedRun:
    """One for all tests; it takes half a minute."""
    return abandon(tmp_path_factory.mktemp("real") / "tiny", assets)


def checksums_below(folder: Path) -> dict[str, str]:
    """Of weights, by name."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.glob("*.safetensors")}


# what is shown


def test_killing_the_replaying_process_leaves_training_running(real_run):
    assert real_run.codes["killed"] == -signal.SIGKILL
    assert real_run.left["killed"].status is Status.RUNNING
    assert f"{real_run.run.name} in {real_run.run.path}" in real_run.seen["killed"]


def test_attach_finds_it_and_hanging_up_leaves_it_running(real_run):
    assert real_run.codes["hung up"] == ExitCode.HANGUP
    assert real_run.left["hung up"].status is Status.RUNNING


def test_ctrl_c_leaves_it_running_too(real_run):
    assert real_run.codes["interrupted"] == ExitCode.CANCELLED
    assert real_run.left["interrupted"].status is Status.RUNNING
    assert f"simpletuner-tui stop {real_run.run.name}" in real_run.seen["interrupted"]


def test_a_terminal_shows_the_phases_a_bar_and_the_results(real_run):
    seen, run = real_run.seen["to the end"], real_run.run
    assert real_run.codes["to the end"] == ExitCode.OK
    assert real_run.left["to the end"].status is Status.COMPLETED
    shown = ("compile DeepSpeed's optimizer", "prompt embeddings", "latents", "load the U-Net", "start the optimizer")
    for line in shown:
        assert re.search(rf"[\r\n]  {line} +\d+\.\d s\r\n", seen), line
    assert re.search(r"\r  train [█]*[░]+ \d+/20 loss \d\.\d{4} lr \d\.\de-\d\d", seen)
    assert "checkpoint of step 10:" in seen and "checkpoint of step 20:" in seen
    assert re.search(r"Completed after .*: trained 20 steps", seen)
    summary = seen[seen.index("Completed after") :]
    assert re.search(r"loss on held-out noise +\d\.\d+ before, \d\.\d+ after", summary)
    # Shown as they would be typed where the command was given.
    assert re.search(rf"checkpoint +runs/{run.name}/checkpoints/checkpoint-20\r", summary)
    assert re.search(rf"pipeline +runs/{run.name}/pipeline\r", summary)
    assert "Next, SDXL 1.0 on your pictures" in summary
    assert "Traceback" not in seen


def test_no_line_is_wider_than_the_terminal(real_run):
    moving = re.findall(r"\r(  [^\r\n]+)", real_run.seen["to the end"])
    assert any("train" in line for line in moving)
    assert max(map(len, moving)) < 80


def test_the_run_directory_holds_what_the_architecture_says(real_run):
    run = real_run.run
    found = {path.name for path in run.path.iterdir()}
    written_before = {"answers.json", "accelerate.yaml", "deepspeed.json", "training.json", "plan.json"}
    told = {"lock", "state.json", "train.log", "events.jsonl", "readings.bin", "heartbeat.json", "outcome.json"}
    assert found == written_before | told | {"checkpoints", "pipeline"}
    assert removal(run).stays == (), "all of it goes when the run is deleted"
    assert {path.name for path in (run.path / "checkpoints").iterdir()} == {"checkpoint-10", "checkpoint-20"}
    assert all((folder / "COMPLETE").exists() for folder in (run.path / "checkpoints").iterdir())
    assert (run.path / "pipeline/model_index.json").exists()
    assert run.plan()["argv"][1:] == [
        *("-m", "accelerate.commands.launch", "--config_file", "accelerate.yaml", "--main_process_port", "0"),
        *("-m", "launcher.train", str(run.path)),
    ]
    assert (run.path.parent / "cache").is_dir()


def test_the_step_it_came_to_stays_known_whatever_came_after_the_training(real_run):
    assert status(real_run.run).state["step"] == STEPS
    listed = next(line for line in cli("runs").stdout.splitlines() if line.startswith(real_run.run.name))
    assert listed.split()[1:4] == ["completed", "ended", str(STEPS)]


def documented_events() -> dict[str, set[str]]:
    """Fields of each event, as the table in the architecture names them."""
    text = (ROOT / "docs/architecture.md").read_text()
    table = text[text.index("### Events") :].split("\n\n")[2]
    rows = [line.split("|")[1:3] for line in table.splitlines()[2:]]
    return {name.strip(" `"): set(re.findall(r"`(\w+)`", fields)) for name, fields in rows}


def test_every_event_of_a_run_is_documented_with_its_fields(real_run):
    documented = documented_events()
    seen = events(real_run.run)
    for event in seen:
        inner = {key for key in ("seconds",) if isinstance(event.get(key), dict)}
        names = set(event) | {name for key in inner for name in event[key]}
        for rank in event.get("vram_mib") or []:
            names |= set(rank)
        assert names - {"time", "event"} <= documented[event["event"]], event
        if event["event"] == "phase":
            assert event["phase"] in documented["phase"]
        assert isinstance(event["time"], float)
    expected = {"start", "phase", "configuration", "buckets", "model", "data", "step"}
    expected |= {"evaluation", "checkpoint", "export", "end"}
    assert {event["event"] for event in seen} == expected
    steps = [event for event in seen if event["event"] == "step"]
    assert [event["step"] for event in steps] == list(range(1, 21))
    assert set(steps[0]) - {"time", "event"} == documented["step"] - {
        *("data", "forward", "backward", "optimizer", "total", "ema"),
        *("allocated", "reserved", "process", "peak"),
    }
    assert [event["time"] for event in seen] == sorted(event["time"] for event in seen)


def test_attach_shows_a_run_that_is_over_and_ends_with_its_exit_code(real_run):
    done = cli("attach", str(real_run.run.path), cwd=real_run.home)
    assert (done.returncode, done.stdout.splitlines()[0][:15]) == (0, "Completed after")
    assert "loss on held-out noise before" in done.stderr


def test_a_pipe_gets_lines_without_a_bar(real_run):
    done = cli("attach", str(real_run.run.path), cwd=real_run.home)
    assert "\r" not in done.stdout + done.stderr
    assert "█" not in done.stderr


def test_logs_are_what_the_processes_wrote(real_run):
    done = cli("logs", str(real_run.run.path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == real_run.run.log.read_text()
    assert "DeepSpeed" in done.stdout


def test_replaying_the_answers_of_a_run_gives_the_same_bytes(real_run):
    run = real_run.run
    exported = json.loads(run.answers.read_text())
    assert exported["schema"] == 1
    plan = planned(str(run.answers), "--run-dir", f"runs/{run.name}", cwd=real_run.home)
    assert plan["run_dir"] == str(run.path)
    for name in [*SAME_EVERYWHERE, "answers.json"]:
        assert plan["files"][name].encode() == (run.path / name).read_bytes(), name
    # Nothing is left to a default, so a later version's defaults change nothing; from another folder too.
    again = cli(
        *("--replay", str(run.answers), "--run-dir", str(run.path), "--strict", "--dry-run", "--json"), cwd=Path("/")
    )
    assert again.returncode == ExitCode.OK, again.stderr
    for name in SAME_EVERYWHERE:
        assert json.loads(again.stdout)["files"][name].encode() == (run.path / name).read_bytes(), name


# terminals that were lost, in every phase


def test_every_way_was_tried_in_every_phase(real_run):
    assert [(lost.phase, lost.way) for lost in real_run.lost] == list(itertools.product(PHASES, WAYS))


def test_a_dashboard_shows_the_phase_within_a_second(real_run):
    assert {f"{lost.phase}, {lost.way}": lost.shown for lost in real_run.lost if lost.shown >= 1.0} == {}


def test_no_lost_terminal_takes_anything_of_the_run_along(real_run):
    for lost in real_run.lost:
        assert lost.left.status is Status.RUNNING, lost
        assert lost.bound == [], lost
    assert len({lost.trainer for lost in real_run.lost}) == 1
    assert len({lost.left.state["supervisor"]["pid"] for lost in real_run.lost}) == 1
    assert not real_run.run.stop_json.exists()


def test_nothing_of_the_training_is_lost(real_run):
    run = real_run.run
    assert [event["step"] for event in events(run, "step")] == list(range(1, STEPS + 1))
    assert len(events(run, "start")) == len(events(run, "end")) == 1
    kept = whole(run.path / "checkpoints")
    assert [checkpoint.step for checkpoint in kept] == [SAVED, STEPS]
    assert [why_damaged(checkpoint.path) for checkpoint in kept] == [None, None]


def test_nothing_of_the_log_is_lost(real_run):
    run = real_run.run
    log = run.log.read_text()
    begun = [event["phase"] for event in events(run, "phase") if event["state"] == "start"]
    assert re.findall(r"INFO launcher\.train: phase (\w+)$", log, re.MULTILINE) == begun
    assert not re.search(r"Traceback|Broken pipe|Input/output error|SIGHUP|Hangup", log)


def test_no_reading_is_missing(real_run):
    run = real_run.run
    header = read_header(run.readings)
    times = [header.began + row[0] for row in read_rows(run.readings, len(header.columns))]
    told = [events(run, "start")[0]["time"], *times, events(run, "export")[-1]["time"]]
    assert max(later - earlier for earlier, later in itertools.pairwise(told)) < 3.0


@pytest.mark.exhaustive
def test_it_trained_what_it_would_have_trained_undisturbed(real_run):
    run, alone = real_run.run, RunDirectory(real_run.home / "runs/undisturbed")
    done = cli("--replay", str(run.answers), "--run-dir", str(alone.path), cwd=real_run.home)
    assert done.returncode == ExitCode.OK, done.stderr
    for of_a_step in ("loss", "grad_norm", "lr"):
        there, here = ([event[of_a_step] for event in events(each, "step")] for each in (alone, run))
        assert there == here
    there, here = (checksums_below(each.path / "pipeline/unet") for each in (alone, run))
    assert there == here


def test_the_readings_are_of_all_processes_of_the_run(real_run):
    names = read_header(real_run.run.readings).columns
    resident = max(row[names.index("run.resident_mib")] for row in read_rows(real_run.run.readings, len(names)))
    # The launcher and its elastic agent are there beside the rank that tells of itself.
    told = max(event["rss_mib"] for event in events(real_run.run, "step"))
    assert 0.8 * told < resident < 2.5 * told
