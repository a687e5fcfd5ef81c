"""--replay and the commands beside it, as processes: what they print, where, and how they end."""

import hashlib
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from PIL import Image

from harness.drives import wants_512
from harness.runs import CLI, SAME_EVERYWHERE, cli, end_run, events, planned, stand_in_run, wait_until_over
from harness.terminal import Terminal
from launcher.errors import ExitCode
from launcher.machine.nvme_drive import why_no_nvme_offload
from launcher.runs.directory import RunDirectory
from launcher.runs.state import status
from simpletuner_tui.questions import REGISTRY

FILES = ["answers.json", "accelerate.yaml", "deepspeed.json", "training.json", "plan.json"]
HUGE = (
    *("--set", "training.max_train_steps=1000000000", "--set", "training.checkpointing_steps=1"),
    *("--set", "training.checkpoints_total_limit=1000000000"),
)
"""More checkpoints than any disk holds."""


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder with what is in it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def training(*arguments: str, cwd: Path, stdin: str | None = None) -> dict:
    """training.json of a dry run."""
    return json.loads(planned(*arguments, cwd=cwd, stdin=stdin)["files"]["training.json"])


def answers_of(home: Path) -> dict:
    return json.loads((home / "answers.json").read_text())["answers"]


# dry run


def test_a_dry_run_prints_files_and_command_and_writes_nothing(home):
    before = tree(home.parent)
    done = cli("--replay", "answers.json", "--dry-run", "--run-dir", "my runs/it's one", cwd=home)
    assert done.returncode == ExitCode.OK
    assert tree(home.parent) == before
    assert not (home / "my runs").exists()
    run_dir = home / "my runs/it's one"
    for name in FILES:
        assert f"# {run_dir / name}\n" in done.stdout
    *_, place, command = done.stdout.splitlines()
    assert place == f"# in {run_dir}"
    # A shell understands it, whatever the folder is called.
    environment = [word for word in shlex.split(command) if re.match(r"[A-Z_]+=", word)]
    assert "PYTHONUNBUFFERED=1" in environment
    launch = ["-m", "accelerate.commands.launch", "--config_file", "accelerate.yaml", "--main_process_port", "0"]
    assert shlex.split(command)[len(environment) + 1 :] == [*launch, "-m", "launcher.train", str(run_dir)]


def test_a_dry_run_for_programs_is_one_object(home):
    plan = planned("answers.json", cwd=home)
    assert set(plan) == {"run_dir", "argv", "environment", "files", "estimate"}
    assert list(plan["files"]) == FILES
    assert yaml.safe_load(plan["files"]["accelerate.yaml"])["deepspeed_config"] == {
        "deepspeed_config_file": "deepspeed.json",
        "zero3_init_flag": False,
    }
    assert json.loads(plan["files"]["plan.json"])["argv"] == plan["argv"]
    assert re.fullmatch(rf"{re.escape(str(home))}/runs/cats-\d{{8}}-\d{{6}}", plan["run_dir"])
    assert plan["estimate"]["disk_mib"] >= 0


def test_a_dry_run_says_what_a_launch_would_refuse(home):
    done = cli("--replay", "answers.json", "--dry-run", "--json", *HUGE, cwd=home)
    assert done.returncode == ExitCode.CANNOT_RUN_HERE
    assert "error: training.output_dir:" in done.stderr
    json.loads(done.stdout)
    forced = cli("--replay", "answers.json", "--dry-run", "--json", "--force", *HUGE, cwd=home)
    assert forced.returncode == ExitCode.OK
    assert "warning: training.output_dir:" in forced.stderr and "error" not in forced.stderr


# where answers come from


def test_answers_from_stdin_count_paths_from_here(home):
    text = (home / "answers.json").read_text()
    plan = planned("-", cwd=home, stdin=text)
    assert json.loads(plan["files"]["training.json"])["instance_data_dir"] == str(home / "pictures")
    assert Path(plan["run_dir"]).name.startswith("sdxl-")
    assert (
        planned("-", "--run-dir", "r", cwd=home, stdin=text)["files"]
        == (planned("answers.json", "--run-dir", "r", cwd=home)["files"])
    )


