"""Predictions beside what runs of this launcher took (``benchmarks/predictions``).

Rows are what ``python -m benchmarks.predictions.keep`` put into ``measured.json``: whatever comes is held against here.
"""

import json

import pytest

from benchmarks.answers import settings_of
from benchmarks.predictions import keep, table
from benchmarks.predictions.settings import CALIBRATION, HOLD_OUT, PRESETS
from benchmarks.predictions.table import Pair, pairs
from harness.h200 import H200
from launcher.estimate import SDXL, estimate

OFF, UNDER, STEP, ONE_STEP = 0.05, -0.02, 0.2, 0.35
"""How far a prediction may be off, how far that of GPU memory may be too low, a step's seconds off on the mean of
several machines, and on one."""
ALL_CHANNELS = {
    "1024x8 streamed, two GPUs": 8921,
    "1024x8 resident, two GPUs": 13593,
    "1024x1 streamed, two GPUs": 3619,
    "768x4 streamed, two GPUs": 4587,
    "1024x8 accumulation 4 resident, two GPUs": 13653,
}
"""MiB, as where a shell's variables leave NCCL all of them; measured on two H200s, 2026-11-28."""


@pytest.fixture(scope="module")
def every() -> list[Pair]:
    return pairs(CALIBRATION | HOLD_OUT | PRESETS)


def test_nothing_was_both_fitted_on_and_held_out():
    assert not set(CALIBRATION) & set(HOLD_OUT | PRESETS)


def test_what_was_measured_is_predicted(every):
    assert len(every) == len(json.loads(table.MEASURED.read_bytes())["settings"]) > 0
    for pair in every:
        assert UNDER <= pair.gpu_error <= OFF, pair.name
        assert abs(pair.host_error) <= OFF, pair.name


@pytest.mark.parametrize("name", ALL_CHANNELS)
def test_so_is_what_two_gpus_took_with_all_of_nccls_channels(name, monkeypatch):
    monkeypatch.setattr("launcher.estimate.vram.has_few_channels", lambda settings: False)
    estimated = estimate(settings_of({"training.instance_data_dir": ".", **CALIBRATION[name]}), SDXL)
    assert UNDER <= estimated.gpu_mib / ALL_CHANNELS[name] - 1 <= OFF


def test_seconds_of_a_step_are_predicted_where_nothing_else_ran(every):
    errors = {pair.name: pair.step_error for pair in every if pair.step_error is not None}
    assert errors
    for name, error in errors.items():
        assert abs(error) <= STEP, name
    for pair in every:
        for measured, predicted in pair.steps:
            assert abs(predicted / measured - 1) <= ONE_STEP, pair.name


def test_torchs_own_figures_are_near_too(every):
    for pair in every:
        for phase in pair.predicted.gpu:
            if (seen := pair.measured["phases"].get(phase.name)) and phase.name in ("init", "step"):
                near = pytest.approx(seen["reserved"], rel=0.06, abs=70)
                assert phase.reserved_mib == near, (pair.name, phase.name)


def test_what_is_measured_anew_becomes_a_row(tmp_path, monkeypatch):
    kept = tmp_path / "rows.json"
    kept.write_bytes(table.MEASURED.read_bytes())
    for module in (keep, table):
        monkeypatch.setattr(module, "MEASURED", kept)
    name = "768x4 resident"
    measured = {
        "machine": "0a1b",
        "code": 0,
        "device_mib": 7600,
        "host_mib": 46000,
        "cost": {"step": {"allocated": 6500, "reserved": 7000, "process": 7600}},
        "steps": [{"forward": 0.1, "total": 1.25}] * 4,
    }
    machine = {"day": "2026-12-01", "gpus": 1, "bandwidths": H200.to_json()}
    ours = {name: measured, "zero2 1024x16": measured | {"code": -1}, "64x2 resident": measured}
    (tmp_path / "measured.json").write_text(json.dumps({"machines": {"0a1b": machine}, "ours": ours}))
    monkeypatch.setattr("sys.argv", ["keep", str(tmp_path / "measured.json")])
    keep.main()
    (pair,) = pairs({name: HOLD_OUT[name], "zero2 1024x16": HOLD_OUT["zero2 1024x16"]})
    assert (pair.gpu_mib, pair.measured["host_mib"]) == (7600, 46000)
    ((seconds, predicted),) = pair.steps
    assert (seconds, predicted) == (1.25, pair.predicted.step_seconds)
    assert pair.predicted.step_time.gpu == H200.hardware.gpu
    assert "64x2 resident" not in json.loads(kept.read_bytes())["settings"], "what is no setting, a tiny row say"
    told = {"machines": {"0a1b": machine}, "ours": {name: measured | {"shared": True}}}
    (tmp_path / "measured.json").write_text(json.dumps(told))
    keep.main()
    (pair,) = pairs({name: HOLD_OUT[name]})
    assert pair.step_error is None, "others had their part of cores and memory"
    keep.main()
    (pair,) = pairs({name: HOLD_OUT[name]})
    assert pair.steps == [], "nor of the machine before"
    slower = measured | {"machine": "2c3d", "steps": [{"total": 5.0}] * 4}
    told = {"machines": {"2c3d": machine}, "ours": {name: slower}}
    for build, others in (("now", 1), ("earlier", 0)):
        rows = json.loads(kept.read_bytes())
        rows["settings"][name] |= {
            "alone": True,
            "build": build,
            "step_seconds": [1.25] * 4,
            "speed": "bandwidths-0a1b.json",
        }
        rows["settings"][name].pop("elsewhere", None)
        kept.write_text(json.dumps(rows))
        (tmp_path / "measured.json").write_text(json.dumps(told))
        keep.main()
        (pair,) = pairs({name: HOLD_OUT[name]})
        assert [seconds for seconds, _ in pair.steps] == [5.0, 1.25][: 1 + others], build
        assert pair.step_error == pytest.approx(predicted / (2.5 if others else 5.0) - 1), "the geometric mean"
