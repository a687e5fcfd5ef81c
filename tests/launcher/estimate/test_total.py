"""The estimate against what DeepSpeed was measured to allocate, and against SDXL on a real card."""

from dataclasses import replace

import pytest

from benchmarks.answers import UNTUNED
from launcher.data.extent import Extent
from launcher.estimate import SDXL, Estimate, ModelFacts, Verdict, estimate, verdict
from launcher.estimate.gpu import CUBLAS
from launcher.estimate.total import checkpoint_mib
from launcher.estimate.vram import CAPTIONS, CONTEXT, CONTEXT_MIB, CUDNN, ENCODING, KERNELS, NCCL, PAGES

MIB = 2**20
GB = 1e9
P, L = SDXL.parameters, SDXL.largest_tensor
PIN = "zero_optimization.offload_optimizer.pin_memory"
BUCKET = "zero_optimization.reduce_bucket_size"
SUB_GROUP = "zero_optimization.sub_group_size"
MAX_REUSE = "zero_optimization.stage3_max_reuse_distance"
MAX_LIVE = "zero_optimization.stage3_max_live_parameters"
PREFETCH = "zero_optimization.stage3_prefetch_bucket_size"
OVERLAP = "zero_optimization.overlap_comm"
OPTIMIZER = "optimizer.type"
B, G = 50_000_000, 1 << 25
"""The bucket, and our groups of parameters."""
OWN = {OPTIMIZER: "Lion"}
"""DeepSpeed's own offload, with two moments as AdamW has."""
NONE = {"offload_optimizer_device": "none"}
PARAMETERS_TOO = {"zero_stage": 3, "offload_param_device": "cpu"}
LIBRARIES, ON_THEIR_WAY = "Python, torch and CUDA libraries", "weights on their way"
OUTSIDE = (CONTEXT, KERNELS, NCCL, PAGES, CUBLAS, CUDNN)
"""What CUDA and its libraries take of a GPU."""
UNTRACED = replace(SDXL, is_sdxl=False, config="?")
"""Of SDXL's size, and without a trace."""


A_FORMULAS = "GPU memory is a formula's,"


@pytest.fixture
def cost(make_settings):
    def cost(model: ModelFacts = SDXL, pictures: int = 0, in_rows: int = 0, **changed: object) -> Estimate:
        return estimate(make_settings(**{**UNTUNED, **changed}), model, Extent(pictures, in_rows))

    return cost


def of(parts, *leave_out: str) -> float:
    """Bytes of the parts of a cost, without some of them."""
    return sum(part.mib for part in parts if part.name not in leave_out) * MIB


def states(cost: Estimate) -> float:
    """Bytes on the GPU that DeepSpeed allocates while it trains."""
    return of(cost.phase("step").parts, *OUTSIDE, "activations")


def host(cost: Estimate) -> float:
    return of(cost.host, LIBRARIES, ON_THEIR_WAY)


def about(value: float):
    """To the rounding of each part to a MiB."""
    return pytest.approx(value, abs=4 * MIB)


# GPU, by stage and offload: P parameters, N ranks, B the bucket, L the largest tensor, in bytes for bf16 and AdamW


@pytest.mark.parametrize("ranks", [1, 2, 8])
@pytest.mark.parametrize(
    ("changed", "formula"),
    [
        ({"zero_stage": 0, **NONE}, lambda n: 2 * P + 2 * P + 12 * P),
        ({"zero_stage": 1, **NONE}, lambda n: 2 * P + 12 * P / n + 2 * P + 4 * G / n + 2 * B),
        ({"zero_stage": 2, **NONE}, lambda n: 2 * P + 12 * P / n + 2 * P / n + 4 * G / n + 2 * B),
        ({"zero_stage": 3, **NONE}, lambda n: 16 * P / n + 2 * B + (2e9 if n > 1 else 0)),
        ({"zero_stage": 1}, lambda n: 2 * P + 2 * P + 2 * B),
        ({"zero_stage": 2}, lambda n: 2 * P + 2 * B),
        ({"zero_stage": 2, "gradient_accumulation_steps": 4}, lambda n: 2 * P + 2 * B + 2 * 2**23),
        ({"zero_stage": 2, **OWN}, lambda n: 2 * P + 2 * B + 2 * L),
        ({"zero_stage": 3}, lambda n: 2 * P / n + 2 * B + (2e9 if n > 1 else 0)),
        (PARAMETERS_TOO, lambda n: 2 * B + 2e9 + 2 * B),
        ({**PARAMETERS_TOO, **NONE}, lambda n: 2 * B + 2e9 + 2 * B + 2 * P / n + 12 * P / n),
    ],
)
def test_a_stage_puts_on_the_gpu_what_deepspeed_allocates(cost, changed, formula, ranks):
    assert states(cost(UNTRACED, num_processes=ranks, **changed)) == about(formula(ranks))