@pytest.mark.parametrize("stdin", ["", "{", None])
def test_stdin_that_holds_no_answers_is_refused(home, stdin):
    done = cli("--replay", "-", cwd=home, stdin=stdin)
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert "error: stdin is not a JSON file" in done.stderr


def test_a_closed_stdin_is_no_defect(home):
    for command in (f"{CLI} --replay - <&-", f"{CLI} check - <&-", f"{CLI} <&-"):
        done = subprocess.run(["sh", "-c", command], cwd=home, capture_output=True, text=True, check=False)
        assert done.returncode == ExitCode.USAGE, done.stderr
        assert done.stderr.count("error:") == 1
        assert "should not have happened" not in done.stderr


def test_runs_are_called_after_the_file_or_its_folder(home):
    (home / "black dog.json").write_bytes((home / "answers.json").read_bytes())
    assert Path(planned("black dog.json", cwd=home)["run_dir"]).name.startswith("black dog-")
    assert Path(planned("../cats/answers.json", cwd=home)["run_dir"]).name.startswith("cats-")
    assert planned("answers.json", "--run-dir", "~/x", cwd=home)["run_dir"] == str(Path("~/x").expanduser())


# what is typed


def test_set_answers_over_the_file(home):
    found = training(
        *("answers.json", "--set", "training.seed=7", "--set", "training.learning_rate=1e-6"),
        *("--set", "training.gradient_checkpointing=no", "--set", "training.validation_prompt=a=b, c"),
        *("--set", "training.seed=8"),
        cwd=home,
    )
    assert (found["seed"], found["learning_rate"], found["gradient_checkpointing"]) == (8, 1e-6, False)
    assert found["validation_prompt"] == "a=b, c"


def test_a_typed_path_counts_from_here_and_not_from_the_file(home):
    (home / "elsewhere").mkdir()
    (home / "elsewhere/more").symlink_to(home / "pictures")
    found = training("../answers.json", "--set", "training.instance_data_dir=more", cwd=home / "elsewhere")
    assert found["instance_data_dir"] == str(home / "elsewhere/more")
    assert found["pretrained_model_name_or_path"] == str(home / "model")


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("training.sed=1", "error: training.sed: no question has this id; did you mean training.seed"),
        ("training.seed", "error: --set training.seed: write it as --set id=value"),
        ("training.seed=x", "error: training.seed: type a number, such as 8 or 1e-5"),
        ("training.seed=-1", "error: training.seed: must be at least 0"),
        ("accelerate.zero_stage=7", "error: accelerate.zero_stage: "),
    ],
)
def test_a_typed_answer_that_does_not_do_is_refused(home, assignment, message):
    done = cli("--replay", "answers.json", "--dry-run", "--set", assignment, cwd=home)
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert done.stderr.startswith(message)
    assert done.stderr.count("error:") == 1


def test_offload_param_path_is_both_folders_for_nvme_but_for_one_that_is_named(home):
    offload = ("--replay", "answers.json", "--dry-run", "--offload_param_path", "fast")
    without = cli(*offload, cwd=home)
    assert without.returncode == ExitCode.OK
    assert "warning: training.offload_param_path: is not used" in without.stderr
    # Where they are asked they are filled; which drive it is decides this machine.
    stage3 = ("--set", "accelerate.zero_stage=3", "--set", "accelerate.offload_optimizer=nvme")
    both = (*offload, *stage3, "--set", "accelerate.offload_param=nvme", "--json")
    for told, kept, folder in (
        ((), ("param", "optimizer"), "fast"),
        (
            ("--set", "accelerate.param_nvme=", "--set", "accelerate.optimizer_nvme=None"),
            ("param", "optimizer"),
            "fast",
        ),
        (("--set", "accelerate.param_nvme=own"), ("optimizer",), "own"),
    ):
        nvme = cli(*both, *told, cwd=home)
        zero = json.loads(json.loads(nvme.stdout)["files"]["deepspeed.json"])["zero_optimization"]
        assert zero["offload_optimizer"]["nvme_path"] == str(home / "fast")
        assert zero["offload_param"]["nvme_path"] == str(home / folder)
        notes = [f"accelerate.{part}_nvme: {home}/fast, from training.offload_param_path" for part in kept]
        assert [line for line in nvme.stderr.splitlines() if line.startswith("note: accelerate.")] == [
            f"note: {note}" for note in notes
        ]


