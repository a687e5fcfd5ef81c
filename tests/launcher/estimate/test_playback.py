"""Played-back runs against an H200: what torch allocated and reserved, of the true SDXL.

A stock loop around DeepSpeed 0.19.8 on torch 2.11, and this launcher (benchmarks/README.md); a card has workspaces of
cuDNN beside, up to 90 MiB, which are not played.
"""

from dataclasses import replace

import pytest

from launcher.estimate.engine_facts import EngineFacts
from launcher.estimate.gpu import ACTIVATIONS, GATHERED, GRADIENTS, STATES, WEIGHTS
from launcher.estimate.playback import play
from launcher.estimate.trace import shipped
from launcher.estimate.vram import CUDNN_MIB, CUDNN_PIECES_MIB, SMALLEST_CUDNN_MIB

MIB = 2**20
WORKSPACES = 90
"""MiB at the most."""
ENCODED = 20
"""MiB that this launcher's caches leave reserved, which the runs of other loops have not."""
ZERO2 = EngineFacts(
    deepspeed=True,
    stage=2,
    ranks=1,
    weight_bytes=2,
    master_bytes=4,
    moments=2,
    offload_optimizer=True,
    offload_param=False,
    accumulation=1,
    reduce_bucket=50_000_000,
    overlap=False,
    prefetch_bucket=50_000_000,
    max_live=1_000_000_000,
    max_reuse_distance=1_000_000_000,
    persistence_threshold=100_000,
    sub_group=100_000_000,
)
STOCK = replace(ZERO2, reduce_bucket=500_000_000)
ZERO3 = replace(ZERO2, stage=3, offload_param=True)
SMALL = replace(ZERO3, max_live=200_000_000, max_reuse_distance=0)
LEAVES = replace(SMALL, reduce_bucket=30_000_000, prefetch_bucket=40_000_000, max_live=120_000_000, leaf_blocks=True)
STOCK3 = replace(ZERO3, reduce_bucket=500_000_000)
OURS = {"one_pass": True, "reduce_bucket": 30_000_000, "overlap": True}
RESIDENT = replace(ZERO2, group=1 << 25, **OURS)
STREAMED = replace(LEAVES, max_reuse_distance=10_000_000, linear_keeps=True, **OURS)
ALLOCATED = {
    "ZeRO-2, 1024 px, 8": (STOCK, 8, 128, 11_593),
    "ZeRO-2, 128 px, 8": (STOCK, 8, 16, 6_255),
    "ZeRO-2, 1024 px, 1": (STOCK, 1, 128, 6_726),
    "ZeRO-2, small bucket, 1024 px, 8": (ZERO2, 8, 128, 10_732),
    "ZeRO-2, small bucket, 1024 px, 1": (ZERO2, 1, 128, 5_865),
    "ZeRO-2, small bucket, 128 px, 8": (ZERO2, 8, 16, 5_413),
    "ZeRO-2 without offload, 1024 px, 8": (replace(STOCK, offload_optimizer=False), 8, 128, 53_940),
    "ZeRO-3, 1024 px, 8": (STOCK3, 8, 128, 8_589),
    "ZeRO-3, small bucket and few at once, 1024 px, 1": (SMALL, 1, 128, 1_355),
    "ZeRO-3, whole blocks, 1024 px, 1": (LEAVES, 1, 128, 1_117),
    "ZeRO-3, whole blocks, 1024 px, 8": (LEAVES, 8, 128, 5_977),
    "ZeRO-3, whole blocks, 128 px, 8": (LEAVES, 8, 16, 797),
    "ZeRO-3, weights on the GPU, 1024 px, 8": (replace(SMALL, offload_param=False, max_live=10**9), 8, 128, 10_676),
}
OF_OURS = {
    "resident, 128 px, 8": (RESIDENT, 8, 16, 5_242, 5_764),
    "resident, 1024 px, 8": (RESIDENT, 8, 128, 10_695, 11_472),
    "resident, 1024 px, 8, accumulation": (replace(RESIDENT, accumulation=4), 8, 128, 10_695, 11_492),
    "streamed, 128 px, 8": (STREAMED, 8, 16, 595, 830),
    "streamed, 1024 px, 1": (STREAMED, 1, 128, 1_159, 1_416),
    "streamed, 768 px, 4": (STREAMED, 4, 96, 2_007, 2_316),
    "streamed, 1024 px, 8": (STREAMED, 8, 128, 6_038, 6_888),
}
"""This launcher's engine on an H200, 2026-11-27: what torch allocated and reserved."""
RESERVED = {
    "stock ZeRO-2": (STOCK, 1, 128, False, 14_950 + 34),
    "ZeRO-2": (ZERO2, 8, 128, True, 14_746 - ENCODED),
    "ZeRO-2 on two GPUs": (replace(ZERO2, ranks=2), 4, 128, True, 9_846),
    "ZeRO-2 without offload": (replace(ZERO2, offload_optimizer=False), 4, 96, True, 34_326),
    "ZeRO-3, parameters on NVMe": (replace(ZERO3, weights_begin_whole=True), 8, 128, True, 4_946),
}
"""The largest is at the start; with segments that do not grow, or do."""


