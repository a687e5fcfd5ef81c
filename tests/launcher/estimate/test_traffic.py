"""What a step moves, as DeepSpeed 0.19.8 was read to move it: P parameters, k micro-batches, 2 bytes of a weight."""

from dataclasses import replace

import pytest

from launcher.estimate import SDXL, estimate
from launcher.estimate.adapter import trained
from launcher.estimate.engine_facts import engine_facts
from launcher.estimate.passes import passes_of_sdxl
from launcher.estimate.traffic import traffic

P = SDXL.parameters
PARAMETERS_TOO = {"zero_stage": 3, "offload_param_device": "cpu"}
OWN = {"optimizer.type": "Lion"}
"""DeepSpeed's own offload, with two moments as AdamW has."""
NONE = {"offload_optimizer_device": "none"}
NVME = {"zero_stage": 3, "offload_optimizer_device": "nvme", "offload_optimizer_nvme_path": "/nvme"}
ALL_NVME = {**NVME, "offload_param_device": "nvme", "offload_param_nvme_path": "/nvme"}


@pytest.fixture
def moved(make_settings):
    return lambda **changed: traffic(make_settings(**changed), SDXL)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize(
    ("changed", "up", "down"),
    [
        ({"zero_stage": 1}, lambda k: 2, lambda k: 2),
        ({"zero_stage": 2}, lambda k: 2 + 2 * (k - 1), lambda k: 2 * k),
        ({"zero_stage": 3}, lambda k: 2 + 2 * (k - 1), lambda k: 2 * k),
        ({"zero_stage": 1, **OWN}, lambda k: 2, lambda k: 4),
        ({"zero_stage": 2, **OWN}, lambda k: 2 + 2 * (k - 1), lambda k: 4 + (2 * k if k > 1 else 0)),
        ({"zero_stage": 3, **OWN}, lambda k: 2 + 2 * k, lambda k: 4 + 2 * k),
        ({"zero_stage": 2, **NONE}, lambda k: 0, lambda k: 0),
        ({"zero_stage": 3, **NONE}, lambda k: 0, lambda k: 0),
    ],
)
def test_bytes_over_pcie_follow_from_stage_and_accumulation(moved, changed, up, down, k, ranks):
    seen = moved(num_processes=ranks, gradient_accumulation_steps=k, **changed)
    # At stage 2 each rank adds up all gradients, not its share of them, until the last micro-batch.
    whole = 2 * (k - 1) if changed == {"zero_stage": 2} else 0
    assert seen.up == pytest.approx((up(k) - whole) * P / ranks + whole * P)
    assert seen.down == pytest.approx((down(k) - whole) * P / ranks + whole * P)


def test_one_pass_moves_thirty_two_bytes_a_parameter_through_host_memory_and_deepspeeds_own_fifty(moved):
    assert moved().host == pytest.approx(32 * P)  # 28 of them by the update
    assert moved(**OWN).host == pytest.approx(50 * P)
    assert moved(**{"optimizer.type": "Adagrad"}).host == pytest.approx(42 * P)
    assert moved(num_processes=2).host == pytest.approx(32 * P)  # half of it each
    passes = moved(**PARAMETERS_TOO)
    assert passes.host == pytest.approx(30 * P + passes.up)


def test_stage_3_fetches_weights_for_each_pass_but_those_that_are_used_again_soon(moved):
    reuse, live = (f"zero_optimization.stage3_{key}" for key in ("max_reuse_distance", "max_live_parameters"))
    many = {**PARAMETERS_TOO, reuse: 1_000_000_000, live: 1_000_000_000}
    kept, released = moved(**many), moved(**PARAMETERS_TOO, **{reuse: 0, live: 200_000_000})
    assert kept.forward.up == pytest.approx(2 * P, rel=0.01)
    assert 1.5 * 2 * P < kept.up < 1.7 * 2 * P
    assert 1.8 * 2 * P < released.up < 2 * 2 * P
    assert moved(num_processes=2, **many).forward.up == pytest.approx(kept.forward.up / 2, rel=0.1)


def test_a_moving_average_on_the_cpu_costs_the_host_three_passes_and_without_offload_the_way_down(moved):
    for changed, down in (({}, 0), (NONE, 4 * P)):
        more = moved(use_ema=True, **changed)
        assert more.down - moved(**changed).down == more.beside.down == down
        assert more.host - moved(**changed).host == pytest.approx(12 * P + down)
    assert moved(use_ema=True, ema_update_interval=10).host == pytest.approx(33.2 * P)
    assert moved(use_ema=True, ema_device="accelerator").host == pytest.approx(32 * P)


def test_nvme_wears_by_what_is_written_and_is_read_for_the_passes_too(moved):
    states, everything = moved(**NVME, max_train_steps=100), moved(**ALL_NVME)
    assert (states.nvme_written, states.nvme_read) == (16 * P, 16 * P)
    assert states.nvme_written_by_run == 100 * states.nvme_written
    assert states.drive_steps == pytest.approx(600e12 / (16 * P))
    assert everything.nvme_written == 18 * P
    away = 1 - 1e9 / P  # what max_in_cpu does not keep
    assert everything.nvme_fetched == pytest.approx(away * everything_fetched(moved))
    assert everything.nvme_read == 16 * P + everything.nvme_fetched
    assert moved().drive_steps is None


def everything_fetched(moved):
    return moved(**PARAMETERS_TOO).up


def test_a_block_that_is_fetched_whole_counts_as_one(make_settings):
    settings = make_settings(**PARAMETERS_TOO)
    facts = engine_facts(settings, trained(settings.training.adapter, SDXL))
    each, whole = (passes_of_sdxl("all", replace(facts, leaf_blocks=leaf)) for leaf in (False, True))
    assert each[0].modules == 1442
    assert whole[0].modules == 156
    assert each[1].modules > 1.9 * each[0].modules  # computed again, and backward


def test_of_a_lora_the_adapter_alone_moves(moved):
    assert moved(model_type="lora").down == pytest.approx(2 * 23_224_320)


def test_what_is_frozen_beside_a_lora_is_not_swapped_with_its_states(moved):
    lora, full = moved(**NVME, model_type="lora"), moved(**NVME)
    assert 0 < lora.nvme_written < full.nvme_written / 20


def test_the_json_has_bytes(make_settings):
    content = estimate(make_settings(**NVME), SDXL).to_json()["traffic"]
    assert content["nvme_written_bytes"] == 16 * P
    assert content["pcie_down_bytes"] == 6 * P
    assert content.keys() == {
        "pcie_up_bytes",
        "pcie_down_bytes",
        "host_bytes",
        "nvme_read_bytes",
        "nvme_written_bytes",
        "nvme_written_by_run_bytes",
        "drive_steps",
    }
