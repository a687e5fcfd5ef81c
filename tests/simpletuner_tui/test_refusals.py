"""Bad input at the command line: one clear message, the documented exit code, and nothing that was there is touched."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from harness.fake_model import write_pictures
from harness.runs import cli, stand_in_run
from launcher.errors import ExitCode
from launcher.runs.checkpoints import FACTS, Identity
from launcher.runs.marker import mark
from simpletuner_tui.cli import main

ANSWERS = "answers.json"
HUGE = {
    "training.max_train_steps": 10**9,
    "training.checkpointing_steps": 1,
    "training.checkpoints_total_limit": 10**9,
}
"""More checkpoints than any disk holds."""


def change(home: Path, **rest) -> None:
    """Answers over those of the file; keywords replace its other entries."""
    document = json.loads((home / ANSWERS).read_text())
    document["answers"].update(rest.pop("answers", {}))
    (home / ANSWERS).write_text(json.dumps({**document, **rest}))


def truncate(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def shrink(path: Path) -> None:
    Image.new("RGB", (64, 63)).save(path)


FAULTS = {
    "no answers": (lambda home: (home / ANSWERS).unlink(), r"answers\.json cannot be read: No such file"),
    "a folder for answers": (
        lambda home: ((home / ANSWERS).unlink(), (home / ANSWERS).mkdir()),
        r"answers\.json cannot be read: Is a directory",
    ),
    "empty answers": (lambda home: (home / ANSWERS).write_text(""), r"answers\.json is not a JSON file"),
    "cut answers": (lambda home: truncate(home / ANSWERS, 40), r"answers\.json is not a JSON file: .*line 1 column"),
    "binary answers": (lambda home: (home / ANSWERS).write_bytes(b"\xff\x00\xfe"), r"answers\.json is not a JSON file"),
    "other JSON": (lambda home: (home / ANSWERS).write_text("[]"), r"answers\.json is not a file of answers: it needs"),
    "newer answers": (
        lambda home: change(home, schema=2, tool="9.0"),
        r"schema 2, and this version knows 1: it was made by a newer simpletuner-tui \(9\.0\); update to read it",
    ),
    "an unknown id": (
        lambda home: change(home, answers={"training.resolutoin": 64}),
        r"training\.resolutoin: no question has this id; did you mean training\.resolution",
    ),
    "a wrong type": (
        lambda home: change(home, answers={"training.max_train_steps": "many"}),
        r"training\.max_train_steps: must be a number, not 'many'",
    ),
    "a value out of bounds": (
        lambda home: change(home, answers={"training.train_batch_size": 0}),
        r"training\.train_batch_size: must be at least 1",
    ),
    "no model": (
        lambda home: shutil.rmtree(home / "model"),
        r"training\.pretrained_model_name_or_path: /.*/model does not exist; give a diffusers folder, a file or a hub",
    ),
    "a folder that is no model": (
        lambda home: (home / "model/model_index.json").unlink(),
        r"training\.pretrained_model_name_or_path: /.*/model is not a diffusers model: it has no model_index",
    ),
    "a model without a component": (
        lambda home: shutil.rmtree(home / "model/text_encoder_2"),
        r"training\.pretrained_model_name_or_path: /.*/model lacks text_encoder_2: .*; copy what is missing",
    ),
    "a model without weights": (
        lambda home: (home / "model/vae/model.safetensors").unlink(),
        r"training\.pretrained_model_name_or_path: /.*/model lacks vae: .*; copy what is missing",
    ),
    "a model without a U-Net": (
        lambda home: shutil.rmtree(home / "model/unet"),
        r"/.*/model/? ?.*unet.*copy",
    ),
    "damaged weights": (
        lambda home: truncate(home / "model/unet/model.safetensors", 50),
        r"training\.pretrained_model_name_or_path: /.*/model/unet/model\.safetensors is not a whole .*; copy it again",
    ),
    "a damaged configuration": (
        lambda home: truncate(home / "model/vae/config.json", 5),
        r"training\.pretrained_model_name_or_path: /.*/model/vae/config\.json cannot be read: .*; copy it again",
    ),
    "a resolution between two steps": (
        lambda home: change(home, answers={"training.resolution": 60}),
        r"training\.resolution: must be a multiple of 8 for this model: 56 or 64, not 60",
    ),
    "no pictures folder": (
        lambda home: shutil.rmtree(home / "pictures"),
        r"training\.instance_data_dir: /.*/pictures is not a folder; training\.instance_data_dir names",
    ),
    "an empty folder": (
        lambda home: (shutil.rmtree(home / "pictures"), (home / "pictures").mkdir()),
        r"training\.instance_data_dir: /.*/pictures has no pictures \(.*\.png.*\); put them there",
    ),
    "a missing picture": (
        lambda home: (home / "pictures/01.png").unlink(),
        r"/.*/pictures/01\.txt: a caption without a picture; add the picture or remove the caption",
    ),
    "a missing caption": (
        lambda home: (home / "pictures/01.txt").unlink(),
        r"/.*/pictures/01\.png: has no caption; write one into 01\.txt beside it",
    ),
    "a caption in another encoding": (
        lambda home: (home / "pictures/01.txt").write_bytes("Bär".encode("latin-1")),
        r"/.*/pictures/01\.png: its caption 01\.txt is not UTF-8 text; save it as UTF-8",
    ),
    "a zero-byte picture": (
        lambda home: (home / "pictures/01.png").write_bytes(b""),
        r"/.*/pictures/01\.png: the file is empty \(0 bytes\); replace or remove it",
    ),
    "a picture that is none": (
        lambda home: (home / "pictures/01.png").write_text("GIF, honestly"),
        r"/.*/pictures/01\.png: cannot be read as a picture \(.*\); replace or remove it",
    ),
    "a picture whose header is cut": (
        lambda home: truncate(home / "pictures/01.png", 20),
        r"/.*/pictures/01\.png: cannot be read as a picture \(.*\); replace or remove it",
    ),
    "a picture that is a dangling link": (
        lambda home: ((home / "pictures/01.png").unlink(), (home / "pictures/01.png").symlink_to("gone")),
        r"/.*/pictures/01\.(png|txt): .*(replace|add|remove)",
    ),
    "a small picture": (
        lambda home: shrink(home / "pictures/01.png"),
        r"/.*/pictures/01\.png: 64x63 is smaller than the resolution of 64; use larger pictures, lower",
    ),
    "a batch larger than the data set": (
        lambda home: change(home, answers={"training.train_batch_size": 2, "accelerate.gas": 3}),
        r"training\.train_batch_size: one step takes 6 pictures \(2 a micro-batch x 3 accumulation x 1 processes\), "
        r"but there are only 4; lower one of them or add pictures",
    ),
}
"""What makes it so, and what is said; all of them are the input's fault."""