@pytest.fixture(scope="module")
def sdxl():
    return shipped("all")


@pytest.mark.parametrize("name", ALLOCATED)
def test_what_is_allocated_in_a_step_is_what_a_gpu_allocated(sdxl, name):
    facts, pictures, side, measured = ALLOCATED[name]
    step = play(sdxl, facts, pictures=pictures, latents=side * side).step
    assert step.allocated / MIB == pytest.approx(measured - WORKSPACES / 2, rel=0.015, abs=WORKSPACES / 2)
    assert sum(step.parts.values()) == pytest.approx(step.allocated, rel=0.002)


@pytest.mark.parametrize("name", RESERVED)
def test_what_the_start_reserves_is_what_torch_reserved(sdxl, name):
    facts, pictures, side, expandable, measured = RESERVED[name]
    played = play(sdxl, facts, pictures=pictures, latents=side * side, expandable=expandable)
    assert played.start.reserved == measured * MIB
    if facts.stage < 3 and facts.offload_optimizer:
        assert played.step.reserved < played.start.reserved


@pytest.mark.parametrize("name", OF_OURS)
def test_what_ours_takes_in_a_step_is_what_a_gpu_showed(sdxl, name):
    facts, pictures, side, allocated, reserved = OF_OURS[name]
    step, megapixels = play(sdxl, facts, pictures=pictures, latents=side * side).step, pictures * (side / 128) ** 2
    assert step.allocated / MIB + max(SMALLEST_CUDNN_MIB, CUDNN_MIB * megapixels) == pytest.approx(allocated, abs=25)
    assert step.reserved / MIB + (CUDNN_MIB + CUDNN_PIECES_MIB) * megapixels == pytest.approx(reserved, rel=0.04)


def test_groups_take_the_copies_away_that_a_start_makes_and_taking_apart_all_weights(sdxl):
    start = play(sdxl, RESIDENT, pictures=1, latents=16 * 16).start
    assert start.reserved / MIB == pytest.approx(5_536, rel=0.03)
    assert play(sdxl, STREAMED, pictures=1, latents=16 * 16).start.allocated / MIB == pytest.approx(169 + 33, abs=1)


def test_an_update_on_the_gpu_goes_group_by_group(sdxl):
    on_gpu = replace(ZERO2, offload_optimizer=False)
    whole, groups = (
        play(sdxl, each, pictures=1, latents=16 * 16).step for each in (on_gpu, replace(on_gpu, group=1 << 25))
    )
    p = sum(sdxl.parameters)
    assert whole.allocated == pytest.approx(22 * p, rel=0.01)
    assert groups.allocated == pytest.approx(16 * p + 6 * 2**25, rel=0.01)


@pytest.mark.parametrize(
    ("facts", "pictures", "measured"),
    [(ZERO3, 8, 8_206), (replace(ZERO3, ranks=2), 4, 5_346)],
    ids=["one GPU", "two GPUs"],
)
def test_what_stage_3_reserves_is_near_what_torch_reserved(sdxl, facts, pictures, measured):
    step = play(sdxl, facts, pictures=pictures, latents=128 * 128).step
    beside = (CUDNN_MIB + CUDNN_PIECES_MIB) * pictures
    assert step.reserved / MIB + beside == pytest.approx(measured, rel=0.02)
    assert step.parts[GATHERED] <= 2.05e9


def test_gradients_stay_below_stage_2_and_states_on_the_gpu_without_offload(sdxl):
    parameters = sum(sdxl.parameters)
    plain = replace(ZERO2, deepspeed=False, stage=0, offload_optimizer=False)
    step = play(sdxl, plain, pictures=1, latents=128 * 128).step
    assert step.parts[STATES] == 12 * parameters
    assert step.parts[GRADIENTS] == step.parts[WEIGHTS] == 2 * parameters
    stage_1 = play(sdxl, replace(ZERO2, stage=1), pictures=1, latents=16 * 16).step
    assert stage_1.parts[GRADIENTS] == pytest.approx(2 * parameters, rel=0.001)  # some are in the bucket
    assert GRADIENTS not in play(sdxl, ZERO2, pictures=1, latents=16 * 16).step.parts


@pytest.mark.parametrize(("granularity", "mib"), [("none", 6_600), ("transformer_blocks", 1_161), ("all", 691)])
def test_activations_are_those_that_torchs_own_tracker_saw(granularity, mib):
    step = play(shipped(granularity), ZERO2, pictures=1, latents=128 * 128).step
    assert step.parts[ACTIVATIONS] / MIB == pytest.approx(mib, abs=10)  # the engine's own peak is a moment later
