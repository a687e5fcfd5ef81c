"""What a bar shows of an estimate."""

import itertools

import pytest

from launcher.estimate import SDXL, estimate
from launcher.estimate.shares import Share, by_share, share_of


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "changed", [{}, {"model_type": "lora"}, {"mixed_precision": "no"}], ids=["bf16", "lora", "fp32"]
)
def test_every_part_of_every_phase_counts_as_something_a_legend_names(make_settings, stage, changed):
    devices = ("none", "cpu") if stage > 1 else ("none",)
    for optimizer, average in itertools.product(devices, ({}, {"use_ema": True, "ema_device": "accelerator"})):
        places = {"offload_optimizer_device": optimizer, "offload_param_device": optimizer if stage == 3 else "none"}
        cost = estimate(make_settings(zero_stage=stage, **places, **average, **changed), SDXL)
        for phase in cost.gpu:
            shares = by_share(phase.parts)
            assert sum(shares.values()) == phase.process_mib
            assert Share.OTHER not in shares, [part.name for part in phase.parts]
            assert list(shares) == [share for share in Share if share in shares], "the bar has one order"


def test_a_part_that_nobody_foresaw_is_shown_as_such():
    assert share_of("something new") is Share.OTHER