def test_no_offload_at_stage_2_is_36_gb_resident_and_41_at_the_step(cost):
    steps = cost(UNTRACED, zero_stage=2, **NONE).phase("step").parts
    resident = of(steps, *OUTSIDE, "activations", "gradients", "gradients in fp32 at the step", "reduce bucket")
    peak = of(steps, *OUTSIDE, "activations", "reduce bucket")
    assert resident / GB == pytest.approx(36, abs=0.5)
    assert peak / GB == pytest.approx(41.2, abs=0.1)


def test_overlap_takes_a_second_bucket_below_stage_3(cost):
    for stage, more in ((1, 2 * B), (2, 2 * B), (3, 0)):
        changed = {"zero_stage": stage, OVERLAP: True}
        assert states(cost(UNTRACED, **changed)) - states(cost(UNTRACED, zero_stage=stage)) == about(more)


def test_deepspeeds_own_bucket_takes_a_gigabyte(cost):
    assert states(cost(UNTRACED, **{BUCKET: 500_000_000})) / GB == pytest.approx(5.1 + 1.0, abs=0.05)


@pytest.mark.parametrize(
    ("changed", "formula"),
    [
        ({"zero_stage": 0, **NONE}, 4 * P + 4 * P + 8 * P),  # the weights are their own masters
        ({"zero_stage": 1, **NONE}, 4 * P + 12 * P + 4 * P + 4 * G + 4 * B),
        ({"zero_stage": 2}, 4 * P + 4 * B),
    ],
)
def test_fp32_takes_four_bytes_where_half_precision_takes_two(cost, changed, formula):
    assert states(cost(UNTRACED, mixed_precision="no", **changed)) == about(formula)


@pytest.mark.parametrize(("optimizer", "saved"), [("Adagrad", 2 * P), ("Lion", -2 * P)])
def test_another_optimizer_takes_two_bytes_more_for_gradients_and_four_less_for_a_moment_that_it_lacks(
    cost, optimizer, saved
):
    less = host(cost()) - host(cost(**{OPTIMIZER: optimizer}))
    assert less == about(saved - 2 * L)  # DeepSpeed's own has room for one more gradient
    less = checkpoint_mib_of(cost) - checkpoint_mib_of(cost, **{OPTIMIZER: optimizer})
    assert less * MIB == about(saved + 2 * P)


def test_muon_keeps_one_moment_of_most_weights(cost):
    less = checkpoint_mib_of(cost) - checkpoint_mib_of(cost, **{OPTIMIZER: "Muon"})
    assert less * MIB == about(4 * 0.86 * P)


def checkpoint_mib_of(cost, **changed):
    (part,) = cost(max_train_steps=1, export_pipeline=False, **changed).disk
    return part.mib


def test_gathered_parameters_are_never_more_than_there_are(cost):
    tiny = replace(UNTRACED, parameters=1_000_000)
    live = {part.name: part.mib for part in cost(tiny, **PARAMETERS_TOO).phase("step").parts}["gathered parameters"]
    assert live * MIB == about(2 * (1_000_000 + 1_000_000))


def test_an_engine_starts_with_copies_of_one_group_beside_the_weights_or_takes_them_apart(cost):
    for stage in (1, 2):
        played, formula = (cost(model, zero_stage=stage).phase("init") for model in (SDXL, UNTRACED))
        assert played.allocated_mib * MIB == pytest.approx(2 * P + 33 * MIB + 2 * G, abs=10 * MIB)
        assert of(formula.parts, *OUTSIDE) == about(2 * P + 4 * G)
    for offload, staying in (({"zero_stage": 3}, 2 * P), (PARAMETERS_TOO, 0)):
        assert of(cost(UNTRACED, **offload).phase("init").parts, *OUTSIDE) == about(staying + 3 * 2 * L)
    nvme = cost(UNTRACED, **ALL_ON_NVME)  # comes whole
    assert of(nvme.phase("init").parts, *OUTSIDE) == about(2 * P)


