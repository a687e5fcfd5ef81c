"""What a LoRA costs: the frozen U-Net's weights, and everything else of its own matrices only.

That it counts what peft makes is seen in tests/training/test_lora.py.
"""

from dataclasses import replace

import pytest

from benchmarks.answers import UNTUNED
from launcher.estimate import SDXL, estimate
from launcher.estimate.adapter import trained
from launcher.estimate.gpu import CUBLAS
from launcher.estimate.total import checkpoint_mib
from launcher.estimate.vram import CONTEXT, CUDNN, KERNELS, NCCL, PAGES

MIB = 2**20
P, A, LARGEST = SDXL.parameters, 23_224_320, 16 * 2048
"""The U-Net, a LoRA of rank 16 on its attention, and the largest matrix of that."""
B = 50_000_000
"""The bucket."""
OUTSIDE = (CONTEXT, KERNELS, NCCL, PAGES, CUBLAS, CUDNN)
"""What CUDA and its libraries take of a GPU."""
UNTRACED = replace(SDXL, config="?")
"""SDXL, but for a trace: what formulas say."""
LORA = {"model_type": "lora"}
NONE = {"offload_optimizer_device": "none"}
PARAMETERS_TOO = {"zero_stage": 3, "offload_param_device": "cpu"}


@pytest.fixture
def cost(make_settings):
    return lambda **changed: estimate(make_settings(**{**UNTUNED, **LORA, **changed}), UNTRACED)


def parts(some, *leave_out: str) -> float:
    return sum(part.mib for part in some if part.name not in leave_out) * MIB


def about(value: float):
    return pytest.approx(value, abs=4 * MIB)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(
    ("changed", "formula"),
    [
        ({"zero_stage": 0, **NONE}, lambda n: 2 * (P + A) + 2 * A + 12 * A),
        ({"zero_stage": 1, **NONE}, lambda n: 2 * (P + A) + 2 * A + 16 * A / n + 2 * B),
        ({"zero_stage": 2}, lambda n: 2 * (P + A) + 2 * B),
        ({"zero_stage": 3}, lambda n: 2 * (P + A) / n + 2 * B + (2e9 if n > 1 else 0)),
        (PARAMETERS_TOO, lambda n: 2 * B + 2e9 + 2 * B),
    ],
)
def test_the_gpu_holds_the_whole_unet_and_trains_the_adapter(cost, changed, formula, ranks):
    steps = cost(num_processes=ranks, **changed).phase("step").parts
    assert parts(steps, *OUTSIDE, "activations") == about(formula(ranks))


def test_how_much_is_trained_is_noted(cost):
    assert "LoRA of rank 16: 23.2 M of 2,590.7 M parameters are trained" in cost().notes


def test_only_the_adapter_is_flattened_at_the_start(cost):
    assert parts(cost(zero_stage=2).phase("init").parts, *OUTSIDE) == about(2 * P + 3 * 2 * A)
    assert parts(cost(**PARAMETERS_TOO).phase("init").parts, *OUTSIDE) == about(3 * 2 * LARGEST)


def test_host_ram_holds_the_adapters_states_and_offloaded_parameters_of_both(cost):
    unpinned = {"zero_optimization.offload_optimizer.pin_memory": False}
    assert parts(cost(zero_stage=2, **unpinned).host[1:3]) == about((4 + 2 + 2 + 8) * A)
    both = {part.name: part.mib for part in cost(**PARAMETERS_TOO).host}
    assert both["parameters, pinned"] * MIB == about(2 * (P + A))


def test_a_checkpoint_is_the_adapter_with_its_states_and_two_files_are_exported(make_settings, cost):
    assert checkpoint_mib(make_settings(**LORA), SDXL) * MIB == pytest.approx(14 * A, abs=MIB)
    disk = {part.name: part.mib * MIB for part in cost(max_train_steps=1, export_dtype="fp32").disk}
    assert disk.keys() == {"checkpoints, 1 at a time", "exported LoRA"}
    assert disk["exported LoRA"] == pytest.approx(2 * 4 * A, abs=MIB)


@pytest.mark.parametrize(("rank", "alpha"), [(1, 0.0), (64, 8.0)])
def test_it_grows_with_the_rank_alone(make_settings, rank, alpha):
    settings = make_settings(**LORA, lora_rank=rank, lora_alpha=alpha).training.adapter
    assert trained(settings, SDXL).parameters == rank * A // 16
    assert settings.alpha == (alpha or rank)
