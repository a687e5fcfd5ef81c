"""``rehearse``: real steps of the tiny SDXL on a CPU, and, with a stand-in's training, every way one can end."""

import hashlib
import io
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.rehearsals import stand_in_plans
from harness.runs import CLI, cli, end_run, events, wait_until_over
from harness.terminal import Terminal
from launcher.errors import ExitCode
from launcher.runs.directory import RunDirectory
from launcher.runs.index import known_runs
from launcher.runs.rehearsal import KEPT_SECONDS, remove_older
from launcher.runs.state import RunStatus, Status, status
from simpletuner_tui.cli import main
from simpletuner_tui.commands.wizard import wizard_in_lines
from simpletuner_tui.documents import run_document
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.session import Session

ROOT = Path(__file__).parents[2]
SETS = {
    "training.resolution": 32,
    "training.max_train_steps": 20,
    "training.checkpointing_steps": 10,
    "training.lr_warmup_steps": 5,
    "training.validation_steps": 1,
    "training.num_validation_images": 1,
    "training.validation_prompt": "a picture that no caption asks for",
    "training.cpu_threads": 1,
    "training.use_ema": "yes",
    "training.output_dir": "mine",
    "accelerate.gas": 2,
}
REAL_RUN = {"training.max_train_steps": 1, "training.num_eval_images": 0, "training.export_pipeline": "no"}
REAL_RUN |= {"training.validation_num_inference_steps": 1}


def sets(values: dict) -> list[str]:
    return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder with what is in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@dataclass
class Rehearsals:
    """A rehearsal whose terminal was closed, the run, and a rehearsal that was interrupted."""

    home: Path
    left: RunDirectory
    """The first, which nobody waited for."""
    listed: str
    """What ``runs --json`` said of it meanwhile."""
    attached: str
    """What ``attach`` said of it afterwards."""
    run: RunDirectory
    output: dict[str, str]
    """What the run had written when the last rehearsal began."""
    interrupted: str
    """What the terminal of the last one showed."""
    code: int


@pytest.fixture(scope="module")
def rehearsals(assets, tmp_path_factory) -> Rehearsals:
    home = tmp_path_factory.mktemp("rehearsals") / "tiny"
    home.mkdir()
    shutil.copy(ROOT / "examples/demo/answers.json", home)
    (home / "assets").symlink_to(assets)
    runs, run = home / "runs", RunDirectory(home / "runs/real")

    def terminal() -> Terminal:
        opened.append(Terminal(CLI, "rehearse", "answers.json", *sets(SETS), cwd=home))
        return opened[-1]

    opened: list[Terminal] = []
    try:
        terminal().read_until("processes meet")
        (path,) = runs.glob(".rehearsal-tiny-*")
        left = RunDirectory(path)
        listed = cli("runs", "--json").stdout
        opened[0].hang_up()
        wait_until_over(left)
        attached = cli("attach", left.name, cwd=home).stdout
        done = cli("--replay", "answers.json", *sets(SETS | REAL_RUN), "--run-dir", "runs/real", cwd=home)
        assert done.returncode == ExitCode.OK, done.stderr
        output = tree(home / "mine")
        terminal().read_until("load the U-Net")
        opened[1].interrupt()
        code = opened[1].wait()
        return Rehearsals(home, left, listed, attached, run, output, opened[1].seen, code)
    finally:
        for each in opened:
            each.close()
        for path in runs.glob(".rehearsal-*"):
            end_run(RunDirectory(path))


# real steps


def test_a_rehearsal_outlives_its_terminal_and_takes_two_whole_steps(rehearsals):
    assert status(rehearsals.left).status is Status.COMPLETED
    steps = events(rehearsals.left, "step")
    assert [step["step"] for step in steps] == [1, 2]
    assert all(step["grad_norm"] > 0 and not step["skipped"] for step in steps)
    of_mine = [run for run in json.loads(rehearsals.listed) if run["path"] == str(rehearsals.left.path)]
    assert [run["rehearsal"] for run in of_mine] == [True]


