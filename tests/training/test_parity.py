"""The numbers are right: every ZeRO stage and offload, and no DeepSpeed, trains what a plain PyTorch AdamW loop trains.

All cases see the same eight pictures a step, however they are divided into ranks and micro-batches, so one
reference serves them all. Tolerances: every case adds up the same fp32 gradients in another order, which differs
in the last bits (2**-24, 6e-8 relative). Losses are means over thousands of squares and were measured to agree
within 2e-7; ten times that is allowed. AdamW divides a gradient by its own size, so where a gradient is nothing but
rounding, single weights may go another way by up to a learning rate a step; all together they were measured to
end within 2e-5 of the distance that training moved them, and five times that is allowed.

A LoRA is held against the same loop over peft's parameters alone, in the same processes.

CI takes a pairwise cover of place, accumulation and number of processes, with fewer steps where a step is dear; `make
test-all` takes the rest of the product too, with all steps.
"""

import itertools
import json
import tempfile
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness.ranks import run_ranks
from harness.tiny_zero import TINY
from launcher.config.deepspeed import BLOCKS, DeepSpeedSettings
from launcher.config.deepspeed_json import to_deepspeed_json
from launcher.config.training import AdapterSettings
from launcher.train.batches import Batches, Division
from launcher.train.lora import DIFFUSERS_FILE, KOHYA_FILE, add_adapter
from launcher.train.objective import diffusion_loss

STEPS, FEWER, SEED, PICTURES_A_STEP = 20, 8, 7, 8
LEARNING_RATE, WARMUP_STEPS, CLIPPING = 1e-3, 5, 1.0
LOSS_TOLERANCE = 2e-6
"""Relative."""
WEIGHT_TOLERANCE = 1e-4
"""Of the distance that training moved the weights, in the 2-norm over all of them."""

NVME = {"offload_optimizer_device": "nvme", "offload_optimizer_nvme_path": "swap"}
NVME_PARAMETERS = {
    "offload_param_device": "nvme",
    "offload_param_nvme_path": "swap",
    "offload_param_buffer_size": 1_000_000,
}
PLACES = {
    "plain": {"stage": 0},
    "zero0": {"stage": 0},
    "zero1": {"stage": 1},
    "zero2": {"stage": 2},
    # As people leave it: what this model gathers for a forward pass then stays until its backward pass.
    "zero3": {"stage": 3, "stage3_max_reuse_distance": DeepSpeedSettings().stage3_max_reuse_distance},
    "zero1-cpu": {"stage": 1, "offload_optimizer_device": "cpu"},
    "zero2-cpu": {"stage": 2, "offload_optimizer_device": "cpu"},
    "zero3-cpu": {"stage": 3, "offload_optimizer_device": "cpu"},
    "zero3-cpu-params": {"stage": 3, "offload_optimizer_device": "cpu", "offload_param_device": "cpu"},
    "zero3-nvme": {"stage": 3, **NVME},
    # Each of the model's parameters is under a MiB, which is too small to be swapped: they stay in host memory.
    "zero3-nvme-params": {"stage": 3, **NVME, **NVME_PARAMETERS},
    "zero3-whole-blocks": {
        "stage": 3,
        "offload_optimizer_device": "cpu",
        "offload_param_device": "cpu",
        "extra": {"zero_optimization": {"leaf_module": {"classes": list(BLOCKS)}}},
    },
}
ACCUMULATIONS = {1: (1, 4), 2: (1, 2)}
"""By the number of processes."""
WORLD_SIZES = tuple(ACCUMULATIONS)
LORA = {"model_type": "lora", "lora_rank": 4, "lora_alpha": 8.0}
IN_LORA_COVER = {("zero3-cpu-params", 4, 1), ("zero2", 1, 2)}
"""Place, accumulation and number of processes: what a LoRA adds to a place is that something is frozen there."""
CASES_BY_PLACE = {
    **PLACES,
    **{f"{name}-lora": place for name, place in PLACES.items() if name != "zero3-whole-blocks"},  # a rule refuses it
}


def in_cover(place: str, accumulation: int, world_size: int) -> bool:
    """Half of the product: every place meets each accumulation and each number of processes.

    NVMe is left to the whole: what is read back from it is the CPU's to the bit, as the rules' proof sees, and a run on
    it ends as on the CPU (test_troubleshooting).
    """
    if "nvme" in place:
        return False
    if place == "zero3-whole-blocks":
        return accumulation > 1 and world_size == 1
    if place.endswith("-lora"):
        return (place.removesuffix("-lora"), accumulation, world_size) in IN_LORA_COVER
    several = accumulation > 1
    return (list(PLACES).index(place) + several + WORLD_SIZES.index(world_size)) % 2 == 0


