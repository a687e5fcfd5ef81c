"""``python -m launcher.probes.trace STEP OUT``: traces a training step of a U-Net, on tensors without memory.

STEP is a JSON file, or - for stdin: a :class:`launcher.estimate.traces.UNetStep`. OUT becomes its
:class:`launcher.estimate.trace.Trace`. Some seconds; nothing is computed and no GPU is needed. A LoRA's events are
those of its matrices, its frozen weights count as parameters of modules.

How: every op is seen by its dispatch, every storage that appears is counted until it is freed. Four shapes give the
three terms of each size, and the fourth has to agree.
"""

import argparse
import gc
import json
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from launcher.config.training import AdapterSettings
from launcher.estimate.trace import Kind, Size, Trace
from launcher.estimate.traces import UNetStep
from launcher.imports import without_collecting
from launcher.runs.directory import write_atomic

with without_collecting():
    import torch
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention import BasicTransformerBlock
    from diffusers.models.resnet import ResnetBlock2D
    from torch.utils._python_dispatch import TorchDispatchMode

    from launcher.train.activations import checkpoint_activations

TOKENS, TIME_IDS = 77, 6
"""Of a caption, and of a picture's micro-conditioning."""
SHAPES = ((2, 32, 32), (4, 32, 32), (2, 64, 64), (3, 32, 96))
"""Pictures, height and width of latents. More than one picture: of one, torch skips copies that change nothing. Sides
that leave a multiple of 32 at every level: attention in fp32 rounds up to it."""

Event = tuple[Kind, int]
_unet_of_forks: list[UNet2DConditionModel] = []
"""What a fork takes along."""