def test_it_saves_exports_and_draws_nothing(rehearsals):
    written = {"answers.json", "accelerate.yaml", "deepspeed.json", "training.json", "plan.json"}
    told = {"lock", "state.json", "train.log", "events.jsonl", "heartbeat.json", "outcome.json", "readings.bin"}
    assert {path.name for path in rehearsals.left.path.iterdir()} == written | told
    assert not events(rehearsals.left, "checkpoint", "export", "pictures", "evaluation", "resumed", "warning")


def test_it_trains_as_the_run_will(rehearsals):
    # But for its length, which the run of this test has less of.
    there, here = rehearsals.left.deepspeed(), rehearsals.run.deepspeed()
    for config in (there, here):
        assert config["scheduler"]["params"].pop("total_num_steps") in (1, 20)
    assert there == here
    assert there["gradient_accumulation_steps"] == 2
    assert rehearsals.left.training().optimization.max_train_steps == 20


def test_the_run_finds_its_caches_warm(rehearsals):
    (first,), (then,) = events(rehearsals.left, "data"), events(rehearsals.run, "data")
    assert first["latents_computed"] == then["latents_cached"] == 24
    assert first["prompts_computed"] == then["prompts_cached"] > 24, "the prompts of pictures among them"
    assert then["latents_computed"] == then["prompts_computed"] == 0


def test_who_comes_back_is_shown_measured_beside_predicted_and_the_whole_run(rehearsals):
    said, steps = rehearsals.attached, events(rehearsals.left, "step")
    assert re.search(r"^Completed after .+: rehearsed 2 steps$", said, re.MULTILINE)
    host = max(step["rss_mib"] for step in steps)
    assert re.search(rf"^  Host RAM +{host} MiB +\d+\.\d GiB +\d+\.\d % over$", said, re.MULTILINE)
    seconds = steps[-1]["seconds"]
    assert re.search(rf"^  A step +{seconds['total']:.2f} s +-$", said, re.MULTILINE)
    assert f"forward {seconds['forward']:.2f}, backward {seconds['backward']:.2f}" in said
    losses = [f"{step['loss']:.4f}" for step in steps]
    assert f"  {', '.join(losses)}: finite\n" in said
    assert re.search(r"^  Whole run +.+ s: 20 steps \d+\.\d s, 2 saves \d+\.\d s$", said, re.MULTILINE)
    assert "GPU" not in said and "Next, SDXL" not in said


def test_ctrl_c_stops_it_after_its_step_and_tells_what_was_measured(rehearsals):
    assert rehearsals.code == ExitCode.CANCELLED
    assert "It stops once this step is done" in rehearsals.interrupted
    summary = rehearsals.interrupted[rehearsals.interrupted.index("Stopped after") :]
    assert "stopped at step 1: asked to stop" in summary
    assert re.search(r"  Loss +\d\.\d{4}: finite", summary)
    assert "one step only" in summary


def test_it_neither_continues_nor_touches_what_the_run_has_saved(rehearsals):
    assert "continues from step" not in rehearsals.interrupted
    assert any(name.startswith("checkpoints/checkpoint-1/") for name in rehearsals.output)
    assert tree(rehearsals.home / "mine") == rehearsals.output


def test_nothing_is_left_of_one_that_was_followed(rehearsals):
    assert {path.name for path in rehearsals.left.path.parent.iterdir()} == {"cache", "real", rehearsals.left.name}
    assert [run.name for run in known_runs() if "rehearsal" in run.name] == [rehearsals.left.name]


# every way one can end


@pytest.fixture
def rehearse(home, monkeypatch, capsys):
    """Rehearses ``home``'s answers in this process, with a stand-in for the training."""
    monkeypatch.chdir(home)

    def do(mode: str, *options: str) -> tuple[int, str, str]:
        monkeypatch.setattr("simpletuner_tui.rehearsing.rehearsal_plan", stand_in_plans(mode))
        code = main(["rehearse", "answers.json", *options])
        return code, *capsys.readouterr()

    return do


