"""What is cached, computed: captions by both text encoders, pictures by the VAE."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch
from diffusers.hooks import apply_group_offloading

from launcher.data.pictures import Picture
from launcher.errors import RunFailedError
from launcher.train.caches.shards import ShardWriter
from launcher.train.caches.strips import encode_in_strips
from launcher.train.models import ModelSource
from launcher.train.pictures import load_pixels
from launcher.train.report import Phase

PROMPTS_AT_ONCE = 32
"""While a GPU computes so many captions, the next layer's weights come: fewer would wait for them."""
T = TypeVar("T")
R = TypeVar("R")


@torch.no_grad()
def encode_prompts(
    model: ModelSource,
    keys: Mapping[str, str],
    dtype: torch.dtype,
    device: torch.device,
    writer: ShardWriter,
    phase: Phase,
    stopping: Callable[[], bool],
) -> None:
    """The pipeline's own encode_prompt: its padding, truncation, penultimate states and pooled embedding.

    Args:
        model: brings the text encoders; what is left of them on the GPU is for the caller to release.
        keys: by caption.
        dtype: of what is stored.
        device: computes.
        writer: stores.
        phase: told of progress.
        stopping: asked now and then; what is encoded by then is stored.
    """
    pipeline = model.prompt_pipeline()
    if device.type != "cpu":
        _stream_weights((pipeline.text_encoder, pipeline.text_encoder_2), device)
    captions = list(keys)
    for first in range(0, len(captions), PROMPTS_AT_ONCE):
        if stopping():
            break
        some = captions[first : first + PROMPTS_AT_ONCE]
        embeds, _, pooled, _ = pipeline.encode_prompt(some, device=device, do_classifier_free_guidance=False)
        for caption, one, one_pooled in zip(some, embeds, pooled, strict=True):
            writer.add(keys[caption], {"prompt_embeds": one.to(dtype), "pooled": one_pooled.to(dtype)})
        phase.progress(first + len(some), len(captions))


def _stream_weights(encoders: Iterable[torch.nn.Module], device: torch.device) -> None:
    """Weights stay in pinned host memory; each layer's come to the GPU while the layer before it computes.

    accelerate's hooks, which enable_sequential_cpu_offload sets, would empty torch's cache after every tensor.
    """
    for encoder in encoders:
        apply_group_offloading(encoder, onload_device=device, offload_type="leaf_level", use_stream=True)


@torch.no_grad()
def encode_latents(
    model: ModelSource,
    keys: Mapping[Picture, str],
    device: torch.device,
    workers: int,
    writer: ShardWriter,
    phase: Phase,
    stopping: Callable[[], bool],
) -> list[str]:
    """Encodes the pictures that can be decoded.

    Args:
        model: brings the VAE; what is left of it on the GPU is for the caller to release.
        keys: by picture.
        device: computes.
        workers: threads that decode pictures ahead of the VAE.
        writer: stores.
        phase: told of progress.
        stopping: asked before each picture; what is encoded by then is stored.

    Returns:
        What is wrong with the pictures that cannot be decoded.

    Raises:
        RunFailedError: the VAE gives numbers that are not finite.
    """
    vae = model.vae()
    encode_in_strips(vae.encoder)
    for part in (vae.encoder, vae.quant_conv):
        if part is not None:
            part.to(device)
    damaged: list[str] = []

    def decode(picture: Picture) -> torch.Tensor | None:
        try:
            return load_pixels(picture)
        except (OSError, ValueError, SyntaxError) as error:
            damaged.append(f"{picture.path}: {error}")
            return None

    for done, (picture, pixels) in enumerate(_ahead(decode, keys, workers), start=1):
        if stopping():
            break
        if pixels is None:
            continue
        # cuDNN's TF32, which torch allows, would be off by 3e-3 of a latent's scale; without it is no slower here.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            posterior = vae.encode(pixels[None].to(device)).latent_dist
        mean, std = posterior.mean[0].float(), posterior.std[0].float()
        if not (mean.isfinite().all() and std.isfinite().all()):
            raise RunFailedError(
                f"the VAE in {model.vae_folder} gives numbers that are not finite for {picture.path}; use "
                "another with training.pretrained_vae_model_name_or_path, or remove the picture"
            )
        writer.add(keys[picture], {"mean": mean, "std": std})
        phase.progress(done, len(keys))
    return damaged


def _ahead(compute: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[tuple[T, R]]:
    """Each item with what is computed of it, in order; a few are always under way."""
    with ThreadPoolExecutor(workers, thread_name_prefix="pictures") as pool:
        under_way: deque[tuple[T, Future[R]]] = deque()
        try:
            for item in items:
                under_way.append((item, pool.submit(compute, item)))
                if len(under_way) > 2 * workers:
                    first, result = under_way.popleft()
                    yield first, result.result()
            while under_way:
                first, result = under_way.popleft()
                yield first, result.result()
        finally:
            pool.shutdown(cancel_futures=True)
