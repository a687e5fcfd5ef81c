"""Collectives of one process, which exchanges nothing: NCCL is not created for it.

DeepSpeed reduces, gathers and broadcasts whether or not there is anyone else. The first of these that reaches NCCL
makes a communicator: 556 MiB of an H200 with one rank, and 390 more once another group is used, as at stage 3 and by a
checkpoint (``benchmarks/context.py``). Here each is what it amounts to: nothing, or a copy on the stream it is called
on. torch's own process group, which ranks and groups are asked of, is gloo's: it takes nothing of a GPU.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
from deepspeed.comm import comm
from deepspeed.comm.torch import TorchBackend


def join_alone(timeout: timedelta) -> None:
    """Makes the group of this process alone, for torch and for DeepSpeed.

    Args:
        timeout: of what goes to torch's own group.
    """
    comm.cdb = SingleProcess("gloo", timeout, init_method=None)  # what `deepspeed.comm.init_distributed` sets


class Done:
    """Stands for ``torch.distributed.Work``: what was asked for is in the queue of the stream it was called on."""

    def __init__(self, tensor: torch.Tensor | None = None) -> None:
        """Notes how far that queue is.

        Args:
            tensor: the first that the collective reads or writes; None where it has none.
        """
        self._event: torch.cuda.Event | None = None
        if tensor is not None and tensor.is_cuda:
            self._event = torch.cuda.current_stream(tensor.device).record_event()

    def wait(self, timeout: timedelta | None = None) -> bool:
        """Makes the current stream wait for it, as NCCL's does; the CPU goes on."""
        del timeout  # there is nobody who could be late
        if self._event is not None:
            self._event.wait()
        return True

    def is_completed(self) -> bool:
        """Whether the GPU is done with it."""
        return self._event is None or bool(self._event.query())  # type: ignore[no-untyped-call]


class SingleProcess(TorchBackend):  # type: ignore[misc]
    """DeepSpeed's backend for one process, with its signatures: what does not exchange tensors is torch's as before.

    Every reduction over one rank is the tensor itself. Sending to oneself is left to torch, which refuses it.
    """

    def all_reduce(
        self, tensor: torch.Tensor, op: Any = None, group: Any = None, async_op: bool = False
    ) -> Done | None:
        """Nothing."""
        return _done(async_op, tensor)

    def all_reduce_coalesced(
        self, tensors: Sequence[torch.Tensor], op: Any = None, group: Any = None, async_op: bool = False
    ) -> Done | None:
        """Nothing."""
        return _done(async_op, *tensors)

    def reduce(
        self, tensor: torch.Tensor, dst: int, op: Any = None, group: Any = None, async_op: bool = False
    ) -> Done | None:
        """Nothing."""
        return _done(async_op, tensor)

    def broadcast(self, tensor: torch.Tensor, src: int, group: Any = None, async_op: bool = False) -> Done | None:
        """Nothing."""
        return _done(async_op, tensor)

    def broadcast_object_list(self, object_list: list[Any], src: int, group: Any = None, device: Any = None) -> None:
        """Nothing."""

    def barrier(self, group: Any = None, async_op: bool = False, device_ids: Any = None) -> Done | None:
        """Nothing."""
        return _done(async_op)

    def monitored_barrier(self, group: Any = None, timeout: Any = None, wait_all_ranks: bool = False) -> None:
        """Nothing."""

    def all_gather(
        self, tensor_list: Sequence[torch.Tensor], tensor: torch.Tensor, group: Any = None, async_op: bool = False
    ) -> Done | None:
        """Copies ``tensor`` into the only one of the list."""
        return _copied(tensor_list, [tensor], async_op)

    def all_gather_into_tensor(
        self, output_tensor: torch.Tensor, input_tensor: torch.Tensor, group: Any = None, async_op: bool = False
    ) -> Done | None:
        """Copies."""
        return _copied([output_tensor], [input_tensor], async_op)

    def all_gather_coalesced(
        self,
        output_tensors: Sequence[torch.Tensor],
        input_tensors: Sequence[torch.Tensor],
        group: Any = None,
        async_op: bool = False,
    ) -> Done | None:
        """Copies each."""
        return _copied(output_tensors, input_tensors, async_op)

    def all_gather_object(self, object_list: list[Any], obj: Any, group: Any = None) -> None:
        """Puts ``obj`` into the list, which has one place."""
        object_list[:] = [obj]

    def reduce_scatter(
        self,
        output: torch.Tensor,
        input_list: Sequence[torch.Tensor],
        op: Any = None,
        group: Any = None,
        async_op: bool = False,
    ) -> Done | None:
        """Copies the only one of the list."""
        return _copied([output], input_list, async_op)

    def reduce_scatter_tensor(
        self,
        output_tensor: torch.Tensor,
        input_tensor: torch.Tensor,
        op: Any = None,
        group: Any = None,
        async_op: bool = False,
    ) -> Done | None:
        """Copies."""
        return _copied([output_tensor], [input_tensor], async_op)

    def all_to_all_single(
        self,
        output: torch.Tensor,
        input: torch.Tensor,  # noqa: A002
        output_split_sizes: Any = None,
        input_split_sizes: Any = None,
        group: Any = None,
        async_op: bool = False,
    ) -> Done | None:
        """Copies."""
        return _copied([output], [input], async_op)

    def all_to_all(
        self,
        output_tensor_list: Sequence[torch.Tensor],
        input_tensor_list: Sequence[torch.Tensor],
        group: Any = None,
        async_op: bool = False,
    ) -> Done | None:
        """Copies the only one of each list."""
        return _copied(output_tensor_list, input_tensor_list, async_op)

    def gather(
        self,
        tensor: torch.Tensor,
        gather_list: Sequence[torch.Tensor] | None = None,
        dst: int = 0,
        group: Any = None,
        async_op: bool = False,
    ) -> Done | None:
        """Copies ``tensor`` into the only one of the list."""
        return _copied(gather_list or (), [tensor], async_op)

    def scatter(
        self,
        tensor: torch.Tensor,
        scatter_list: Sequence[torch.Tensor] | None = None,
        src: int = 0,
        group: Any = None,
        async_op: bool = False,
    ) -> Done | None:
        """Copies the only one of the list."""
        return _copied([tensor], scatter_list or (), async_op)


@torch.no_grad()
def _copied(outputs: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor], async_op: bool) -> Done | None:
    """Copies each input into its output; a tensor copied onto itself is left as it is.

    Raises:
        ValueError: there are more of one than of the other.
        RuntimeError: their sizes differ.
    """
    for output, given in zip(outputs, inputs, strict=True):
        output.copy_(given.reshape(output.shape))
    return _done(async_op, *outputs)


def _done(async_op: bool, *tensors: torch.Tensor) -> Done | None:
    """What torch returns: a handle where the caller does not wait for the end, else None."""
    return Done(*tensors[:1]) if async_op else None