def test_muon_has_groups_of_its_own_which_are_flattened_whole(cost):
    assert cost(**{OPTIMIZER: "Muon"}).phase("init").reserved_mib * MIB > 5.8 * P


def test_the_gpu_needs_what_the_largest_phase_does(cost):
    small, large = cost(**{OPTIMIZER: "Muon"}), cost(train_batch_size=32, checkpoint_contents="weights")
    assert (small.gpu_peak.name, large.gpu_peak.name) == ("init", "step")
    for whole in (small, large):
        assert whole.gpu_mib == max(sum(part.mib for part in phase.parts) for phase in whole.gpu)


def test_phases_are_those_of_a_run(cost):
    drawn = {"validation_steps": 10, "num_validation_images": 1}
    assert [phase.name for phase in cost(**drawn).gpu] == ["caching", "load", "init", "step", "validation", "save"]
    assert [phase.name for phase in cost(UNTRACED).gpu] == ["load", "init", "step", "save"]


def test_caches_take_of_captions_a_batch_and_of_a_picture_two_tensors(cost):
    for resolution, at_most in ((128, 1600), (1024, 2200)):
        least = cost(**PARAMETERS_TOO, resolution=resolution).phase("caching")
        assert least.allocated_mib < least.reserved_mib < at_most
    captions, pictures = ({part.name for part in cost(resolution=side).phase("caching").parts} for side in (512, 1024))
    assert CAPTIONS in captions
    assert ENCODING in pictures
    small, large = (cost(resolution=side).phase("caching").allocated_mib for side in (1024, 2048))
    assert large - small == pytest.approx(3 * 2 * 512, rel=0.02)


# NVMe

ON_NVME = {"zero_stage": 3, "offload_optimizer_device": "nvme", "offload_optimizer_nvme_path": "/nvme", PIN: False}
ALL_ON_NVME = {**ON_NVME, "offload_param_device": "nvme", "offload_param_nvme_path": "/nvme"}


@pytest.mark.parametrize(
    ("group", "buffers", "pageable"), [(1_000_000_000, 16.5, 4.1), (100_000_000, 2.1, 0.5)], ids=["1e9", "1e8"]
)
def test_nvme_takes_the_states_out_of_host_memory_but_for_a_group_at_a_time(cost, group, buffers, pageable):
    parts = {part.name: part.mib * MIB / GB for part in cost(**ON_NVME, **{SUB_GROUP: group}).host}
    assert parts["optimizer, buffers"] == pytest.approx(5.1, abs=0.1)
    assert parts["buffers for NVMe, locked"] == pytest.approx(buffers, abs=0.1)
    assert parts["optimizer, pageable"] == pytest.approx(pageable, abs=0.1)
    assert sum(parts.values()) < host(cost(zero_stage=3, **{PIN: False})) / GB


def test_parameters_on_nvme_leave_a_billion_in_host_memory(cost):
    optimizer, both = (
        {part.name: part.mib * MIB for part in cost(**changed).host} for changed in (ON_NVME, ALL_ON_NVME)
    )
    assert both["parameters, pinned"] == about(2e9)
    group = 100_000_000 + L
    locked = both["buffers for NVMe, locked"] - optimizer["buffers for NVMe, locked"]
    assert locked == about(5 * 2 * 30_408_704 + 2 * group)


@pytest.mark.parametrize(("optimizer", "each"), [("AdamW", 16), ("Lion", 16), ("Adagrad", 12)])
@pytest.mark.parametrize("ranks", [1, 2])
def test_the_drive_holds_what_is_swapped_to_it(cost, optimizer, each, ranks):
    parts = {
        part.name: part.mib * MIB for part in cost(num_processes=ranks, **ALL_ON_NVME, **{OPTIMIZER: optimizer}).disk
    }
    assert parts["optimizer on NVMe"] == about(each * P)
    assert parts["parameters on NVMe"] == about(2 * P)


