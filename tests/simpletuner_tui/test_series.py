"""A figure over a whole run in a few kilobytes: what is merged keeps its mean, its extremes and its place."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simpletuner_tui.series import Series, smoothed


def filled(values, capacity=8):
    series = Series(capacity=capacity)
    for place, value in enumerate(values, start=1):
        series.add(place, value)
    return series


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), st.integers(1, 20))
def test_nothing_is_lost_however_many_values_there_are(values, count):
    series = filled(values)
    columns = [each for each in series.columns(count, 1, max(2, len(values))) if each]
    assert sum(each.count for each in columns) == len(values)
    assert sum(each.total for each in columns) == pytest.approx(math.fsum(values), abs=1e-3)
    assert max(each.high for each in columns) == max(values) == series.highest
    assert min(each.low for each in columns) == min(values)
    assert (series.latest, series.last) == (values[-1], len(values))


def test_bins_are_halved_and_stay_in_their_place():
    series = filled(range(1, 65))
    assert len(series) <= 8
    assert [each.mean for each in series.columns(4, 1, 64)] == [8.5, 24.5, 40.5, 56.5]


def test_a_run_that_goes_on_from_an_older_checkpoint_replaces_what_came_after_it():
    series = filled([1.0] * 6)
    series.add(4, 9.0)
    assert [each and each.mean for each in series.columns(6, 1, 7)] == [1.0, 1.0, 1.0, 9.0, None, None]
    series.add(0, 5.0)
    assert (len(series), series.first) == (1, 0)


def test_a_part_is_shown_and_what_is_no_number_is_left_out():
    series = filled([1.0, math.nan, 3.0, math.inf, 5.0])
    assert [each and each.mean for each in series.columns(2, 3, 5)] == [3.0, 5.0]
    assert Series().columns(3, 0, 1) == [None, None, None]
    assert math.isnan(Series().latest)
    assert math.isnan(Series().highest)


def test_smoothing_begins_at_the_first_value_and_passes_gaps():
    columns = filled([4.0, 0.0, 0.0]).columns(3, 1, 3)
    shown = smoothed([*columns[:1], None, *columns[1:]], 0.5)
    assert shown[:2] == [4.0, None]
    assert shown[2:] == pytest.approx([4 / 3, 4 / 7])
