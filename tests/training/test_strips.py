"""A VAE that encodes in strips: the same latents, in the memory of a block's two tensors."""

from copy import deepcopy

import pytest
import torch
from diffusers import AutoencoderKL

from benchmarks.random_sdxl import VAE
from launcher.estimate.trace import Kind
from launcher.probes.trace import _kernels_of_a_gpu, _Storages
from launcher.train.caches import strips
from launcher.train.caches.strips import encode_in_strips

MIB = 2**20


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    """SDXL's layers at an eighth of their widths, as its own parts are put together."""
    torch.manual_seed(0)
    widths = {"block_out_channels": (16, 32, 64, 64), "norm_num_groups": 4}
    return AutoencoderKL(**{**VAE, **widths}).eval()


@torch.no_grad()
def moments(vae: AutoencoderKL, pixels: torch.Tensor) -> torch.Tensor:
    return vae.encode(pixels).latent_dist.parameters


@pytest.mark.parametrize("size", [(64, 64), (64, 96), (136, 40)], ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize("at_most", [1, 20_000, 32 * MIB], ids=["a row", "some rows", "whole"])
def test_latents_are_those_of_the_whole_picture(vae, size, at_most, monkeypatch):
    monkeypatch.setattr(strips, "STRIP_BYTES", at_most)
    in_strips = deepcopy(vae)
    encode_in_strips(in_strips.encoder)
    pixels = 2 * torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1)) - 1
    whole = moments(vae, pixels)
    assert torch.allclose(moments(in_strips, pixels), whole, rtol=0, atol=1e-5 * whole.abs().max())


@torch.no_grad()
def peak(vae: AutoencoderKL, height: int, width: int) -> int:
    """MiB beside the weights that tensors take while a picture is encoded: counted, on tensors without memory."""
    seen = _Storages({tensor.untyped_storage()._cdata for tensor in vae.parameters()})
    with torch.device("meta"), _kernels_of_a_gpu(), seen:
        vae.encode(torch.empty(1, 3, height, width))
    sizes, held, most = iter(seen.bytes), 0, 0
    for kind, number in seen.events:
        held += next(sizes) if kind is Kind.ALLOCATE else -seen.bytes[number]
        most = max(most, held)
    return most // MIB


def test_sdxls_takes_two_tensors_of_its_first_level_and_a_strip():
    with torch.device("meta"):
        vae = AutoencoderKL(**VAE)
    assert peak(vae, 1024, 1024) > 2500
    encode_in_strips(vae.encoder)
    assert peak(vae, 1024, 1024) == pytest.approx(2 * 512 + 12 + 2 * 32, abs=8)
    assert peak(vae, 2048, 2048) == pytest.approx(4 * (2 * 512 + 12) + 2 * 32, abs=8)
    assert peak(vae, 128, 128) < 40