def test_what_the_drive_bears_is_noted(cost):
    (note,) = cost(replace(SDXL, assumed=False), max_train_steps=1000, **ON_NVME).notes
    assert note == (
        "each optimizer step writes 41.1 GB to the drive, 41.1 TB in 1000 steps; a drive made for 600 TB lasts "
        "14,606 steps"
    )


def test_below_stage_3_nvme_is_host_memory_and_deepspeeds_own(cost):
    below = {"zero_stage": 2, "offload_optimizer_device": "nvme"}
    assert host(cost(**below)) == host(cost(**OWN))
    assert cost(**below).disk == cost(zero_stage=2).disk


# activations


def activations(cost: Estimate) -> int:
    return {part.name: part.mib for part in cost.phase("step").parts}["activations"]


def near(mib: float):
    """Of activations at the moment of the whole peak, which is not quite their own."""
    return pytest.approx(mib, rel=0.008)


def test_activations_grow_with_the_batch_and_with_the_pixels(cost):
    assert activations(cost()) == near(691)
    assert activations(cost(train_batch_size=8)) == near(8 * 691)
    assert activations(cost(resolution=512, train_batch_size=4)) == near(691)
    assert activations(cost(resolution=2048, train_batch_size=2)) == near(8 * 691)


def test_the_largest_bucket_counts(cost, tmp_path):
    assert activations(cost(resolution=1000)) == near(691 * (576 * 1728) / 1024**2)
    assert activations(cost(resolution_type="pixel", resolution=512)) == near(691)  # the last bucket is 512 x 2048
    file = tmp_path / "sources.json"
    file.write_text(
        '[{"id": "a", "instance_data_dir": "a"}, {"id": "b", "instance_data_dir": "b", "resolution": 2048}]'
    )
    assert activations(cost(resolution=512, instance_data_dir="", data_backend_config=str(file))) == near(4 * 691)
    file.write_text("[")
    assert activations(cost(resolution=1024, instance_data_dir="", data_backend_config=str(file))) == near(691)


def test_small_pictures_leave_the_norm_of_the_largest_gradient_where_deepspeed_takes_it(cost):
    assert "gradients while they are reduced" not in {part.name for part in cost(resolution=32).phase("step").parts}
    small = {part.name: part.mib * MIB for part in cost(resolution=32, **OWN).phase("step").parts}
    assert small["gradients while they are reduced"] == about(2 * L + 8 * L)
    by_formula = cost(replace(SDXL, config="?"), resolution=32, mixed_precision="no")
    assert activations(by_formula) == 2 * 62


def test_without_checkpointing_activations_are_ten_times_as_many(cost):
    assert activations(cost(gradient_checkpointing=False)) == near(6600)


def test_activations_of_resnets_that_are_kept_take_two_thirds_more(cost):
    kept = {"gradient_checkpointing_granularity": "transformer_blocks"}
    assert activations(cost(**kept)) == near(1160)
    assert activations(cost(**kept, train_batch_size=8)) == near(9281)  # traced too
    assert activations(cost(**kept, gradient_checkpointing=False)) == near(6600)


def test_activations_in_fp32_are_twice_as_large(cost):
    assert activations(cost(mixed_precision="no")) == 2 * 691
    assert activations(cost(mixed_precision="fp16")) == near(691)


# host RAM


