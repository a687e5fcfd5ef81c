"""What is recommended fits, is the fastest of what was looked at, and why nothing faster is said with figures."""

import time
from dataclasses import replace

import pytest

from harness.h200 import H200
from launcher.config.deepspeed import BLOCKS, DeepSpeedSettings
from launcher.config.settings import Settings
from launcher.config.training import AdapterSettings, EmaSettings
from launcher.data.extent import NOTHING
from launcher.estimate import SDXL, StepTime, estimate, vram
from launcher.judge import judge
from launcher.machine.bandwidths import DriveSpeed
from launcher.recommend import Budget, deficit, misses, recommend
from launcher.recommend.budget import Kind
from launcher.recommend.choose import _Search
from launcher.recommend.placements import SHARED_1, SHARED_2, SHARED_3, Variant, recomputing
from launcher.recommend.speed import PACES

GIB = 1024
PLENTY = Budget(12 * GIB, 128 * GIB, 400 * GIB)


def base(*, resolution: int = 1024, gpus: int = 1, accumulation: int = 1, **deepspeed) -> Settings:
    settings = Settings()
    training = settings.training
    return Settings(
        replace(settings.launch, deepspeed=True, num_processes=gpus),
        DeepSpeedSettings(gradient_accumulation_steps=accumulation, **deepspeed),
        replace(training, data=replace(training.data, resolution=resolution)),
    )


def gib(vram: float, ram: float, disk: float) -> Budget:
    return Budget(int(vram * GIB), int(ram * GIB), int(disk * GIB))


BUDGETS = [
    # of each GPU, host, disk; every value meets small and large ones of the others
    (2, 16, 20), (6.5, 64, 80), (8, 32, 400), (10, 48, 80), (12, 16, 400), (12, 64, 20), (24, 128, 80), (48, 32, 80),
    (80, 2, 80), (141, 128, 400),
]  # fmt: skip


@pytest.mark.parametrize("there", BUDGETS, ids=str)
def test_every_budget_gets_what_fits_or_what_is_missing(there):
    budget, settings = gib(*there), base()
    found = recommend(settings, SDXL, budget)
    for refusal in found.refused:
        assert refusal.missed == misses(estimate(refusal.option.settings, SDXL), budget) != ()
        assert all(str(miss.kind) in deficit(miss) and "short" in deficit(miss) for miss in refusal.missed)
    if found.chosen is not None:
        assert misses(estimate(found.chosen.settings, SDXL), budget) == ()
        assert found.nearest is found.instead is None
        return
    assert found.nearest in found.refused
    assert found.nearest.overshoot == min(refusal.overshoot for refusal in found.refused)
    if found.instead is not None:
        option, how = found.instead
        assert how.startswith("with ")
        assert misses(option.cost, budget) == ()


@pytest.mark.parametrize(
    ("budget", "settings", "chosen"),
    [
        (gib(6.5, 64, 100), base(), "ZeRO stage 3, optimizer and weights on the CPU, batch 6, all blocks recomputed"),
        (gib(12, 64, 100), base(), "ZeRO stage 2, optimizer on the CPU, batch 7, all blocks recomputed"),
        (gib(24, 64, 100), base(), "ZeRO stage 2, optimizer on the CPU, batch 8, transformer blocks alone recomputed"),
        (gib(80, 8, 100), base(), "plain PyTorch, everything on the GPU, batch 8, transformer blocks alone recomputed"),
        (gib(141, 8, 100), base(), "plain PyTorch, everything on the GPU, batch 8, nothing recomputed"),
        (gib(12, 64, 100), base(resolution=128), "ZeRO stage 2, optimizer on the CPU, batch 32, nothing recomputed"),
        (gib(24, 64, 100), base(accumulation=4), "ZeRO stage 1, optimizer on the CPU, 4 micro-batches of 8"),
        (gib(48, 64, 100), base(gpus=2), "ZeRO stage 1, nothing offloaded, batch 8"),
        (gib(24, 64, 100), base(optimizer_type="Lion"), "ZeRO stage 2, optimizer on the CPU, batch 8"),
    ],
)
def test_the_fastest_is_chosen_and_of_equally_fast_ones_the_lowest_stage(budget, settings, chosen):
    found = recommend(settings, SDXL, budget)
    assert str(found.chosen).startswith(chosen)


def test_each_thing_that_would_be_faster_is_told_with_the_budget_it_misses():
    found = recommend(base(), SDXL, gib(11.5, 62, 100))
    assert found.chosen.variant.batch == 7 and found.chosen.settings.deepspeed.offload_optimizer_pin_memory
    told = {refusal.title: deficit(refusal.missed[0]) for refusal in found.refused}
    assert told.pop("batch 8").startswith("needs 12.1 GiB of VRAM while training, 11.5 GiB are there: ")
    assert "VRAM" in told.pop("transformer blocks alone recomputed")
    (plain,) = told.values()
    assert plain.startswith("needs 49.7 GiB of VRAM while training")
    assert found.refused[0].is_whole
    short = recommend(base(), SDXL, gib(11.5, 40, 100)).refused
    assert "needs 46.0 GiB of host RAM, 40.0 GiB are there: 6.0 GiB short" in [
        deficit(each.missed[0]) for each in short
    ]


def test_a_batch_that_was_asked_for_is_kept_or_divided():
    kept = recommend(base(), SDXL, gib(24, 64, 100), batch=3)
    assert kept.chosen.settings.training.optimization.train_batch_size == 3
    refused = recommend(base(), SDXL, gib(6.5, 64, 100), batch=8)
    option, how = refused.instead
    assert refused.chosen is None
    assert option.settings.global_batch_size == 8
    assert how == "with as many pictures in a step, in several micro-batches"


