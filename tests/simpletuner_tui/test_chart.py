"""Curves with axes, in braille and in ASCII."""

import pytest
from textual.content import Content

from simpletuner_tui.tui.glyphs import ASCII, UNICODE
from simpletuner_tui.tui.widgets.chart import Chart, Curve, Limit, dots_across, draw, nice
from simpletuner_tui.tui.widgets.drawn import changed_columns

RISING = Curve([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], "bold", "*")


def lines(chart: Chart, width: int, height: int, glyphs) -> list[str]:
    return [line.plain for line in draw(chart, width, height, 3, glyphs)]


def test_a_curve_in_ascii_has_its_axes_and_a_limit():
    chart = Chart([RISING], lambda value: f"{value:.0f}", "0", "9", [Limit(3.0, "", "╌", "=")], 0.0, 6.0)
    assert lines(chart, 10, 7, ASCII) == [
        "  6|      ",
        "   |     *",
        "   |    * ",
        "  2|===*==",
        "   |  *   ",
        "  0|**    ",
        "   +0 -- 9",
    ]


def test_a_curve_in_braille_has_two_dots_across_and_four_down_in_each_cell():
    chart = Chart([Curve([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], "", "*")], str, "a", "b", (), 0.0, 8.0)
    top, bottom, axis = lines(chart, 8, 3, UNICODE)
    assert (top, bottom, axis) == ("8.0│  ⡠⠊", "0.0│⡠⠊  ", "   └a  b")
    assert dots_across(8, 3, UNICODE) == 2 * dots_across(8, 3, ASCII) == 8


def test_a_gap_is_no_line_and_what_lies_over_another_keeps_both_dots():
    chart = Chart([Curve([0.0, None, 4.0, 4.0, 0.0, 0.0, 0.0, 0.0], "", "*")], str, "a", "b", (), 0.0, 4.0)
    assert lines(chart, 8, 2, UNICODE)[0] == "0.0│⡀⠉⣆⣀", "a gap is none, a fall is a line"
    below, above = Curve([0.0] * 8, "dim", "."), Curve([4.0] * 8, "bold", "*")
    assert lines(Chart([below, above], str, "a", "b", (), 0.0, 4.0), 8, 2, UNICODE)[0] == "0.0│⣉⣉⣉⣉"


def test_equal_values_and_no_room_are_drawn_too():
    flat = Chart([Curve([2.0] * 6, "", "*")], lambda value: f"{value:.1f}", "a", "b")
    assert "******" in lines(flat, 10, 6, ASCII)[2] + lines(flat, 10, 6, ASCII)[3]
    assert draw(flat, 6, 6, 3, ASCII) == draw(flat, 10, 1, 3, ASCII) == []


@pytest.mark.parametrize(("value", "next_one"), [(0.011, 0.02), (1.0, 1.0), (3, 5), (501, 1000), (0.2, 0.2)])
def test_an_axis_ends_at_a_round_number(value, next_one):
    assert nice(value) == pytest.approx(next_one)


@pytest.mark.parametrize(
    ("old", "new", "span"),
    [
        (Content("step 411"), Content("step 412"), (7, 8)),
        (Content("a"), Content("a b"), (2, 3)),
        (Content("same"), Content("same"), None),
        (Content("same"), Content.styled("same", "bold"), (0, 4)),
        (Content.assemble("ab", ("cd", "bold")), Content.assemble(("ab", "bold"), "cd"), (0, 4)),
        (Content("漢 1"), Content("漢 2"), (0, 4)),
    ],
)
def test_no_more_is_repainted_than_differs(old, new, span):
    assert changed_columns(old, new) == span
