"""Presets: each loads, fits its budget by prediction, and says what it takes; they are listed, shown and built upon."""

import json
from pathlib import Path

import pytest

from harness.fake_model import write_model, write_pictures
from harness.runs import cli
from launcher.estimate import SDXL, estimate
from launcher.recommend import misses
from simpletuner_tui.answers import judge_answers, read_resolved
from simpletuner_tui.presets import FOLDER, INDEX, Figures, Preset, find_preset, presets
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.questions.resolving import Resolved, resolve

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = [
    *("fits-8GB", "fits-12GB", "fits-16GB", "fits-24GB", "fastest", "pixel-art-128", "32GB-RAM", "two-GPUs"),
]
THEIRS = {"training.pretrained_model_name_or_path": "owner/sdxl", "training.instance_data_dir": "/pictures"}
"""What no preset says."""
AS_PREDICTED = 0.05


def with_model(preset: Preset) -> Resolved:
    return resolve(REGISTRY, {**preset.answers, **THEIRS}, {"deepspeed": True})


def test_all_are_there_in_the_order_they_are_offered():
    assert [preset.name for preset in presets()] == NAMES
    assert {path.stem for path in FOLDER.glob("*.json") if path != INDEX} == set(NAMES)
    assert (EXAMPLES / "presets").resolve() == FOLDER


@pytest.mark.parametrize("preset", presets(), ids=lambda preset: preset.name)
def test_it_loads_without_a_fault_and_asks_for_model_and_pictures_only(preset):
    assert set(resolve(REGISTRY, preset.answers, {"deepspeed": True}).faults) == set(THEIRS)
    resolved = with_model(preset)
    assert resolved.faults == {}
    assert set(preset.answers) <= resolved.answered <= {question.id for question in REGISTRY}
    judged = judge_answers({**preset.answers, **THEIRS}, resolved, Path("/"), REGISTRY)
    assert judged.errors == []
    assert judged.notes == (), "an answer that is not asked has no effect"
    # That NVMe wears is all there is to be said against any of them.
    assert {problem.rule for problem in judged.problems} == ({"nvme-wears"} if preset.name == "32GB-RAM" else set())


@pytest.mark.parametrize("preset", presets(), ids=lambda preset: preset.name)
def test_it_fits_its_budget_and_takes_what_it_says(preset):
    settings = read_resolved(with_model(preset), Path("/")).settings
    cost = estimate(settings, SDXL)
    assert settings.launch.num_processes == preset.gpus
    assert misses(cost, preset.budget) == ()
    now = Figures.of(cost)
    for figures in filter(None, (preset.predicted, preset.measured)):
        for name in ("training_mib", "least_mib", "host_mib", "disk_mib"):
            assert getattr(now, name) == pytest.approx(getattr(figures, name), rel=AS_PREDICTED), (
                f"{name}: python benchmarks/presets.py writes what the estimate says now"
            )
    assert str(preset.figures).endswith("(predicted)") is (preset.measured is None)


def test_what_nvme_costs_a_drive_is_said_before_it_is_taken():
    remark, _ = find_preset("32GB-RAM").remarks
    assert "41 GB" in remark and "14,600 steps" in remark
    settings = read_resolved(with_model(find_preset("32GB-RAM")), Path("/")).settings
    assert any("writes 41.1 GB" in note and "14,606 steps" in note for note in estimate(settings, SDXL).notes)


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    write_model(tmp_path / "model")
    write_pictures(tmp_path / "pictures")
    return tmp_path


def test_they_are_listed_and_shown(home):
    listed = cli("presets", cwd=home)
    assert listed.returncode == 0
    assert [line for line in listed.stdout.splitlines() if not line.startswith(" ")] == NAMES
    assert "one made for 600 TB lasts" in listed.stdout
    as_json = json.loads(cli("presets", "--json", cwd=home).stdout)
    assert [each["name"] for each in as_json] == NAMES
    assert all(each["budget"]["vram_mib"] and "measured" in each for each in as_json)
    shown = cli("presets", "show", "fits-8GB", cwd=home)
    assert json.loads(shown.stdout)["answers"] == find_preset("fits-8GB").answers
    assert "card of 8 GB" in shown.stderr
    wrong = cli("presets", "show", "fits-9GB", cwd=home)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "did you mean fits-8GB" in wrong.stderr


def test_a_replay_takes_it_where_the_file_says_nothing(home):
    (home / "mine.json").write_text(
        json.dumps(
            {
                "schema": 1,
                "answers": {
                    "training.pretrained_model_name_or_path": "./model",
                    "training.instance_data_dir": "./pictures",
                    "training.train_batch_size": 3,
                    "training.resolution": 64,
                },
            }
        )
    )
    options = ("--dry-run", "--json", "--set", "training.resolution=32", "--set", "accelerate.gas=2")
    done = cli("--replay", "mine.json", "--preset", "fits-8GB", *options, cwd=home)
    files = json.loads(done.stdout)["files"]
    training, deepspeed = json.loads(files["training.json"]), json.loads(files["deepspeed.json"])
    assert (training["resolution"], training["train_batch_size"]) == (32, 3)
    zero = deepspeed["zero_optimization"]
    assert (zero["stage"], zero["offload_param"]["device"], deepspeed["gradient_accumulation_steps"]) == (3, "cpu", 2)
    assert zero["leaf_module"]["classes"] == ["BasicTransformerBlock", "ResnetBlock2D"]


def test_a_walk_begins_with_it_and_names_it(home):
    typed = "\n".join(["./model", "", "", "", "", "./pictures", "", "quit", ""])
    done = cli("--preset", "pixel-art-128", "--accessible", cwd=home, stdin=typed)
    assert "[128, from preset pixel-art-128] > " in done.stdout
    assert done.returncode == 0
    assert cli("--preset", "fits-9GB", "--accessible", cwd=home, stdin="").returncode == 2
