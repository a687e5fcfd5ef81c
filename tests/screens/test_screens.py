"""Every screen looks as its picture in screenshots/ does; `python screenshots/make.py` draws them anew."""

from pathlib import Path

import pytest

from harness.screens import CASES, draw, file_name

PICTURES = Path(__file__).parents[2] / "screenshots"


@pytest.mark.parametrize(("scenario", "size"), CASES, ids=[file_name(*case).removesuffix(".svg") for case in CASES])
def test_a_screen_looks_as_its_picture(scenario, size):
    assert draw(scenario, size) == (PICTURES / file_name(scenario, size)).read_text()


def test_no_picture_is_left_of_a_screen_that_is_gone():
    drawn = {file_name(*case) for case in CASES} | {"demo.svg"}
    assert {path.name for path in PICTURES.glob("*.svg")} <= drawn
