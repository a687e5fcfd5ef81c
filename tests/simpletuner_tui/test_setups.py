"""The index of set-ups: what is saved is found again, what is gone is forgotten."""

import json
import os

import pytest

from harness.runs import cli
from launcher.errors import InvalidInputError
from launcher.runs.index import state_folder
from simpletuner_tui.setups import known_setups, remember, remove_setup


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def saved(path, when: float):
    path.write_text("{}")
    os.utime(path, (when, when))
    remember(path)
    return path


def index() -> list[str]:
    return json.loads((state_folder() / "set-ups.json").read_text())


def test_the_newest_file_comes_first_however_often_it_was_saved(folder):
    older, newer = saved(folder / "a.json", 1.7e9), saved(folder / "b.json", 1.8e9)
    remember(older)
    assert [each.path for each in known_setups()] == [newer, older]
    assert len(index()) == 2


def test_a_file_that_is_gone_is_not_listed_and_forgotten_at_the_next_save(folder):
    gone, there = saved(folder / "a.json", 1.7e9), saved(folder / "b.json", 1.8e9)
    gone.unlink()
    assert [each.path for each in known_setups()] == [there]
    assert len(index()) == 2, "its disk may come back"
    remember(there)
    assert index() == [str(there)]


def test_a_link_is_deleted_and_not_what_it_leads_to(folder):
    target = folder / "target.json"
    target.write_text("{}")
    (folder / "link.json").symlink_to(target)
    remember(folder / "link.json")
    remove_setup(folder / "link.json")
    assert (target.exists(), known_setups(), index()) == (True, [], [])
    (folder / "folder.json").mkdir()
    with pytest.raises(InvalidInputError, match="cannot be deleted"):
        remove_setup(folder / "folder.json")


@pytest.mark.parametrize("content", ["", "{", "{}", '[1, null, "a\\u0000b"]'])
def test_a_damaged_index_is_an_empty_one(folder, content):
    (state_folder()).mkdir(parents=True)
    (state_folder() / "set-ups.json").write_text(content)
    assert known_setups() == []
    remember(saved(folder / "a.json", 1.7e9))
    assert str(folder / "a.json") in index()


def test_every_command_that_saves_answers_makes_a_set_up(folder):
    budget = ("--vram", "24GiB", "--ram", "64GiB", "--disk", "200GiB")  # whatever is free where this runs
    assert cli("plan", *budget, "-o", "planned.json", cwd=folder).returncode == 0
    (folder / "config.json").write_text(json.dumps({"--pretrained_model_name_or_path": "./m"}))
    cli("import", "config.json", "-o", "imported.json", cwd=folder)
    lines = "./m\nrest\n./p\nrest\nsave said.json\nquit\n"
    said = cli("--accessible", cwd=folder, stdin=lines)
    assert {each.path.name for each in known_setups()} == {"planned.json", "imported.json", "said.json"}, said.stdout