class _Storages(TorchDispatchMode):
    """Writes down when memory for a tensor is taken and given back."""

    def __init__(self, known: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.events: list[Event] = []
        self.bytes: list[int] = []
        """Of each tensor, in order."""
        self._here = known
        self._watched: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an op, and looks at the storages of what comes out."""
        out = func(*args, **(kwargs or {}))
        for each in out if isinstance(out, tuple | list) else (out,):
            if isinstance(each, torch.Tensor):
                self._see(each.untyped_storage())
        return out

    def _see(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._here or not storage.nbytes():
            return
        self._here.add(key)
        number = len(self.bytes)
        self.bytes.append(storage.nbytes())
        self.events.append((Kind.ALLOCATE, number))

        def gone(_: object) -> None:
            self._here.discard(key)
            del self._watched[number]
            self.events.append((Kind.FREE, number))

        self._watched[number] = weakref.ref(storage, gone)


def trace(step: UNetStep) -> Trace:
    """Traces one step.

    Raises:
        ValueError: sizes do not follow from pictures and pixels alone, or the U-Net is another than its weights are of.
    """
    unet = _unet(step)
    if (parameters := sum(each.numel() for each in unet.parameters())) != step.parameters:
        raise ValueError(f"its config.json is of {parameters:,} parameters, its weights are {step.parameters:,}")
    events_of_all, bytes_of_all = zip(*_steps(unet), strict=True)
    events: list[Event] = events_of_all[0]
    if any(others != events for others in events_of_all):
        raise ValueError("what is computed depends on the shape")
    tensors = [_size(of) for of in zip(*bytes_of_all, strict=True)]
    sizes = list(dict.fromkeys(tensors))
    places = {size: place for place, size in enumerate(sizes)}
    modules = _modules(unet)
    return Trace(
        events=[(int(kind), places[tensors[index]] if kind is Kind.ALLOCATE else index) for kind, index in events],
        sizes=sizes,
        parameters=[parameter.numel() for parameter in unet.parameters() if parameter.requires_grad],
        modules=[[parameter.numel() for parameter in module.parameters(recurse=False)] for module in modules],
        parents=_parents(modules),
        blocks=[isinstance(module, BasicTransformerBlock | ResnetBlock2D) for module in modules],
        linears=[isinstance(module, torch.nn.Linear) for module in modules],
    )


def _unet(step: UNetStep) -> UNet2DConditionModel:
    dtype = torch.bfloat16 if step.half else torch.float32
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(json.loads(step.config)).to(dtype)
        if step.lora_rank:
            from launcher.train.lora import add_adapter  # noqa: PLC0415 - brings pipelines

            targets, dropout = ",".join(step.lora_targets), 0.5 if step.lora_dropout else 0.0
            adapter = AdapterSettings("lora", step.lora_rank, lora_dropout=dropout, lora_target_modules=targets)
            add_adapter(unet, adapter, seed=0)
    if step.granularity != "none":
        checkpoint_activations(unet, step.granularity)
    return unet.train()


def _modules(unet: torch.nn.Module) -> list[torch.nn.Module]:
    """Those that hold parameters, themselves or in modules of theirs."""
    return [module for module in unet.modules() if next(module.parameters(), None) is not None]


def _parents(modules: list[torch.nn.Module]) -> list[int]:
    places = {module: place for place, module in enumerate(modules)}
    parents = [-1] * len(modules)
    for place, module in enumerate(modules):
        for child in module.children():
            if child in places:
                parents[places[child]] = place
    return parents


def _steps(unet: UNet2DConditionModel) -> list[tuple[list[Event], list[int]]]:
    """Events, and the bytes of each tensor, at each of :data:`SHAPES`; side by side where there are cores."""
    at_once = min(len(SHAPES), len(os.sched_getaffinity(0)))
    with ProcessPoolExecutor(at_once, get_context("fork"), _unet_of_forks.append, (unet,)) as forks:
        return list(forks.map(_step, SHAPES))


def _step(shape: tuple[int, int, int]) -> tuple[list[Event], list[int]]:
    """Forward, loss and backward; each gradient is freed once it is whole, as engines that partition them do."""
    gc.disable()  # it looks through hundreds of thousands of objects of which it can free none
    (pictures, height, width), unet = shape, _unet_of_forks[-1]
    seen = _Storages({tensor.untyped_storage()._cdata for tensor in [*unet.parameters(), *unet.buffers()]})
    with torch.device("meta"), _listening(unet, seen.events), _kernels_of_a_gpu(), seen:
        dtype, config = unet.dtype, unet.config
        pooled = config.projection_class_embeddings_input_dim - TIME_IDS * config.addition_time_embed_dim
        latents = torch.empty(pictures, 4, height, width)
        noise = torch.empty(pictures, 4, height, width)
        conditioning = {
            "encoder_hidden_states": torch.empty(pictures, TOKENS, config.cross_attention_dim, dtype=dtype),
            "added_cond_kwargs": {
                "text_embeds": torch.empty(pictures, pooled, dtype=dtype),
                "time_ids": torch.empty(pictures, TIME_IDS, dtype=dtype),
            },
        }
        timesteps = torch.empty(pictures, dtype=torch.int64)
        noisy = latents + noise
        predicted = unet(noisy.to(dtype), timesteps, return_dict=False, **conditioning)[0]
        loss = torch.nn.functional.mse_loss(predicted.float(), noise)
        del predicted, noisy
        seen.events.append((Kind.LOSS, 0))
        loss.backward()  # type: ignore[no-untyped-call]
        del loss, latents, noise, conditioning, timesteps
    return seen.events, seen.bytes


@contextmanager
def _listening(unet: torch.nn.Module, events: list[Event]) -> Iterator[None]:
    """Writes down when modules begin and end, and when gradients are whole."""

    def tells(kind: Kind, index: int) -> Callable[..., None]:
        return lambda *_: events.append((kind, index))

    def hands_over(index: int) -> Callable[[torch.Tensor], None]:
        def hand_over(parameter: torch.Tensor) -> None:
            events.append((Kind.GRADIENT, index))
            parameter.grad = None

        return hand_over

    handles: list[Any] = []
    for index, module in enumerate(_modules(unet)):
        handles += [
            module.register_forward_pre_hook(tells(Kind.ENTER, index)),
            module.register_forward_hook(tells(Kind.LEAVE, index)),
            module.register_full_backward_pre_hook(tells(Kind.ENTER_BACKWARD, index)),
            module.register_full_backward_hook(tells(Kind.LEAVE_BACKWARD, index)),
        ]
    trained = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    handles += [
        parameter.register_post_accumulate_grad_hook(hands_over(index))  # type: ignore[no-untyped-call]
        for index, parameter in enumerate(trained)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _kernels_of_a_gpu() -> Iterator[None]:
    """Attention and dropout as a GPU computes them; without one torch would trace them written out."""
    functional = torch.nn.functional
    own = functional.scaled_dot_product_attention, functional.dropout

    def attention(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, scale: float | None = None, **__: Any
    ) -> Any:
        if query.dtype is torch.float32:  # flash is for half precision
            efficient = torch.ops.aten._scaled_dot_product_efficient_attention
            return efficient(query, key, value, None, compute_log_sumexp=True, scale=scale)[0]
        return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, scale=scale)[0]

    def dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:  # noqa: A002
        return torch.native_dropout(input, p, training)[0] if p and training else input

    functional.scaled_dot_product_attention, functional.dropout = attention, dropout
    try:
        yield
    finally:
        functional.scaled_dot_product_attention, functional.dropout = own


def _size(of: tuple[int, ...]) -> Size:
    """Solves for the three terms with three shapes; the fourth has to agree."""
    (pictures, height, width), (more, _, _), (_, higher, wider), (others, *side) = SHAPES
    small, large = height * width, higher * wider
    per_latent = (of[2] - of[0]) / (pictures * (large - small))
    per_picture = (of[1] - of[0]) / (more - pictures) - per_latent * small
    size = Size(round(of[0] - pictures * (per_picture + per_latent * small)), round(per_picture), per_latent)
    if abs(size.at(others, side[0] * side[1]) - of[3]) > 1:
        raise ValueError(f"a tensor's sizes {of} at {SHAPES} have other terms than pictures and pixels")
    return size


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m launcher.probes.trace", description=__doc__)
    parser.add_argument("step", type=argparse.FileType(), help="what to trace")
    parser.add_argument("out", type=Path, help="the file to write")
    arguments = parser.parse_args()
    described = json.load(arguments.step)
    step = UNetStep(**{**described, "lora_targets": tuple(described["lora_targets"])})
    write_atomic(arguments.out, trace(step).to_bytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
