"""Nothing is overwritten unseen, nothing old is lost."""

import pytest

from launcher.errors import InvalidInputError
from simpletuner_tui.saving import saving


def test_a_new_file_is_written_and_needs_no_backup(tmp_path):
    planned = saving(tmp_path / "a.json", b"new\n")
    assert (planned.before, planned.changes_nothing) == (None, False)
    planned.write()
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_bytes() == b"new\n"


def test_what_was_there_is_shown_and_kept(tmp_path):
    (tmp_path / "a.json").write_bytes(b"same\nold\n")
    planned = saving(tmp_path / "a.json", b"same\nnew\n")
    assert planned.diff() == [f"--- {tmp_path / 'a.json'}", "+++ new", "@@ -1,2 +1,2 @@", " same", "-old", "+new"]
    planned.write()
    assert (tmp_path / "a.json").read_bytes() == b"same\nnew\n"
    assert (tmp_path / "a.json.bak").read_bytes() == b"same\nold\n"


def test_the_same_content_writes_nothing(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"same")
    before = path.stat()
    planned = saving(path, b"same")
    assert planned.changes_nothing
    planned.write()
    assert path.stat() == before
    assert [found.name for found in tmp_path.iterdir()] == ["a.json"]


def test_a_file_that_is_no_text_has_a_diff(tmp_path):
    (tmp_path / "a").write_bytes(b"\xff\x00\n")
    assert "+new" in saving(tmp_path / "a", b"new").diff()


@pytest.mark.parametrize("name", ["", "nowhere/a.json", "a\0b", "\ud800", "x" * 300, "file/a.json"])
def test_a_place_that_cannot_be_is_refused_with_a_way_on(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInputError, match="choose another"):
        saving(tmp_path / name, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_may_not_be_written_is_named(tmp_path):
    planned = saving(tmp_path / "folder.json", b"new")
    planned.path.mkdir()
    with pytest.raises(InvalidInputError, match=r"folder\.json cannot be written: .*choose another"):
        planned.write()
