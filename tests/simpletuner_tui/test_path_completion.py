"""Completing paths as a shell does."""

import os

import pytest

from simpletuner_tui import path_completion
from simpletuner_tui.path_completion import completions


@pytest.fixture
def base(tmp_path):
    for name in ("models/sdxl-base", "models/sdxl-turbo", "pictures", ".hidden"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "plan.txt").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "matches", "common"),
    [
        ("", ("models/", "pictures/", "plan.txt"), ""),
        ("p", ("pictures/", "plan.txt"), "p"),
        ("pi", ("pictures/",), "pictures/"),
        ("./pi", ("pictures/",), "./pictures/"),
        ("models/", ("sdxl-base/", "sdxl-turbo/"), "models/sdxl-"),
        ("models/sdxl-b", ("sdxl-base/",), "models/sdxl-base/"),
        ("models/../pl", ("plan.txt",), "models/../plan.txt"),
        (".h", (".hidden/",), ".hidden/"),
        ("x", (), "x"),
        ("plan.txt/", (), "plan.txt/"),
        ("nowhere/x", (), "nowhere/x"),
        ("~nobody-has-this/x", (), "~nobody-has-this/x"),
        ("a\0b/c", (), "a\0b/c"),
        ("\ud800/c", (), "\ud800/c"),
        ("x" * 5000 + "/y", (), "x" * 5000 + "/y"),
    ],
)
def test_what_could_follow(base, typed, matches, common):
    found = completions(typed, base)
    assert (found.matches, found.common) == (matches, common)


def test_absolute_paths_and_ones_at_home(base, monkeypatch):
    monkeypatch.setenv("HOME", str(base))
    assert completions(f"{base}/pi", base / "models").common == f"{base}/pictures/"
    assert completions("~/pi", base / "models").common == "~/pictures/"


def test_names_that_are_no_text(base):
    (base / os.fsdecode(b"\xff")).touch()
    assert os.fsdecode(b"\xff") in completions("", base).matches


def test_a_folder_of_a_million_pictures_does_not_stop_the_keyboard(base, monkeypatch):
    monkeypatch.setattr(path_completion, "MOST", 3)
    for number in range(9):
        (base / f"pictures/{number}.png").touch()
    assert len(completions("pictures/", base).matches) <= 3