MACHINE_FAULTS = {
    "a disk too small": (
        lambda home: change(home, answers=HUGE),
        r"training\.output_dir: /.* needs \d+\.\d GiB \(checkpoints, .*\), and .* are free on its disk\. One "
        r"checkpoint takes .*: lower training\.checkpoints_total_limit, .* or choose another disk",
    ),
    "an output folder below a file": (
        lambda home: change(home, answers={"training.output_dir": f"{ANSWERS}/out"}),
        r"training\.output_dir: /.*/answers\.json/out cannot be written: /.*/answers\.json is a file; choose another",
    ),
    "a cache that cannot be written": (
        lambda home: change(home, answers={"training.cache_dir": "/proc/cache"}),
        r"training\.cache_dir: /proc/cache cannot be written: .*/proc.*; choose another",
    ),
}
"""Input that another machine, or another disk, could run."""


def tree(folder: Path) -> dict[str, str]:
    """Everything below a folder with what is in it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "other"
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def refused(home, monkeypatch, capsys):
    """A replay and a check end with the same message, and nothing is written; in this process, as there are many."""
    monkeypatch.chdir(home)

    def ends_with(code: ExitCode, message: str, *arguments: str) -> None:
        before = tree(home.parent)
        assert main(["--replay", ANSWERS, *arguments]) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("error: ") == 1
        assert re.match(r"(warning: .*\n)*error: ", err)
        assert re.search(message, err), err
        assert "Traceback" not in err and "should not have happened" not in err
        assert main(["check", ANSWERS, *arguments]) == code
        checked = capsys.readouterr().err
        assert re.search(message, checked), checked
        assert checked.count("error: ") == 1
        assert tree(home.parent) == before

    return ends_with


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_input_is_named_with_what_to_do(home, refused, fault):
    spoil, message = FAULTS[fault]
    spoil(home)
    refused(ExitCode.USAGE, message)


@pytest.mark.parametrize("fault", MACHINE_FAULTS)
def test_what_this_machine_cannot_hold_is_refused_before_the_start(home, refused, fault):
    spoil, message = MACHINE_FAULTS[fault]
    spoil(home)
    refused(ExitCode.CANNOT_RUN_HERE, message)


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("answers.json/run", r"answers\.json is a file"),
        ("answers.json", r"answers\.json is a file"),
        ("/proc/run", "/proc"),
        ("/dev/null/run", "/dev/null is a file"),
    ],
)
def test_a_run_directory_that_cannot_be_written_is_named(refused, place, reason):
    message = rf"--run-dir: /.* cannot be written: .*{reason}.*; choose another"
    refused(ExitCode.CANNOT_RUN_HERE, message, "--run-dir", place)


@pytest.mark.parametrize("place", ["x" * 300, "a/" * 3000 + "b"])
def test_a_name_too_long_for_a_folder_is_named(home, place):
    done = cli("--replay", ANSWERS, "--run-dir", place, cwd=home)
    assert done.returncode == ExitCode.CANNOT_RUN_HERE, done.stderr
    assert done.stderr.count("error: ") == 1
    assert "should not have happened" not in done.stderr
    assert "--run-dir" in done.stderr and "name too long" in done.stderr.lower()


@pytest.mark.parametrize("name", ["~nobody-of-this-name/a.json", "x" * 300, "/", "nul\\0"])
def test_a_name_that_is_no_file_of_answers_is_no_defect(home, name):
    done = cli("--replay", name, cwd=home)
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert done.stderr.startswith("error: ") and "cannot be read: " in done.stderr
    assert "should not have happened" not in done.stderr


def test_every_damaged_picture_is_named_at_once_up_to_twenty(home):
    write_pictures(home / "pictures", count=30)
    for path in (home / "pictures").glob("*.png"):
        path.write_bytes(b"")
    done = cli("--replay", ANSWERS, cwd=home)
    assert done.returncode == ExitCode.USAGE
    assert done.stderr.count("error: ") == 1
    assert done.stderr.count(".png: the file is empty") == 20
    assert "  and 10 more" in done.stderr


@pytest.mark.parametrize(
    "faulty",
    [{"training.lr_warmup_steps": -1}, {"training.min_timestep": 900, "training.max_timestep": 100}],
    ids=["an answer out of bounds", "answers that do not go together"],
)
def test_faulty_answers_and_what_is_wrong_with_files_are_told_at_once(home, faulty):
    change(home, answers=faulty)
    truncate(home / "model/vae/model.safetensors", 50)
    (home / "pictures/01.png").write_bytes(b"")
    done = cli("check", ANSWERS, cwd=home)
    assert done.returncode == ExitCode.USAGE
    fields = re.findall("^error: ([a-z_.]+): ", done.stderr, re.MULTILINE)
    assert fields == [next(iter(faulty)), "training.pretrained_model_name_or_path", "training.instance_data_dir"]


def test_a_refused_run_loses_nothing_of_what_was_saved(home, refused):
    run = stand_in_run(home / "run", "short")
    for step in (10, 20):
        folder = run.path / f"checkpoints/checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "weights").write_bytes(bytes(1000))
        (folder / FACTS).write_text(json.dumps({**dict.fromkeys(Identity.__slots__), "contents": "weights"}))
        mark(folder)
    (run.path / "pipeline").mkdir()
    (home / "pictures/01.png").write_bytes(b"")
    refused(ExitCode.USAGE, r"pictures/01\.png: the file is empty", "--run-dir", "run")
    assert len(list((run.path / "checkpoints").iterdir())) == 2


@pytest.mark.parametrize(
    "arguments",
    [("--relpay", "x"), ("attach",), ("check",), ("nonsense",), ("--replay",), ("attach", "a", "b"), ("--set",)],
    ids=" ".join,
)
def test_usage_is_explained_on_stderr(arguments):
    done = cli(*arguments)
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert done.stderr.startswith("usage: simpletuner-tui")