def steps_of(place: str, accumulation: int, world_size: int) -> int:
    """Stage 3 runs code of its own around each module of each micro-batch, which costs more than the tiny model."""
    cheap = CASES_BY_PLACE[place]["stage"] < 3 and accumulation == world_size == 1
    return STEPS if cheap or not in_cover(place, accumulation, world_size) else FEWER


CASES = [
    pytest.param(
        world_size,
        place,
        accumulation,
        marks=[] if cover else [pytest.mark.exhaustive],
        id=f"{place}, accumulation {accumulation}, processes {world_size}",
    )
    for cover in (True, False)
    for world_size in WORLD_SIZES
    for place, accumulation in itertools.product(CASES_BY_PLACE, ACCUMULATIONS[world_size])
    if in_cover(place, accumulation, world_size) is cover
]


def deepspeed_config(place: dict, world_size: int, accumulation: int, *, lora: bool = False) -> dict:
    sizes = {**TINY, "stage3_param_persistence_threshold": 100} if lora else TINY  # a LoRA's matrices are divided too
    settings = DeepSpeedSettings(
        **{"offload_optimizer_device": "none", **sizes, **place},
        precision="no",
        gradient_accumulation_steps=accumulation,
        gradient_clipping=CLIPPING,
        warmup_type="linear",
    )
    return to_deepspeed_json(
        settings,
        train_batch_size=PICTURES_A_STEP // accumulation // world_size,
        learning_rate=LEARNING_RATE,
        warmup_steps=WARMUP_STEPS,
        total_steps=STEPS,
    )


@pytest.fixture(scope="session")
def references(model, dataset):
    """By whether a LoRA is trained."""

    @cache
    def train(lora: bool) -> dict:
        unet = model.unet(torch.float32)
        if lora:
            add_adapter(unet, AdapterSettings(**LORA), SEED)
        return plain_loop(model, dataset, unet, [weight for weight in unet.parameters() if weight.requires_grad])

    return train


def plain_loop(model, dataset, unet, groups) -> dict:
    """torch's AdamW over what is trained, its own clipping, the warm-up written out."""
    scheduler = model.noise_scheduler()
    trained = {name: parameter for name, parameter in unet.named_parameters() if parameter.requires_grad}
    start = torch.cat([parameter.detach().flatten().clone() for parameter in trained.values()])
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    batches = Batches(
        dataset,
        seed=SEED,
        scaling_factor=model.vae_scaling_factor,
        timesteps=1000,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    losses, rates, norms, ends = [], [], [], {}
    for step, batch in enumerate(batches.run(Division(0, 1, PICTURES_A_STEP, 1), 0, STEPS)):
        for group in optimizer.param_groups:
            # DeepSpeed's schedule begins to count after the first update.
            group["lr"] = LEARNING_RATE * min(1.0, max(0, step - 1) / WARMUP_STEPS)
        loss = diffusion_loss(unet, scheduler, batch)
        optimizer.zero_grad()
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(trained.values(), CLIPPING)))
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        losses.append(loss.item())
        if step + 1 in (FEWER, STEPS):
            weights = {name: parameter.detach().clone() for name, parameter in trained.items()}
            end = torch.cat([weight.flatten() for weight in weights.values()])
            ends[step + 1] = {"weights": weights, "moved": float((end - start).norm())}
    return {"loss": losses, "lr": rates, "grad_norm": norms, "after": ends}


@pytest.fixture(scope="session")
def trained(assets, cache_dir, dataset, tmp_path_factory, request):
    """Folders of trained cases by number of processes and cover: the same processes go through a whole group."""

    @cache
    def train(world_size: int, cover: bool) -> Path:
        folder = tmp_path_factory.mktemp("parity")
        if not cover:
            request.getfixturevalue("async_io")  # for NVMe
        job = job_of(
            {
                f"{place}-{accumulation}": deepspeed_config(
                    settings, world_size, accumulation, lora=place.endswith("-lora")
                )
                for (place, settings), accumulation in itertools.product(
                    CASES_BY_PLACE.items(), ACCUMULATIONS[world_size]
                )
                if in_cover(place, accumulation, world_size) is cover
            },
            assets,
            cache_dir,
            {
                f"{place}-{accumulation}": steps_of(place, accumulation, world_size)
                for place, accumulation in itertools.product(CASES_BY_PLACE, ACCUMULATIONS[world_size])
            },
        )
        with tempfile.TemporaryDirectory(dir="/dev/shm") as swap:  # where memory may be aligned to anything
            job = json.loads(json.dumps(job).replace('"swap"', json.dumps(swap)))
            run_ranks("harness.many_engines", job, folder, world_size, seconds=540)
        return folder

    return train


