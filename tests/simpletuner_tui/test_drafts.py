"""The draft of a walk: what is kept, what is read back, and what damage it survives."""

import json

import pytest

from simpletuner_tui.drafts import Drafts
from simpletuner_tui.paths import answers_rebased
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Question

REGISTRY = (
    Question("t.folder", Kind.PATH, "?", "s"),
    Question("t.model", Kind.PATH, "?", "s", hub=True),
    Question("t.text", Kind.TEXT, "?", "s"),
)


def test_what_is_kept_is_read_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    drafts = Drafts(tmp_path / "deep/draft.json")
    drafts.keep({"t.text": "ü\ud800", "t.n": [1.5]}, "t.text")
    draft = drafts.read()
    assert (draft.answers, draft.place, draft.base) == ({"t.text": "ü\ud800", "t.n": [1.5]}, "t.text", tmp_path)
    assert draft.saved > 1.7e9


def test_nothing_answered_is_no_draft_and_replaces_none(tmp_path):
    drafts = Drafts(tmp_path / "draft.json")
    drafts.keep({}, "t.text")
    assert drafts.read() is None
    drafts.keep({"t.text": "a"}, "t.text")
    Drafts(tmp_path / "draft.json").keep({}, "t.text")
    assert drafts.read().answers == {"t.text": "a"}


def test_what_was_saved_needs_no_draft_until_it_changes(tmp_path):
    drafts = Drafts(tmp_path / "draft.json")
    drafts.keep({"t.text": "a"}, "")
    drafts.drop({"t.text": "a"})
    drafts.drop({"t.text": "a"})
    drafts.keep({"t.text": "a"}, "")
    assert drafts.read() is None
    drafts.keep({"t.text": "b"}, "")
    assert drafts.read().answers == {"t.text": "b"}


def test_a_disk_that_refuses_costs_the_draft_only(tmp_path):
    (tmp_path / "file").touch()
    drafts = Drafts(tmp_path / "file/draft.json")
    drafts.keep({"t.text": "a"}, "")
    drafts.drop({})
    assert drafts.read() is None
    assert Drafts(tmp_path).read() is None, "a folder is no draft"


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"\xff", b"{", b"{}", b'{"answers": []}', b'{"answers": {}}', b"[" * 100_000],
)
def test_a_damaged_draft_is_none(tmp_path, content):
    (tmp_path / "draft.json").write_bytes(content)
    assert Drafts(tmp_path / "draft.json").read() is None


@pytest.mark.parametrize("saved", ["soon", None, [1], {}])
def test_a_draft_of_no_time_is_one(tmp_path, saved):
    (tmp_path / "draft.json").write_text(json.dumps({"answers": {"t.text": 1}, "saved": saved}))
    assert Drafts(tmp_path / "draft.json").read().saved == 0.0


def test_paths_mean_the_same_in_another_folder(tmp_path, monkeypatch):
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir()
    monkeypatch.chdir(home)
    drafts = Drafts(tmp_path / "draft.json")
    drafts.keep({"t.folder": "./cats", "t.model": "owner/name", "t.text": "./cats"}, "")
    draft = drafts.read()
    assert answers_rebased(draft.answers, draft.base, home, REGISTRY) == draft.answers
    assert answers_rebased(draft.answers, draft.base, other, REGISTRY) == {
        "t.folder": "../home/cats",
        "t.model": "owner/name",
        "t.text": "./cats",
    }
