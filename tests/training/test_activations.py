"""Gradient checkpointing recomputes what is chosen and changes no gradient; attention tells the kernel that runs."""

import gc
from collections import Counter

import pytest
import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch.nn.attention import SDPBackend

from launcher.errors import CannotRunHereError
from launcher.train import attention
from launcher.train.activations import checkpoint_activations, recomputed
from launcher.train.attention import attention_kernel, verify_attention
from launcher.train.batches import Batches, Division
from launcher.train.objective import diffusion_loss


@pytest.fixture(scope="module")
def batch(model, dataset):
    batches = Batches(
        dataset,
        seed=6,
        scaling_factor=model.vae_scaling_factor,
        timesteps=1000,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    return next(batches.run(Division(0, 1, 2, 1), 0, 1))


def passed(model, batch, granularity):
    """How many transformer blocks and resnets run a second time in a step, how many do not, and the gradients."""
    unet, runs = model.unet(torch.float32), Counter()
    if granularity:
        checkpoint_activations(unet, granularity)
    for module in unet.modules():
        if isinstance(module, BasicTransformerBlock | ResnetBlock2D):
            module.register_forward_pre_hook(lambda module, _: runs.update([type(module)]))
    blocks = Counter(type(module) for module in unet.modules())
    diffusion_loss(unet, model.noise_scheduler(), batch).backward()
    again = [runs[kind] - blocks[kind] for kind in (BasicTransformerBlock, ResnetBlock2D)]
    kept = [blocks[kind] - more for kind, more in zip((BasicTransformerBlock, ResnetBlock2D), again, strict=True)]
    return again, kept, [weight.grad for weight in unet.parameters()]


def test_what_is_chosen_runs_twice_and_gradients_stay_the_same(model, batch):
    none, (transformers, resnets), gradients = passed(model, batch, "")
    assert none == [0, 0]
    again, kept, same = passed(model, batch, "all")
    assert again == [transformers, resnets - 1]
    assert kept == [0, 1]  # diffusers keeps the first of the middle block
    assert all(torch.equal(one, other) for one, other in zip(gradients, same, strict=True))
    again, kept, same = passed(model, batch, "transformer_blocks")
    assert again == [transformers, 0]
    assert all(torch.equal(one, other) for one, other in zip(gradients, same, strict=True))


def gradients_of(model, batch, dtype=torch.float32, dropout=0.0, checkpoint=True, compiled=False):
    unet = model.unet(dtype)
    for module in unet.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
    unet.train()
    if checkpoint:
        checkpoint_activations(unet, "all", compiled=compiled)
    torch.manual_seed(1)
    diffusion_loss(unet, model.noise_scheduler(), batch).backward()
    return [weight.grad for weight in unet.parameters()]


def all_equal(some, others):
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


@pytest.mark.parametrize("compiled", [False, True])
def test_dropout_drops_the_same_when_it_is_computed_again(model, batch, compiled):
    kept = gradients_of(model, batch, dropout=0.5, checkpoint=False)
    assert not all_equal(kept, gradients_of(model, batch, checkpoint=False))
    assert all_equal(kept, gradients_of(model, batch, dropout=0.5, compiled=compiled))


def test_what_is_cast_is_cast_again(model, batch):
    with torch.autocast("cpu", torch.bfloat16):
        unet = model.unet(torch.float32)
        checkpoint_activations(unet, "all")
        loss = diffusion_loss(unet, model.noise_scheduler(), batch)
    loss.backward()  # where nothing is cast any more
    with torch.autocast("cpu", torch.bfloat16):
        kept = gradients_of(model, batch, checkpoint=False)
    assert all_equal(kept, [weight.grad for weight in unet.parameters()])


def test_nothing_of_a_step_is_left_to_the_garbage_collector(model, batch):
    unet = model.unet(torch.float32)
    checkpoint_activations(unet, "all")

    def left():
        diffusion_loss(unet, model.noise_scheduler(), batch).backward()
        return sum(isinstance(each, torch.Tensor) for each in gc.get_objects())

    gc.disable()
    try:
        assert left() == left() == left()
    finally:
        gc.enable()


def test_what_differs_when_it_is_computed_again_is_an_error():
    weight, calls = torch.ones(2, requires_grad=True), []

    def differing(tensor):
        calls.append(tensor)
        return tensor * weight if len(calls) > 1 else (tensor * weight).sin()

    loss = recomputed(differing, torch.ones(2)).sum()
    with pytest.raises(RuntimeError, match="of 2 tensors 1 came"):
        loss.backward()


def test_an_input_that_changed_meanwhile_is_an_error():
    weight, tensor = torch.ones(2, requires_grad=True), torch.ones(2)
    loss = recomputed(lambda tensor: (tensor * weight).sin(), tensor).sum()
    tensor.mul_(3)
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_cpu_has_flash_attention(report, dtype):
    assert verify_attention("flash", CPU, dtype, report) == "flash"


@pytest.fixture
def without_flash(monkeypatch):
    """Of a kernel that this device has not, torch says so when it is to run."""
    missing = {"flash": SDPBackend.CUDNN_ATTENTION, "math": SDPBackend.MATH}
    monkeypatch.setattr(attention, "KERNELS", missing)


def test_another_kernel_is_named_and_refused_where_flash_is_asked_for(without_flash, report):
    assert attention_kernel(CPU, torch.bfloat16) == "math"
    assert verify_attention("sdpa", CPU, torch.bfloat16, report) == "math"
    with pytest.raises(CannotRunHereError, match=r"no flash attention for bfloat16 on the CPU; choose sdpa, .* math"):
        verify_attention("flash", CPU, torch.bfloat16, report)
