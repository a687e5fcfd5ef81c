"""What a step allocates, traced without memory: the files that come with the package, and other models."""

import json
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
import torch
from safetensors import safe_open

from launcher.estimate import SDXL, read_model_facts
from launcher.estimate.sdxl import sdxl_layers
from launcher.estimate.trace import SHIPPED, Kind, shipped
from launcher.estimate.traces import find, step_of
from launcher.probes.trace import trace

KINDS = {"": {}, "fp32": {"mixed_precision": "no"}, "lora": {"model_type": "lora"}}
"""What is shipped, as settings."""
GRANULARITIES = {
    "none": {"gradient_checkpointing": False},
    "transformer_blocks": {"gradient_checkpointing_granularity": "transformer_blocks"},
    "all": {},
}
MADE_ANEW = [
    pytest.param(kind, granularity, marks=[] if (kind, granularity) == ("lora", "none") else pytest.mark.exhaustive)
    for kind in KINDS
    for granularity in GRANULARITIES
]


@pytest.mark.parametrize(("kind", "granularity"), MADE_ANEW)
def test_the_trace_that_is_shipped_is_what_the_installed_packages_do(tmp_path, make_settings, kind, granularity):
    """Made anew by: ``python -m launcher.probes.trace STEP launcher/estimate/traces/sdxl-KIND-GRANULARITY.json.gz``."""
    step, out = tmp_path / "step.json", tmp_path / "trace.json.gz"
    of_sdxl = step_of(make_settings(**KINDS[kind], **GRANULARITIES[granularity]), SDXL)
    step.write_text(json.dumps(asdict(of_sdxl)))
    subprocess.run([sys.executable, "-m", "launcher.probes.trace", step, out], check=True)
    assert find(of_sdxl) is shipped(granularity, kind)
    assert out.read_bytes() == shipped(granularity, kind).to_bytes()


def test_what_is_shipped_is_small():
    assert max(file.stat().st_size for file in SHIPPED.iterdir()) < 128 * 1024


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
def tiny(assets, make_settings):
    """A step of the demo's tiny SDXL."""
    facts = read_model_facts(str(assets / "model"))
    return lambda **changed: step_of(make_settings(**changed), facts)


@pytest.mark.parametrize("precision", ["bf16", "no"])
def test_any_u_net_can_be_traced(assets, tiny, precision):
    seen = trace(tiny(mixed_precision=precision))
    with safe_open(assets / "model/unet/diffusion_pytorch_model.safetensors", "pt") as file:
        elements = sum(torch.Size(file.get_slice(name).get_shape()).numel() for name in file.keys())  # noqa: SIM118
    assert sum(seen.parameters) == elements
    width = 4 if precision == "no" else 2
    gradients = {size.fixed for size in seen.sizes if size.fixed and not size.per_picture and not size.per_latent}
    assert {width * size for size in seen.parameters} <= gradients


def test_of_a_lora_only_its_own_gradients_are_kept(tiny):
    seen = trace(tiny(model_type="lora", lora_rank=4, gradient_checkpointing=False))
    whole = trace(tiny(gradient_checkpointing=False))
    assert 0 < sum(seen.parameters) < sum(whole.parameters) / 10
    assert seen.frozen == sum(whole.parameters)
    assert whole.frozen == 0


def test_a_configuration_that_is_not_of_the_weights_is_not_traced(tiny):
    with pytest.raises(ValueError, match=r"its config.json is of [\d,]+ parameters, its weights are 144"):
        trace(replace(tiny(), parameters=144))
