"""Templates: what comes with the program works, and what is saved comes back."""

import json

import pytest

from launcher.config.setting import Level
from launcher.deepspeed.examples import EXAMPLES
from launcher.deepspeed.installed import TESTED
from launcher.deepspeed.normalise import normalise
from launcher.deepspeed.run_facts import RunFacts
from launcher.deepspeed.template import Template
from launcher.deepspeed.templates import (
    differences,
    find_template,
    load_template,
    remove_template,
    save_template,
    templates,
    templates_folder,
)
from launcher.deepspeed.view import ABSENT
from launcher.errors import InvalidInputError, RefusedToOverwriteError

MINE = Template("mine", "Stage 3 for the small card.", {"zero_optimization": {"stage": 3}, "a.b": [1]})


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.mark.parametrize("template", EXAMPLES, ids=lambda template: template.name)
@pytest.mark.parametrize("world_size", [1, 2])
def test_what_comes_with_the_program_needs_no_mending(template, world_size):
    done = normalise(template.config, RunFacts().given(offload_param_path="/nvme", world_size=world_size), TESTED)
    assert [problem for problem in done.problems if problem.level is Level.ERROR] == []
    assert {problem.rule for problem in done.problems} <= {"nvme-wears", "stage-1-moves-less"}
    # Nothing written is changed, only what the run says is added.
    assert all(change.before is ABSENT for change in done.changes)
    assert template.description
    assert template.corrected


def test_a_saved_template_is_found_again_as_it_was():
    path = save_template(MINE)
    assert path == templates_folder() / "mine.json"
    assert find_template("mine") == MINE
    assert [template.name for template in templates()] == [*(example.name for example in EXAMPLES), "mine"]


def test_a_template_is_shared_as_its_file(tmp_path):
    shared = tmp_path / "shared.json"
    shared.write_bytes(MINE.to_bytes())
    assert load_template(shared) == MINE


def test_what_was_corrected_goes_with_the_file(tmp_path):
    shared = tmp_path / "shared.json"
    shared.write_bytes(EXAMPLES[0].to_bytes())
    assert load_template(shared) == EXAMPLES[0]


def test_a_saved_template_is_removed_and_one_of_the_programs_is_not():
    path = save_template(MINE)
    path.rename(path.with_name("another name.json"))
    remove_template("mine")
    assert list(templates_folder().iterdir()) == []
    for name, words in (("mine", "no template is called mine"), (EXAMPLES[0].name, "comes with the program")):
        with pytest.raises(InvalidInputError, match=words):
            remove_template(name)


def test_a_template_that_is_there_is_replaced_only_when_asked():
    save_template(MINE)
    other = Template("mine", "", {})
    with pytest.raises(RefusedToOverwriteError, match="a template mine is there already"):
        save_template(other)
    assert find_template("mine") == MINE
    save_template(other, replace=True)
    assert find_template("mine") == other


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 65, "a\nb", EXAMPLES[0].name])
def test_a_name_that_cannot_be_is_refused(name):
    with pytest.raises(InvalidInputError):
        save_template(Template(name, "", {}))
    assert not templates_folder().exists()


def test_a_template_that_is_not_there_names_those_that_are():
    with pytest.raises(InvalidInputError, match=r"no template is called mein; there are .*stage-2-cpu"):
        find_template("mein")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "ends too early"),
        (b"[]", "has no object deepspeed"),
        (b'{"schema": 1, "name": "a", "deepspeed": 3}', "has no object deepspeed"),
        (b'{"schema": 2, "name": "a", "deepspeed": {}}', "is a template of schema 2; this program reads 1"),
        (b'{"schema": 1, "name": "a", "corrected": 3, "deepspeed": {}}', "corrected must be a list of texts"),
        (b'{"schema": 1, "name": 3, "deepspeed": {}}', "name and description must be text"),
    ],
)
def test_a_file_that_is_no_template_says_so_and_hides_no_other(data, words):
    save_template(MINE)
    bad = templates_folder() / "bad.json"
    bad.write_bytes(data)
    with pytest.raises(InvalidInputError, match=words):
        load_template(bad)
    assert find_template("mine") == MINE


def test_a_file_that_is_not_there_says_so(tmp_path):
    with pytest.raises(InvalidInputError, match="cannot be read: No such file"):
        load_template(tmp_path / "none.json")


def test_two_configurations_differ_by_path():
    before = {"zero_optimization": {"stage": 2, "overlap_comm": True}, "bf16": {}}
    after = {"zero_optimization": {"stage": 3, "overlap_comm": True}, "mine": [1]}
    assert list(differences(before, after)) == [
        ("zero_optimization.stage", 2, 3),
        ("bf16", {}, ABSENT),
        ("mine", ABSENT, [1]),
    ]
    assert list(differences(before, json.loads(json.dumps(before)))) == []