def test_offload_param_path_is_an_answer_that_the_questions_begin_with(home):
    lines = "model\nrest\npictures\nrest\nlist\nquit\n"
    asked = cli("--accessible", "--offload_param_path", "fast", cwd=home, stdin=lines)
    assert ". training.offload_param_path: fast\n" in asked.stdout
    assert "offload_param_path" not in cli("--accessible", cwd=home, stdin=lines).stdout


def test_offload_param_path_fills_a_deepspeed_file_from_the_answers_folder(home, monkeypatch):
    zero = {
        "stage": 3,
        "offload_param": {"device": "nvme", "nvme_path": "none"},
        "offload_optimizer": {"device": "nvme"},
    }
    (home / "ds.json").write_text(json.dumps({"zero_optimization": zero}))
    answers = json.loads((home / "answers.json").read_text())
    by_file = {"accelerate.ds_use_json": True, "accelerate.ds_json": "ds.json", "training.offload_param_path": "~/fast"}
    only_inline = ("accelerate.offload_optimizer", "accelerate.mixed_precision")
    kept = {key: value for key, value in answers["answers"].items() if key not in only_inline}
    (home / "file.json").write_text(json.dumps({**answers, "answers": {**kept, **by_file}}))
    nvme = cli("--replay", str(home / "file.json"), "--dry-run", "--json", cwd=home.parent, HOME=str(home))
    zero = json.loads(json.loads(nvme.stdout)["files"]["deepspeed.json"])["zero_optimization"]
    for part in ("offload_optimizer", "offload_param"):
        assert zero[part]["nvme_path"] == str(home / "fast")
        assert re.search(rf"note: ds.json: zero_optimization.{part}.nvme_path: .*offload_param_path", nvme.stderr)


def test_nvme_without_any_folder_is_refused_before_a_folder_named_none_is_made(home):
    stage3 = ("--set", "accelerate.zero_stage=3", "--set", "accelerate.offload_optimizer=nvme")
    for nothing in ("none", ""):
        done = cli("check", "answers.json", *stage3, "--set", f"accelerate.optimizer_nvme={nothing}", cwd=home)
        assert done.returncode == ExitCode.USAGE
        assert "error: accelerate.optimizer_nvme: " in done.stderr


def test_nvme_offload_to_a_drive_that_corrupts_it_ends_with_3_and_names_the_question(home):
    stage3 = ("--set", "accelerate.zero_stage=3", "--set", "accelerate.offload_optimizer=nvme")
    done = cli("--replay", "answers.json", "--run-dir", "run", *stage3, "--offload_param_path", "fast", cwd=home)
    reason = why_no_nvme_offload(home / "fast")
    if reason is not None:  # else this is a machine with an NVMe drive, on which the launch may fail for its model
        assert done.returncode == ExitCode.CANNOT_RUN_HERE
        said = f"training.offload_param_path: NVMe offload cannot go to {home}/fast: {reason}; choose cpu, or"
        assert f"error: {said} a folder on a local NVMe drive\n" in done.stderr
        assert not (home / "run").exists()
        assert not (home / "fast").exists()
    if wants_512(home):
        assert "wants memory aligned to 512 bytes, and DeepSpeed 0.19.8 aligns it to 4" in reason


def test_nvme_offload_in_host_memory_is_refused_but_for_tests(home, in_memory):
    stage3 = ("--set", "accelerate.zero_stage=3", "--set", "accelerate.offload_optimizer=nvme")
    check = ("check", "answers.json", *stage3, "--offload_param_path", str(in_memory))
    refused = cli(*check, cwd=home)
    assert refused.returncode == ExitCode.CANNOT_RUN_HERE
    message = f"training.offload_param_path: NVMe offload cannot go to {in_memory}: it is in host memory (tmpfs)"
    assert f"error: {message}" in refused.stderr
    waived = cli(*check, cwd=home, SIMPLETUNER_TUI_UNSAFE_NVME="1")
    assert waived.returncode == ExitCode.OK
    assert f"warning: {message}" in waived.stderr