def test_as_json_it_is_one_object_and_nothing_stays(home, rehearse):
    code, out, err = rehearse("short", "--json", "--run-dir", "my runs/cats")
    told = json.loads(out)
    assert code == ExitCode.OK
    assert told["run"] == str(home / "my runs/.rehearsal-cats")
    assert (told["status"], told["steps"], told["finite"]) == ("completed", 3, True)
    nothing = {"gpu_reserved_mib": None, "gpu_process_mib": None}
    assert told["measured"] == {**nothing, "host_mib": 512, "step_seconds": 0.1}
    assert told["predicted"]["host_mib"] > 0
    whole_run = {"steps": 1000, "saves": 2, "step_seconds": 100.0, "save_seconds": None, "seconds": 100.0}
    assert told["whole_run"] == whole_run
    assert ".rehearsal-cats in " in err
    assert list((home / "my runs").iterdir()) == []
    assert known_runs() == []


def test_one_that_fails_says_why_as_a_run_does_and_stays(home, rehearse):
    code, out, err = rehearse("failure")
    (left,) = (home / "runs").iterdir()
    assert code == ExitCode.USAGE
    assert f"error: this picture is damaged\n  log  {left / 'train.log'}\n  exit 2\n" in err
    assert out.startswith("Failed after") and str(left.relative_to(home)) in out
    assert rehearse("short")[0] == ExitCode.OK
    assert list((home / "runs").iterdir()) == [left], "it stays until a person removes it"


def test_what_would_refuse_the_run_refuses_its_rehearsal_and_force_holds(home, rehearse):
    forever = sets({"training.max_train_steps": 10**9, "training.checkpointing_steps": 1})
    forever += sets({"training.checkpoints_total_limit": 10**9})
    code, out, err = rehearse("short", *forever)
    assert (code, out) == (ExitCode.CANNOT_RUN_HERE, "")
    assert "error: training.output_dir:" in err
    assert not (home / "runs").exists()
    assert rehearse("short", "--force", *forever)[0] == ExitCode.OK


def test_one_that_nobody_waited_for_goes_when_another_begins(tmp_path, started):
    run = started("short", ".rehearsal-cats", rehearsal={"steps": 2, "checkpoint_mib": 1, "saves_here": True})
    assert wait_until_over(run).status is Status.COMPLETED
    remove_older(tmp_path)
    assert run.path.exists(), "who follows it may not have seen its end yet"
    ended = json.loads(run.state_json.read_text())
    run.state_json.write_text(json.dumps({**ended, "ended": ended["ended"] - KEPT_SECONDS}))
    remove_older(tmp_path)
    assert not run.path.exists()


def test_the_lines_rehearse_too_and_go_on(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    monkeypatch.setattr("simpletuner_tui.rehearsing.rehearsal_plan", stand_in_plans("short"))
    monkeypatch.setattr("sys.stdin", io.StringIO("rest\nrehearse\nquit\n"))
    answers = json.loads((home / "answers.json").read_text())["answers"]
    session = Session(REGISTRY, answers)
    assert wizard_in_lines(run_document(), session, prompts=False) == ExitCode.OK
    out = capsys.readouterr().out
    assert out.count("rehearse (two steps of it)") == 2
    assert re.search(r"Completed after .+\n +measured  predicted\n  Host RAM +512 MiB", out)
    assert list((home / "runs").iterdir()) == []


def test_commands_know_that_it_saves_nothing(started):
    run = started("long", ".rehearsal-cats", rehearsal={"steps": 2, "checkpoint_mib": 1, "saves_here": True})
    assert "running, rehearsal" in cli("runs").stdout
    said = cli("stop", run.name).stderr
    assert "finishes the step, and ends; `stop` again" in said
    assert isinstance(wait_until_over(run), RunStatus)
