"""What a step allocates, traced without memory: the file that comes with the package, and other models."""

import json
import subprocess
import sys

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors import safe_open

from launcher.config.training import AdapterSettings
from launcher.estimate.sdxl import sdxl_layers
from launcher.estimate.trace import SHIPPED, Kind, Trace, shipped
from launcher.probes.trace import trace

SDXL = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "use_linear_projection": True,
}
"""As its ``unet/config.json`` has it."""
GRANULARITIES = [
    pytest.param("none"),
    pytest.param("transformer_blocks", marks=pytest.mark.exhaustive),
    pytest.param("all", marks=pytest.mark.exhaustive),
]


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_the_trace_that_is_shipped_is_what_the_installed_packages_do(tmp_path, granularity):
    """Made anew by: ``python -m launcher.probes.trace UNET launcher/estimate/traces/sdxl-GRANULARITY.json.gz``."""
    unet, out = tmp_path / "unet.json", tmp_path / "trace.json.gz"
    unet.write_text(json.dumps({"config": SDXL, "granularity": granularity, "precision": "bf16", "lora": None}))
    subprocess.run([sys.executable, "-m", "launcher.probes.trace", unet, out], check=True)
    assert Trace.from_bytes(out.read_bytes()) == shipped(granularity)
    assert SHIPPED.joinpath(f"sdxl-{granularity}.json.gz").stat().st_size < 64 * 1024


def test_its_parameters_are_sdxls():
    layers = {torch.Size(shape).numel() for shape in sdxl_layers().values()}
    assert layers <= set(shipped("all").parameters)


def test_everything_that_is_allocated_is_freed_once_and_gradients_are_handed_over_whole():
    seen = shipped("all")
    allocated = [index for kind, index in seen.events if kind == Kind.ALLOCATE]
    freed = [index for kind, index in seen.events if kind == Kind.FREE]
    assert sorted(freed) == list(range(len(allocated)))
    following = [seen.events[place + 1][0] for place, (kind, _) in enumerate(seen.events) if kind == Kind.GRADIENT]
    assert following == [Kind.FREE] * len(seen.parameters)


@pytest.fixture(scope="module")
def tiny_config(assets):
    return UNet2DConditionModel.load_config(assets / "model/unet")


@pytest.mark.parametrize("precision", ["bf16", "no"])
def test_any_u_net_can_be_traced(assets, tiny_config, precision):
    seen = trace(tiny_config, "all", precision)
    with safe_open(assets / "model/unet/diffusion_pytorch_model.safetensors", "pt") as file:
        elements = sum(torch.Size(file.get_slice(name).get_shape()).numel() for name in file.keys())  # noqa: SIM118
    assert sum(seen.parameters) == elements
    width = 4 if precision == "no" else 2
    gradients = {size.fixed for size in seen.sizes if size.fixed and not size.per_picture and not size.per_latent}
    assert {width * size for size in seen.parameters} <= gradients


def test_of_a_lora_only_its_own_gradients_are_kept(tiny_config):
    seen = trace(tiny_config, "none", "bf16", AdapterSettings(model_type="lora", lora_rank=4))
    whole = trace(tiny_config, "none", "bf16")
    assert 0 < sum(seen.parameters) < sum(whole.parameters) / 10
    assert sum(map(sum, seen.modules)) == sum(seen.parameters) + sum(whole.parameters)