def test_nvme_is_taken_where_it_is_allowed_and_named_where_it_is_not():
    without = recommend(base(), SDXL, gib(12, 30, 200))
    assert without.chosen is None
    assert without.instead[1].startswith("with NVMe offload")
    assert without.nearest.missed[0].kind is Kind.RAM
    assert "needs 41.2 GiB" in deficit(without.nearest.missed[0])
    allowed = recommend(base(), SDXL, gib(12, 30, 200), nvme="/drive").chosen
    assert allowed.settings.deepspeed.offload_optimizer_nvme_path == "/drive"
    assert any("lasts" in note for note in allowed.cost.notes)
    # Where host RAM suffices, it is left alone.
    spared = recommend(base(), SDXL, gib(12, 64, 200), nvme="/drive").chosen
    assert spared.settings.deepspeed.nvme_parts == ()


def test_a_small_disk_keeps_one_checkpoint_or_weights_alone():
    once = recommend(base(), SDXL, gib(12, 64, 45))
    assert once.instead[1] == "with one checkpoint, at the end"
    assert once.instead[0].cost.disk_mib < 45 * GIB
    assert "weights alone" in recommend(base(), SDXL, gib(12, 64, 20)).instead[1]
    assert recommend(base(), SDXL, gib(12, 64, 5)).instead is None


def test_what_else_is_answered_stays_and_counts():
    settings = base()
    training = replace(settings.training, ema=EmaSettings(use_ema=True))
    found = recommend(replace(settings, training=training), SDXL, gib(12, 72, 200)).chosen
    assert found.settings.training.ema.use_ema
    assert found.cost.host_mib > recommend(settings, SDXL, gib(12, 72, 200)).chosen.cost.host_mib + 9000


def test_stage_3_fetches_blocks_whole_but_for_a_lora_and_other_stages_do_not():
    eight = recommend(base(), SDXL, gib(8, 64, 100)).chosen.settings.deepspeed
    assert (eight.stage, eight.fetched_whole) == (3, frozenset(BLOCKS))
    twelve = recommend(base(stage=3, extra=eight.extra), SDXL, PLENTY).chosen.settings.deepspeed
    assert (twelve.stage, twelve.extra) == (2, {})
    settings = base()
    lora = replace(settings, training=replace(settings.training, adapter=AdapterSettings(model_type="lora")))
    search = _Search(lora, SDXL, gib(4, 64, 100), NOTHING, None, "", 1, 1)
    search.run()
    assert {each.option.settings.deepspeed.fetched_whole for each in search.refused} == {frozenset()}
    assert search.ruled_out == []


def test_linear_layers_keep_their_weights_where_blocks_are_recomputed_and_fetched_whole_and_nowhere_else():
    whole = recommend(base(), SDXL, gib(8, 64, 100)).chosen.settings
    assert whole.deepspeed.keeps_linear_weights
    for checkpointing, kept in (("transformer_blocks", True), ("none", False), ("all", True)):
        other = recomputing(whole, checkpointing)
        assert (other.deepspeed.keeps_linear_weights, other.deepspeed.fetched_whole) == (kept, frozenset(BLOCKS))
        assert judge(other, SDXL) == []
    for left_so in (base(stage=3), base(stage=2, extra=whole.deepspeed.extra)):
        assert not recomputing(left_so, "all").deepspeed.keeps_linear_weights


def test_what_a_rule_refuses_is_no_candidate_and_its_reason_is_told():
    found = recommend(base(optimizer_type="Lion"), SDXL, gib(24, 64, 100))
    (name, message), *_ = found.ruled_out
    assert name.startswith("plain PyTorch")
    assert "Lion" in message
    assert found.chosen.settings.launch.deepspeed


def test_known_seconds_of_a_step_decide(monkeypatch):
    """On a machine where stage 3 is twice as fast, whatever an H200 says."""

    def timed(settings, model, data, speed):
        seconds = 1.0 if settings.deepspeed.stage == 3 else 2.0
        return replace(estimate(settings, model, data), step_time=StepTime(seconds, 0, 0, (), ""))

    budget = gib(11.5, 64, 100)
    assert recommend(base(), SDXL, budget).chosen.variant.placement.stage == 2
    monkeypatch.setattr("launcher.recommend.choose.estimate", timed)
    assert recommend(base(), SDXL, budget).chosen.variant.placement.stage == 3


@pytest.mark.parametrize("placement", PACES, ids=lambda placement: placement.name)
def test_the_order_is_that_of_seconds_predicted_for_an_h200(placement):
    speed = replace(H200, drive=DriveSpeed(path="/nvme", write_gb_s=4.0, read_gb_s=6.0))
    gpus = 2 if placement in (SHARED_1, SHARED_2, SHARED_3) else 1

    def seconds(accumulation: int) -> float:
        settings = Variant(placement, 1).settings(base(gpus=gpus, accumulation=accumulation), "/nvme")
        return estimate(settings, SDXL, speed=speed).step_seconds

    least = seconds(2) - seconds(1)
    assert PACES[placement].least == pytest.approx(least, rel=0.1)
    assert PACES[placement].update == pytest.approx(seconds(1) - least, rel=0.1)


def test_nobody_waits_long():
    vram._play.cache_clear()
    begun = time.process_time()
    recommend(base(), SDXL, gib(7.5, 64, 100))
    assert time.process_time() - begun < 6, "1.3 s, on a quiet core"