@pytest.mark.parametrize(
    ("changed", "each"),
    [
        ({"zero_stage": 2}, 4 + 2 + 2 + 8),  # masters, gradients, weights on their way, moments
        ({"zero_stage": 2, "gradient_accumulation_steps": 4}, 4 + 2 + 2 + 8),
        ({"zero_stage": 1}, 4 + 2 + 2 + 8),
        ({"zero_stage": 2, "mixed_precision": "no"}, 4 + 4 + 8),  # masters go up themselves
        ({"zero_stage": 2, **OWN}, 4 + 4 + 2 + 8),
        ({"zero_stage": 2, "gradient_accumulation_steps": 4, **OWN}, 4 + 4 + 2 + 2 + 8),
        ({"zero_stage": 1, "gradient_accumulation_steps": 4, **OWN}, 4 + 4 + 2 + 8),
        ({"zero_stage": 3}, 4 + 2 + 8),
        ({"zero_stage": 3, **OWN}, 4 + 4 + 2 + 8),
        (PARAMETERS_TOO, 4 + 2 + 8 + 2),
        ({**PARAMETERS_TOO, **OWN}, 4 + 4 + 2 + 8 + 2),
        ({**PARAMETERS_TOO, **NONE}, 2),
        (NONE, 0),
        ({"zero_stage": 0, **NONE}, 0),
    ],
)
def test_host_ram_is_this_many_bytes_a_parameter_pinned_or_not(cost, changed, each):
    more = 2 * L if OPTIMIZER in changed and changed["zero_stage"] < 3 else 0
    pinned, pageable = cost(**changed), cost(**changed, **{PIN: False})
    assert host(pinned) == host(pageable) == about(each * P + more)
    stay = 2 * P if "offload_param_device" in changed else 0  # DeepSpeed pins them whatever is said
    assert pageable.host_pinned_mib * MIB == about(stay)
    moments = 8 if each > 2 else 0
    masters = 4 if changed.get("zero_stage") == 3 and each > 2 else 0
    assert pinned.host_pinned_mib * MIB == about((each - moments - masters) * P + more)


def test_what_is_taken_apart_into_pageable_memory_leaves_some_of_it_behind(cost):
    pin = {"zero_optimization.offload_param.pin_memory": False}
    kept = host(cost(**PARAMETERS_TOO, **pin)) - host(cost(**PARAMETERS_TOO))
    assert 1.5 * P < kept < 2 * P


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_all_ranks_together_need_what_one_would_but_for_rounding_and_libraries(cost, stage):
    changed = {"zero_stage": stage, PIN: False}
    one, four = cost(**changed), cost(num_processes=4, **changed)
    assert host(four) == pytest.approx(host(one), abs=3 * 2 * L + 4 * MIB)
    two = cost(num_processes=2, **changed)
    libraries = [{part.name: part.mib for part in whole.host}[LIBRARIES] for whole in (one, two, four)]
    assert libraries[2] == 2 * libraries[1] > 4 * libraries[0]  # NCCL's besides


@pytest.mark.parametrize(
    ("changed", "copies"),
    [({}, 1), ({"zero_stage": 1}, 0), ({"zero_stage": 3}, 0), ({"gradient_accumulation_steps": 1}, 0), (OWN, 0)],
    ids=str,
)
def test_several_ranks_that_add_up_by_themselves_hold_all_gradients_each(cost, changed, copies):
    changed = {"zero_stage": 2, "gradient_accumulation_steps": 4, **changed}
    one, two = cost(**changed), cost(num_processes=2, **changed)
    assert host(two) - host(one) == pytest.approx(copies * 2 * P, abs=3 * 2 * L + 4 * MIB)
    pinned = (two.host_pinned_mib - one.host_pinned_mib) * MIB
    assert pinned == pytest.approx(copies * 2 * P, abs=3 * 2 * L + 4 * MIB)


def test_what_is_not_pinned_is_not_called_so(cost):
    assert [part.name for part in cost().host] == [LIBRARIES, "optimizer, pinned", "optimizer, pageable", ON_THEIR_WAY]
    assert cost().host_pinned_mib == {part.name: part.mib for part in cost().host}["optimizer, pinned"]
    assert cost(**{PIN: False}).host_pinned_mib == 0
    assert [part.name for part in cost(**{PIN: False}).host][1] == "optimizer, buffers"


def test_a_moving_average_takes_4_bytes_a_parameter_where_it_is_kept_and_in_each_checkpoint(cost, make_settings):
    on_gpu = {"use_ema": True, "ema_device": "accelerator"}
    for stage, ranks, on_each in ((0, 2, 4 * P), (2, 2, 2 * P), (3, 4, P)):
        changed = {"zero_stage": stage, "num_processes": ranks, **NONE}
        assert host(cost(**changed, use_ema=True)) - host(cost(**changed)) == about(4 * P)
        assert states(cost(**changed, use_ema=True)) == states(cost(**changed))
        assert states(cost(**changed, **on_gpu)) - states(cost(**changed)) == about(on_each)
        assert host(cost(**changed, **on_gpu)) == host(cost(**changed))
    assert checkpoint_mib(make_settings(use_ema=True), SDXL) * MIB == about(18 * P)