def test_strict_lists_every_answer_left_to_its_default(home):
    done = cli("--replay", "answers.json", "--dry-run", "--strict", cwd=home)
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert "error: training.seed: is left to its default, 42\n" in done.stderr
    assert "training.resolution" not in done.stderr
    assert cli("check", "answers.json", "--strict", cwd=home).returncode == ExitCode.USAGE
    plan = planned("answers.json", cwd=home)
    (home / "all.json").write_text(plan["files"]["answers.json"].replace("../../", "./"))
    assert cli("check", "all.json", "--strict", cwd=home).returncode == ExitCode.OK


# starting


def test_detach_starts_a_run_prints_its_folder_and_leaves(home):
    done = cli("--replay", "answers.json", "--detach", cwd=home)
    run = RunDirectory(Path(done.stdout.strip()))
    try:
        assert done.returncode == ExitCode.OK
        assert run.path.parent == home / "runs"
        assert f"simpletuner-tui attach {run.name} · stop {run.name} · logs {run.name}" in done.stderr
        assert status(run).live
        assert cli("stop", run.name, "--now").returncode == ExitCode.OK
        wait_until_over(run)
    finally:
        end_run(run)


def test_force_starts_what_only_an_estimate_refuses(home):
    refused = cli("--replay", "answers.json", "--run-dir", "run", "--detach", *HUGE, cwd=home)
    assert (refused.returncode, refused.stdout) == (ExitCode.CANNOT_RUN_HERE, "")
    assert not (home / "run").exists()
    forced = cli("--replay", "answers.json", "--run-dir", "run", "--detach", "--force", *HUGE, cwd=home)
    try:
        assert forced.returncode == ExitCode.OK
        assert "warning: training.output_dir: " in forced.stderr
    finally:
        end_run(RunDirectory(home / "run"))


def test_force_does_not_start_what_cannot_run(home):
    done = cli("--replay", "answers.json", "--force", "--set", "training.train_batch_size=5", *HUGE, cwd=home)
    assert done.returncode == ExitCode.USAGE
    assert done.stderr.count("error:") == 1
    assert "error: training.train_batch_size" in done.stderr


def test_a_run_that_fails_tells_why_without_a_traceback(home):
    # The model is all header: it is found out when it is loaded.
    done = cli("--replay", "answers.json", "--run-dir", "run", "--json", cwd=home)
    run = RunDirectory(home / "run")
    over = wait_until_over(run)
    assert done.returncode == over.state["exit_code"] != ExitCode.OK
    assert "Traceback" not in done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == events(run)
    assert events(run)[-1]["result"] == "failed"
    assert "Traceback" in run.log.read_text()


# a folder that is taken


@pytest.mark.parametrize("detach", [(), ("--detach",)])
def test_a_folder_that_is_no_run_is_not_written(home, detach):
    before = tree(home / "pictures")
    done = cli("--replay", "answers.json", "--run-dir", "pictures", *detach, cwd=home)
    assert (done.returncode, done.stdout) == (ExitCode.REFUSED_TO_OVERWRITE, "")
    taken = home / "pictures"
    assert done.stderr == f"error: --run-dir: {taken} is there already and is no run; choose another\n"
    assert tree(home / "pictures") == before


def test_a_run_that_is_there_is_continued_only_if_the_answers_say_so(home):
    run = stand_in_run(home / "run", "short")
    (run.path / "checkpoints/checkpoint-3").mkdir(parents=True)
    before = tree(run.path)
    done = cli(
        *("--replay", "answers.json", "--run-dir", "run", "--set", "training.resume_from_checkpoint=no"), cwd=home
    )
    assert (done.returncode, done.stdout) == (ExitCode.REFUSED_TO_OVERWRITE, "")
    assert "answer `latest` to continue it" in done.stderr
    assert tree(run.path) == before
    done = cli("--replay", "answers.json", "--run-dir", "run", "--detach", cwd=home)
    try:
        assert done.returncode == ExitCode.OK
        assert (run.path / "checkpoints/checkpoint-3").exists()
    finally:
        end_run(run)


def test_an_empty_folder_is_free(home):
    (home / "run").mkdir()
    done = cli("--replay", "answers.json", "--run-dir", "run", "--detach", cwd=home)
    end_run(RunDirectory(home / "run"))
    assert done.returncode == ExitCode.OK


# check, estimate, questions


