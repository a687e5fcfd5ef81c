"""The matrix: what is recorded, what the rules say of it, and what DeepSpeed does here."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from launcher.deepspeed.installed import TESTED, read_installed
from launcher.probes.matrix import (
    Combination,
    Row,
    as_table,
    covering,
    every_combination,
    judged,
    read_rows,
    try_out,
    write_rows,
)

RECORD = Path(__file__).parents[3] / "docs" / "deepspeed-matrix.json"
INSTALLED = read_installed()
WHOLE = every_combination(INSTALLED)
COMPILED = {"CPUAdamBuilder"}
"""What tests compile in any case; CPULion, CPUAdagrad and async_io take minutes more."""


@pytest.fixture(scope="module")
def recorded() -> dict[Combination, Row]:
    _, rows = read_rows(RECORD)
    return {
        Combination(row.optimizer, row.stage, (row.offload_optimizer, row.offload_param), row.precision): row
        for row in rows
    }


def as_told(row: Row) -> Row:
    """What another CPU may do otherwise left out: a few have fp16."""
    return replace(row, outcome="", phase="", error="") if row.precision == "fp16" else row


def test_the_record_is_of_the_installed_deepspeed_and_of_all_it_knows(recorded):
    versions, _ = read_rows(RECORD)
    assert versions["deepspeed"] == INSTALLED.version == TESTED.version
    assert list(recorded) == WHOLE


def test_the_record_agrees_with_the_rules_as_they_are(recorded):
    for combination, row in recorded.items():
        assert (row.refused, row.warned) == judged(combination, INSTALLED), combination.name
        assert row.disagreement == "", combination.name


def test_the_record_swaps_to_nvme_at_stage_3_alone(recorded):
    swapped = {combination.name: row.files for combination, row in recorded.items() if row.files}
    expected = {each.name for each, row in recorded.items() if row.outcome == "ran" and each.swaps}
    assert swapped.keys() == expected


def test_the_table_is_of_the_record():
    assert as_table(*read_rows(RECORD)) == RECORD.with_suffix(".md").read_text()


def test_the_cover_holds_every_pair_of_values():
    def pairs(chosen):
        return {
            pair
            for each in chosen
            for pair in combinations((each.optimizer, each.stage, each.offload, f"in {each.precision}"), 2)
        }

    chosen = covering(WHOLE)
    assert pairs(chosen) == pairs(WHOLE)
    assert chosen == covering(WHOLE)
    assert len(chosen) < len(WHOLE) / 6


def test_deepspeed_does_what_is_recorded(extensions, recorded):
    chosen = covering([each for each in WHOLE if set(each.extensions) <= COMPILED])
    for combination, row in zip(chosen, try_out(chosen, INSTALLED), strict=True):
        assert row.disagreement == "", combination.name
        assert as_told(row) == as_told(recorded[combination])


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
def test_deepspeed_does_what_is_recorded_everywhere(extensions, recorded):
    for combination, row in zip(WHOLE, try_out(WHOLE, INSTALLED), strict=True):
        assert row.disagreement == "", combination.name
        assert as_told(row) == as_told(recorded[combination])


RAN = Row("AdamW", 2, "cpu", "none", "bf16", "ran", "", "", 0, (), ())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, ""),
        ({"outcome": "failed", "error": "ValueError: no"}, "allowed, but failed: ValueError: no"),
        ({"outcome": "did nothing"}, "allowed, but did nothing: "),
        ({"outcome": "not finite"}, "allowed, but not finite: "),
        ({"refused": ("zenflow",)}, "refused by zenflow, but ran"),
        ({"refused": ("zenflow", "offload-needs-zero")}, "refused by offload-needs-zero, zenflow, but ran"),
        ({"refused": ("offload-needs-zero",)}, ""),
        ({"refused": ("zenflow",), "outcome": "failed"}, ""),
    ],
)
def test_rules_and_runs_disagree(changed, said):
    changed = {**changed, "refused": tuple(sorted(changed.get("refused", ())))}
    assert replace(RAN, **changed).disagreement == said


def test_what_is_written_is_read_again(tmp_path):
    rows = [RAN, replace(RAN, stage=0, outcome="failed", error="ValueError: „no“", refused=("offload-needs-zero",))]
    write_rows(tmp_path / "a.json", {"deepspeed": "1", "torch": "2"}, rows)
    assert read_rows(tmp_path / "a.json") == ({"deepspeed": "1", "torch": "2"}, rows)
    table = (tmp_path / "a.md").read_text()
    assert "| AdamW | cpu | none |" in table
    assert "1. failed in : `ValueError: „no“`" in table