# disk


def disk(cost: Estimate) -> dict[str, int]:
    return {part.name: part.mib for part in cost.disk}


@pytest.mark.parametrize(
    ("changed", "bytes_each"),
    [
        ({"zero_stage": 2}, 14),
        ({"zero_stage": 1}, 14),
        ({"zero_stage": 3}, 12),
        ({"zero_stage": 0, **NONE}, 14),
        ({"zero_stage": 0, **NONE, "mixed_precision": "no"}, 12),
        ({"zero_stage": 2, "mixed_precision": "no"}, 16),
        ({"zero_stage": 2, OPTIMIZER: "Adagrad"}, 10),
        ({"zero_stage": 2, OPTIMIZER: "Lion"}, 14),
        ({"zero_stage": 2, "checkpoint_contents": "weights"}, 2),
        ({"zero_stage": 3, "checkpoint_contents": "weights", "export_dtype": "fp32"}, 4),
        ({"zero_stage": 3, "checkpoint_contents": "both"}, 14),
    ],
)
def test_a_checkpoint_takes_this_many_bytes_a_parameter(make_settings, changed, bytes_each):
    assert checkpoint_mib(make_settings(**changed), SDXL) * MIB == about(bytes_each * P)


def test_a_checkpoint_of_sdxl_is_36_gb_and_one_more_than_is_kept_lies_there(make_settings, cost):
    assert checkpoint_mib(make_settings(), SDXL) * MIB / GB == pytest.approx(36, abs=0.1)
    changed = {"max_train_steps": 1000, "checkpointing_steps": 10}
    assert disk(cost(checkpoints_total_limit=1, **changed))["checkpoints, 2 at a time"] * MIB == about(2 * 14 * P)
    assert disk(cost(checkpoints_total_limit=4, **changed))["checkpoints, 5 at a time"] * MIB == about(5 * 14 * P)


@pytest.mark.parametrize(
    ("steps", "every", "together"), [(10, 500, 1), (500, 500, 1), (501, 500, 2), (1000, 500, 2), (1001, 500, 3)]
)
def test_a_short_run_never_writes_as_many_checkpoints_as_it_may_keep(cost, steps, every, together):
    names = disk(cost(max_train_steps=steps, checkpointing_steps=every, checkpoints_total_limit=2))
    assert f"checkpoints, {together} at a time" in names


@pytest.mark.parametrize(("dtype", "size"), [("bf16", 2), ("fp16", 2), ("fp32", 4)])
def test_an_exported_pipeline_is_the_unet_and_all_that_belongs_to_it(cost, dtype, size):
    exported = disk(cost(export_dtype=dtype))["exported pipeline"]
    assert exported * MIB == about(size * P + SDXL.other_components_mib * MIB)
    assert "exported pipeline" not in disk(cost(export_pipeline=False))


def test_caches_are_latents_and_prompts_of_every_picture(cost):
    # Mean and deviation of 4 x 128 x 128 in fp32; 77 x 2048 and 1280 in bf16.
    each = 2 * 4 * 128 * 128 * 4 + (77 * 2048 + 1280) * 2
    assert disk(cost(pictures=1000))["caches"] * MIB == about(1000 * each)
    assert disk(cost(pictures=1000, resolution=512))["caches"] * MIB == about(1000 * (each - 2 * 3 * 64 * 64 * 16))
    assert "caches" not in disk(cost())


def test_pictures_in_rows_are_written_to_the_disk(cost):
    assert disk(cost(in_rows=5 * GB))["pictures in rows"] * MIB == about(5 * GB)
    assert "pictures in rows" not in disk(cost(pictures=1000))


def test_disk_is_the_sum_of_its_parts(cost):
    whole = cost(pictures=500)
    assert whole.disk_mib == sum(disk(whole).values())


