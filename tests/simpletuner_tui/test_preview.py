"""What answers amount to while they are given."""

import json

import yaml

from harness.fake_model import write_model, write_pictures
from simpletuner_tui.preview import Line, cost, marked_lines, preview
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Question
from simpletuner_tui.questions.resolving import resolve


def test_lines_that_came_or_changed_are_marked():
    assert marked_lines("a\nb\n", "a\nc\nb\n") == [Line("a", False), Line("c", True), Line("b", False)]
    assert marked_lines("a\n", "a\n") == [Line("a", False)]
    assert [line.changed for line in marked_lines("a: 1\nb: 2", "a: 1\nb: 3")] == [False, True]


def test_every_question_has_a_file_and_what_is_missing_stands_at_its_default(tmp_path):
    shown = preview(resolve(REGISTRY, {"training.max_train_steps": 7, "training.seed": "no number"}), tmp_path)
    assert json.loads(shown.files["training.json"])["max_train_steps"] == 7
    assert isinstance(json.loads(shown.files["training.json"])["seed"], int)
    assert yaml.safe_load(shown.files["default_config.yaml"])
    for question in REGISTRY:
        name, text = shown.file_of(question.id)
        assert shown.files[name] == text
    assert shown.file_of("training.seed")[0] == "training.json"


def test_a_question_of_no_known_file_is_shown_all_the_same(tmp_path):
    shown = preview(resolve((Question("odd.one", Kind.INT, "?", "s", default=1),), {}), tmp_path)
    assert shown.file_of("odd.one")[0] in shown.files


def test_the_cost_follows_the_model_and_guesses_without_one(tmp_path):
    write_model(tmp_path / "model")
    write_pictures(tmp_path / "pictures")
    with_model = {
        "training.pretrained_model_name_or_path": "model",
        "training.instance_data_dir": "pictures",
        "training.resolution": 64,
    }
    small = cost(preview(resolve(REGISTRY, with_model), tmp_path).settings)
    large = cost(preview(resolve(REGISTRY, {}), tmp_path).settings)
    assert 0 < small.gpu_mib < large.gpu_mib
