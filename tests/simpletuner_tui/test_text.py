"""Numbers as people read them."""

import pytest

from simpletuner_tui.text import bar, duration, mib_of, size, table


@pytest.mark.parametrize(
    ("mib", "text"),
    [
        (0, "0 MiB"),
        (95.4, "95 MiB"),
        (1023, "1023 MiB"),
        (1023.7, "1.0 GiB"),
        (1024, "1.0 GiB"),
        (30 * 1024, "30.0 GiB"),
    ],
)
def test_sizes(mib, text):
    assert size(mib) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (12.34, "12.3 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (61, "1 min 01 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (90_061, "25 h 01 min"),
    ],
)
def test_durations_are_in_their_two_largest_units(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("typed", "mib"),
    [
        ("12GiB", 12288),
        ("12 gib", 12288),
        ("11500MiB", 11500),
        ("1.5GiB", 1536),
        ("24GB", 22888),
        ("1TiB", 1024 * 1024),
    ],
)
def test_sizes_are_read_with_their_unit(typed, mib):
    assert mib_of(typed) == mib


@pytest.mark.parametrize("typed", ["12", "GiB", "-1GiB", "0MiB", "1e3GiB", "12GiBx", ""])
def test_what_is_no_size_is_refused(typed):
    with pytest.raises(ValueError, match=r"unit|less than"):
        mib_of(typed)


def test_a_bar_is_as_wide_as_it_should_be():
    assert bar(1, 4, 8, ascii_only=True) == "##......"
    assert bar(1, 4, 8, ascii_only=False) == "██░░░░░░"
    assert bar(9, 4, 8, ascii_only=True) == "########"
    assert bar(0, 0, 8, ascii_only=True) == "........"


def test_a_table_aligns_its_columns_and_leaves_no_trailing_spaces():
    assert table([["a", "long one", "x"], ["bbb", "c", ""]]) == ["a    long one  x", "bbb  c"]
    assert table(iter([("one",)])) == ["one"]
    assert table([]) == []
