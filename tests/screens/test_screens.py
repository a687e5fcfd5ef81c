"""Every screen looks as its picture in screenshots/ does; `python screenshots/make.py` draws them anew."""

from pathlib import Path

import pytest

from harness.pictures import PICTURES

FOLDER = Path(__file__).parents[2] / "screenshots"


@pytest.mark.parametrize("name", PICTURES)
def test_a_screen_looks_as_its_picture(name):
    # pytest itself would take a quarter of a minute to say in which lines they differ.
    alike = PICTURES[name]() == (FOLDER / name).read_text()
    assert alike, "it looks otherwise: draw it anew with `python screenshots/make.py`, and look at it"


def test_no_picture_is_left_of_a_screen_that_is_gone():
    assert {path.name for path in FOLDER.glob("*.svg")} <= {*PICTURES, "demo.svg"}