def test_check_says_that_it_can_run(home):
    done = cli("check", "answers.json", cwd=home)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "answers.json can run here\n")
    assert not (home / "runs").exists()
    told = json.loads(cli("check", "answers.json", "--json", cwd=home).stdout)
    assert (told["exit_code"], told["findings"]) == (0, [])


def test_check_and_a_dry_run_show_the_table_of_buckets(home):
    for number, shape in enumerate(((96, 64), (64, 96))):
        Image.new("RGB", shape).save(home / f"pictures/0{number}.png")
    aligned = ("--set", "training.aspect_bucket_alignment=16")
    checked = cli("check", "answers.json", *aligned, cwd=home)
    dry = cli("--replay", "answers.json", "--dry-run", *aligned, cwd=home)
    for done in (checked, dry):
        assert done.returncode == 0
        assert "note: training.instance_data_dir: 4 pictures in 3 buckets; a step takes 1 of one bucket" in done.stderr
        rows = [line.split()[:3] for line in done.stderr.splitlines() if line.startswith("  ")]
        assert rows[1:] == [["48x80", "0.60", "1"], ["64x64", "1.00", "2"], ["80x48", "1.67", "1"]]


def test_check_tells_every_fault_at_once(home):
    (home / "model/vae/config.json").unlink()
    (home / "pictures/00.png").write_bytes(b"")
    (home / "pictures/01.png").unlink()
    done = cli("check", "answers.json", "--run-dir", "answers.json/run", cwd=home)
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    faults = ("training.pretrained_model_name_or_path", "training.instance_data_dir", "--run-dir")
    assert [line.split(": ")[1] for line in done.stderr.splitlines() if line.startswith("error")] == [*faults]
    told = cli("check", "answers.json", "--run-dir", "answers.json/run", "--json", cwd=home)
    assert told.returncode == ExitCode.USAGE
    content = json.loads(told.stdout)
    assert content["exit_code"] == ExitCode.USAGE
    assert [(finding["field"], finding["level"]) for finding in content["findings"]] == [
        (fault, "error") for fault in faults
    ]


def test_estimate_prices_a_run_part_by_part(home):
    done = cli("estimate", "answers.json", cwd=home)
    assert (done.returncode, done.stderr) == (0, "")
    for title in ("GPU memory, training step: ", "Host RAM: ", "Disk: "):
        assert re.search(rf"^{title}\d+(\.\d)? [MG]iB", done.stdout, re.MULTILINE), title
    cost = json.loads(cli("estimate", "answers.json", "--json", cwd=home).stdout)
    assert cost["disk_mib"] == sum(part["mib"] for part in cost["disk"])
    peak = next(phase for phase in cost["gpu"] if phase["name"] == cost["gpu_peak"])
    row = rf"^  [a-z ]+ +{peak['allocated_mib']:,} +{peak['reserved_mib']:,} +{cost['gpu_mib']:,}$"
    assert re.search(row, done.stdout, re.MULTILINE)
    dear = json.loads(cli("estimate", "answers.json", "--json", *HUGE, cwd=home).stdout)
    assert dear["disk_mib"] > 1000 * max(cost["disk_mib"], 1)


def test_estimate_is_held_against_a_card_of_a_size(home):
    cost = json.loads(cli("estimate", "answers.json", "--json", "--vram", "24GiB", cwd=home).stdout)
    assert (cost["card"]["free_mib"], cost["card"]["verdict"]) == (24 * 1024, "fits")
    done = cli("estimate", "answers.json", "--vram", "100MiB", cwd=home)
    assert f"Does not fit: needs {cost['gpu_least_mib']:,} MiB, a card with 100 MiB free has 100.\n" in done.stdout
    refused = cli("estimate", "answers.json", "--vram", "12", cwd=home)
    assert (refused.returncode, refused.stdout) == (ExitCode.USAGE, "")
    assert "a size with its unit is needed, such as 12GiB" in refused.stderr