def test_what_the_vae_takes_between_steps_is_told_where_pictures_are_drawn(cost):
    def told(**changed):
        return [note for note in cost(**changed).notes if "VAE" in note]

    assert told() == []
    assert told(validation_steps=100, num_validation_images=0) == []
    assert "VAE takes 5201 MiB" in told(validation_steps=100)[0]
    assert "VAE takes 1540 MiB" in told(validation_steps=100, validation_resolution=512)[0]


# what is not known


def test_what_is_assumed_or_left_out_is_said(cost):
    here = replace(SDXL, assumed=False)
    assert cost(here).notes == ()
    assert cost().notes == ("the model is not here yet: SDXL's own sizes are assumed",)
    other = replace(here, config="?")
    assert cost(other).notes == (f"{A_FORMULAS} with activations, until a step of this U-Net is traced",)
    assert cost(other, use_cpu=True).notes[0] == f"{A_FORMULAS} with activations: for the CPU it is not traced"
    tiny = cost(replace(other, is_sdxl=False))
    assert tiny.notes == (f"{A_FORMULAS} without activations, until a step of this U-Net is traced",)
    assert "activations" not in {part.name for part in tiny.phase("step").parts}


def test_keys_of_an_opened_file_are_not_counted_and_that_is_said(make_settings):
    settings = make_settings()
    settings = replace(settings, deepspeed=replace(settings.deepspeed, extra={"aio": {"block_size": 1}}))
    assert "beyond the questions is not counted" in " ".join(estimate(settings, SDXL).notes)


def test_the_json_has_totals_phases_and_parts(cost):
    whole = cost(pictures=5, **{OPTIMIZER: "Muon"})
    content = whole.to_json()
    for name in ("gpu", "host", "disk"):
        assert content[f"{name}_mib"] == getattr(whole, f"{name}_mib")
    phases = {phase["name"]: phase for phase in content["gpu"]}
    assert {"name": CONTEXT, "mib": CONTEXT_MIB} in phases["init"]["parts"]
    assert content["gpu_peak"] == "init"
    assert phases["init"]["process_mib"] == content["gpu_mib"] > phases["step"]["process_mib"]
    assert content["gpu_least_mib"] == max(phase["least_mib"] for phase in phases.values())


def of_nccl(whole) -> dict[str, int]:
    """MiB by phase."""
    return {phase.name: sum(part.mib for part in phase.parts if part.name == NCCL) for phase in whole.gpu}


@pytest.mark.parametrize("stage", [2, 3])
@pytest.mark.parametrize("device", ["cpu", "none"])
def test_nccl_takes_memory_between_gpus_and_none_of_one_alone(cost, stage, device):
    changed = {"zero_stage": stage, "offload_optimizer_device": device}
    assert set(of_nccl(cost(num_processes=1, **changed)).values()) == {0}
    two = of_nccl(cost(num_processes=2, **changed))
    assert 0 < two["load"] < two["init"] < two["step"] < two["save"]
    weights = of_nccl(cost(num_processes=2, checkpoint_contents="weights", **changed))
    assert weights["save"] == weights["step"] == two["step"], "DeepSpeed's checkpoints are what takes one more group"


def test_few_channels_leave_more_of_a_gpu_for_a_run_whose_optimizer_is_on_the_cpu(cost):
    scarce, whole = of_nccl(cost(num_processes=2)), of_nccl(cost(num_processes=2, offload_optimizer_device="none"))
    assert all(2 * scarce[phase] < whole[phase] for phase in scarce)


def test_the_three_figures_of_a_phase_follow_from_each_other(cost):
    for phase in cost(train_batch_size=8).gpu:
        outside = sum(part.mib for part in phase.parts if part.name in (CONTEXT, KERNELS, NCCL, PAGES))
        assert phase.process_mib == pytest.approx(phase.reserved_mib + outside, abs=4)
        assert phase.allocated_mib + outside - 4 <= phase.least_mib <= phase.process_mib + 4


@pytest.mark.parametrize(("gib", "said"), [(16, Verdict.FITS), (12, Verdict.TIGHT), (10, Verdict.DOES_NOT_FIT)])
def test_where_torch_has_to_give_memory_back_it_is_tight(cost, gib, said):
    assert verdict(cost(**{OPTIMIZER: "Muon"}), gib * 1024) is said


# What SDXL's U-Net took on an NVIDIA H200 is in test_playback.py and test_predictions.py.