def job_of(cases: dict, assets: Path, cache_dir: Path, steps: dict[str, int]) -> dict:
    return {
        "model": str(assets / "model"),
        "pictures": str(assets / "pictures"),
        "cache": str(cache_dir),
        "resolution": 32,
        "seed": SEED,
        "steps": steps,
        "lora": LORA,
        "cases": cases,
    }


@pytest.mark.parametrize(("world_size", "place", "accumulation"), CASES)
def test_it_trains_what_plain_pytorch_trains(trained, references, world_size, place, accumulation):
    folder, reference = trained(world_size, in_cover(place, accumulation, world_size)), references("lora" in place)
    assert_trained_alike(torch.load(folder / f"{place}-{accumulation}.pt"), reference, place)


def assert_trained_alike(case: dict, reference: dict, place: str) -> None:
    steps = len(case["loss"])
    assert case["lr"] == pytest.approx(reference["lr"][:steps], rel=1e-6)
    assert case["loss"] == pytest.approx(reference["loss"][:steps], rel=LOSS_TOLERANCE)
    if not place.startswith("zero0"):  # without ZeRO and half precision DeepSpeed does not tell
        assert case["grad_norm"] == pytest.approx(reference["grad_norm"][:steps], rel=1e-5)
    end = reference["after"][steps]
    assert case["weights"].keys() == end["weights"].keys()
    apart = torch.stack([(case["weights"][name] - weight).norm() for name, weight in end["weights"].items()])
    assert float(apart.norm()) < WEIGHT_TOLERANCE * end["moved"]


@pytest.mark.parametrize(
    ("world_size", "place", "accumulation"), [case for case in CASES if case.values[1].endswith("-lora")]
)
def test_an_exported_lora_is_the_masters_whole_where_the_model_itself_is_empty(
    trained, world_size, place, accumulation
):
    folder = trained(world_size, in_cover(place, accumulation, world_size))
    case = torch.load(folder / f"{place}-{accumulation}.pt")
    # What a direct save would write, on this rank, without an error.
    assert (case["held by the model"] == 0) is place.startswith("zero3")
    exported = folder / f"{place}-{accumulation}-lora"
    saved, kohya = load_file(exported / DIFFUSERS_FILE), load_file(exported / KOHYA_FILE)
    masters = {f"unet.{name.replace('.default', '')}": master for name, master in case["weights"].items()}
    assert saved.keys() == masters.keys()
    assert all(master.numel() and torch.equal(saved[name], master) for name, master in masters.items())
    alphas = {name: value for name, value in kohya.items() if name.endswith(".alpha")}
    assert len(alphas) == len(masters) / 2
    assert {float(alpha) for alpha in alphas.values()} == {LORA["lora_alpha"]}
    assert sum(value.numel() for name, value in kohya.items() if name not in alphas) == sum(
        master.numel() for master in masters.values()
    )


@pytest.mark.exhaustive
def test_norms_and_biases_that_do_not_decay_are_the_same_group_on_two_ranks(
    assets, cache_dir, model, dataset, tmp_path
):
    """One process meets every stage in test_weight_decay."""

    places = ("plain", "zero1", "zero2-cpu", "zero3-cpu-params")
    cases = {place: deepspeed_config(PLACES[place], 2, 1) for place in places}
    job = job_of(cases, assets, cache_dir, dict.fromkeys(places, STEPS))
    run_ranks("harness.many_engines", {**job, "weight_decay_exclude": "norms_and_biases"}, tmp_path, 2)
    unet = model.unet(torch.float32)
    decaying = [weight for weight in unet.parameters() if weight.ndim > 1]
    others = [weight for weight in unet.parameters() if weight.ndim == 1]
    reference = plain_loop(model, dataset, unet, [{"params": decaying}, {"params": others, "weight_decay": 0.0}])
    for place in places:
        assert_trained_alike(torch.load(tmp_path / f"{place}.pt"), reference, place)