def test_questions_are_printed_for_people_and_for_programs(tmp_path):
    done = cli("questions", "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [question["id"] for question in json.loads(done.stdout)] == [question.id for question in REGISTRY]
    people = cli("questions", cwd=tmp_path)
    assert (people.returncode, people.stderr) == (0, "")
    assert all(f"\n{question.id}\n" in people.stdout for question in REGISTRY)


@pytest.mark.parametrize("command", [("questions", "--json"), ("questions",), ("runs", "--json"), ("--help",)])
def test_a_reader_that_goes_away_is_no_failure(command):
    shell = f"{shlex.join([CLI, *command])} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_output_that_cannot_be_written_is_a_failure_with_its_reason():
    done = subprocess.run(f"{CLI} questions >/dev/full", shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.RUN_FAILED
    assert done.stderr.count("No space left on device") == 1
    assert "Exception ignored" not in done.stderr


# no command


def test_no_input_at_all_names_the_ways_without_a_terminal(tmp_path):
    done = cli(cwd=tmp_path)
    assert done.returncode == ExitCode.USAGE
    assert done.stderr.count("error:") == 1
    assert "--replay answers.json" in done.stderr and "--accessible" in done.stderr


@pytest.mark.parametrize("ways", [{}, {"arguments": ["--accessible"]}, {"environment": {"ACCESSIBLE": "1"}}])
def test_piped_stdin_answers_the_questions_as_lines(home, ways):
    typed = ["?", "back", "quit"]
    done = cli(*ways.get("arguments", []), cwd=home, stdin="\n".join(typed) + "\n", **ways.get("environment", {}))
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^1/\d+  ", done.stdout, re.MULTILINE)
    assert "This is the first question." in done.stdout
    assert done.stdout.endswith("Nothing was started.\n")
    assert "\x1b" not in done.stdout


def test_lines_lead_to_a_file_that_replays_as_one_written_by_hand(home):
    def typed(*lines: str) -> str:
        done = cli(cwd=home, stdin="\n".join((*lines, "quit")) + "\n")
        assert done.returncode == ExitCode.OK, done.stderr
        return done.stdout

    proposed = {
        key: value
        for key, value in answers_of(home).items()
        if key not in ("accelerate.offload_optimizer", "accelerate.mixed_precision")
    }
    (home / "answers.json").write_text(json.dumps({"schema": 1, "answers": proposed}))
    walked = ["./model", "rest", "./pictures", "64", "rest"]
    listed = dict(re.findall(r"^(\d+)\. ([\w.]+): ", typed(*walked, "list"), re.MULTILINE))
    number = {question: number for number, question in listed.items()}
    changed = [number["accelerate.use_cpu"], "yes", number["accelerate.use_deepspeed"], "yes", "rest"]
    said = typed(*walked, *changed, "cost", "save lines.json", "save answers.json")
    assert "Host RAM: " in said
    assert "Saved. `simpletuner-tui --replay lines.json` starts it." in said
    assert "answers.json is there already; give another name" in said
    ours, theirs = (planned(name, "--run-dir", "run", cwd=home)["files"] for name in ("lines.json", "answers.json"))
    assert {name: ours[name] for name in SAME_EVERYWHERE} == {name: theirs[name] for name in SAME_EVERYWHERE}


def test_lines_recommend_and_take_it_back(home):
    walked = (
        "./model",
        "rest",
        "./pictures",
        "64",
        "rest",
        "recommend 12",
        "recommend 12GiB",
        "take back",
        "take back",
    )
    done = cli(cwd=home, stdin="\n".join((*walked, "quit")) + "\n")
    assert done.returncode == ExitCode.OK
    said = done.stdout
    assert "a size with its unit is needed, such as 12GiB" in said
    assert "Of 12.0 GiB of VRAM, " in said
    assert said.index("What it changes:") < said.index("The answers say so now; `take back` undoes it.")
    assert said.index("The answers are what they were before.") < said.index("there is no recommendation to take back")


def test_ctrl_c_at_a_question_cancels(home):
    terminal = Terminal(CLI, "--accessible", cwd=home)
    try:
        terminal.read_until("> ")
        terminal.interrupt()
        assert terminal.wait() == ExitCode.CANCELLED
        assert "cancelled; nothing was started" in terminal.seen
        assert "Traceback" not in terminal.seen
    finally:
        terminal.close()


def test_hanging_up_at_a_question_ends_it(home):
    terminal = Terminal(CLI, "--accessible", cwd=home)
    try:
        terminal.read_until("> ")
        terminal.hang_up()
        assert terminal.wait() == ExitCode.HANGUP
    finally:
        terminal.close()
