"""Which activations are recomputed in the backward pass instead of kept, and how."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from diffusers import Transformer2DModel, UNet2DConditionModel
from torch.nn.modules.dropout import _DropoutNd


def checkpoint_activations(unet: UNet2DConditionModel, granularity: str, *, compiled: bool = False) -> None:
    """Turns gradient checkpointing on, in place.

    Args:
        unet: before it is compiled or an engine is built around it, with its adapter.
        granularity: ``all`` recomputes transformer blocks and resnets, ``transformer_blocks`` keeps the resnets'.
        compiled: whether it will be.
    """
    # Only torch's own repeats random numbers and is understood by torch.compile.
    drops = any(isinstance(module, _DropoutNd) and module.p > 0 for module in unet.modules())
    unet.enable_gradient_checkpointing(None if drops or compiled else recomputed)
    if granularity == "all":
        return
    for module in unet.modules():
        # A transformer's flag is for its blocks; the others' are for resnets.
        if hasattr(module, "gradient_checkpointing") and not isinstance(module, Transformer2DModel):
            module.gradient_checkpointing = False


def recomputed(function: Callable[..., Any], *inputs: Any) -> Any:
    """What a function of tensors computes, with nothing kept for the backward pass but its inputs.

    ``torch.utils.checkpoint`` without re-entrance does the same; its books, which tell what differs the second time,
    are a third of what forward and backward take of the host (``benchmarks/host_time.py``). Here each tensor is asked
    for once.

    Args:
        function: draws no random numbers.
        inputs: of it, which nobody changes until the backward pass.

    Raises:
        RuntimeError: in the backward pass; an input was changed, or something else came of it the second time.
    """
    region = _Region(function, inputs)
    with torch.autograd.graph.saved_tensors_hooks(region.leave_out, region.bring_back):
        return function(*inputs)


class _Region:
    """A call whose graph has numbers in place of the tensors it needs; the first that is asked for brings all."""

    def __init__(self, function: Callable[..., Any], inputs: tuple[Any, ...]) -> None:
        self._function, self._inputs, self._versions = function, inputs, _versions(inputs)
        self._left_out = 0
        self._brought: dict[int, torch.Tensor] = {}
        self._autocast = _autocast(next(each.device.type for each in inputs if isinstance(each, torch.Tensor)))

    def leave_out(self, _: torch.Tensor) -> int:
        self._left_out += 1
        return self._left_out - 1

    def bring_back(self, number: int) -> torch.Tensor:
        if not self._brought:
            self._compute_again()
        if number not in self._brought:
            raise RuntimeError("a tensor that was computed again was asked for twice")
        return self._brought.pop(number)  # it goes as soon as the graph has used it

    def _compute_again(self) -> None:
        # It keeps nothing in this graph, which nobody goes through: a tensor of it there would keep it alive for ever.
        def keep(tensor: torch.Tensor) -> None:
            self._brought[len(self._brought)] = tensor.detach()
            if len(self._brought) == self._left_out:
                raise _EnoughError

        if _versions(self._inputs) != self._versions:
            raise RuntimeError("an input of what is computed again was changed in place")
        try:
            hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda nothing: nothing)
            with torch.enable_grad(), self._autocast, hooks:
                self._function(*self._inputs)
        except _EnoughError:
            return
        raise RuntimeError(f"of {self._left_out} tensors {len(self._brought)} came when they were computed again")


def _versions(inputs: tuple[Any, ...]) -> list[int]:
    """How often each tensor was changed in place."""
    return [each._version for each in inputs if isinstance(each, torch.Tensor)]


def _autocast(device: str) -> AbstractContextManager[object]:
    """What is cast now; other threads, as the backward pass's, have settings of their own."""
    if not torch.amp.is_autocast_available(device):
        return nullcontext()
    return torch.autocast(device, torch.get_autocast_dtype(device), enabled=torch.is_autocast_enabled(device))


class _EnoughError(Exception):
    """All that the graph needs is there: what the function does afterwards is not needed again."""
