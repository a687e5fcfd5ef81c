"""Weights at stage 3 come as far ahead of the GPU as it computes, and the host waits for nothing else.

Source: ``partitioned_param_coordinator.py`` and ``partition_parameters.py`` of DeepSpeed 0.19.8. There the host waits
until a module's weights are on the GPU before it starts that module's kernels, though streams keep that order by
themselves; and it never waits for kernels. What a module releases is free once they are done, so that on a card that
computes slower than weights come the weights of many modules lie there at once, whatever
``stage3_max_live_parameters`` says. And it looks through all parts of a module, and asks for a stream, an event and a
line of its log, for each weight anew: a GPU is done with a small batch before that. Of several ranks the parts are
gathered in one tensor, out of which every weight is then copied together.

What is fetched and released, and when, is as there. Parts of several ranks are gathered where the weights are to lie.
"""

from collections import deque
from collections.abc import Collection, Iterable
from typing import Any

import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator
from deepspeed.runtime.zero import partitioned_param_coordinator as deepspeeds
from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus
from deepspeed.runtime.zero.partitioned_param_coordinator import iter_params, update_recompute_parameters
from deepspeed.utils import z3_leaf_module


class Coming:
    """A weight on its way to the GPU; stands for DeepSpeed's handle."""

    __slots__ = ("_param", "arrival")

    def __init__(self, param: Any, arrival: Any) -> None:
        """Notes it.

        Args:
            param: that is on its way.
            arrival: an event after its copy, or the ranks' exchange; None where it is there.
        """
        self._param, self.arrival = param, arrival

    def wait(self, **_: Any) -> None:
        """Has the current stream wait for it, and of a GPU's not the host."""
        if self.arrival is not None:
            self.arrival.wait()
        self._param.ds_status = ZeroParamStatus.AVAILABLE


class PartitionedParameterCoordinator(deepspeeds.PartitionedParameterCoordinator):  # type: ignore[misc]
    """DeepSpeed's, with its name, so that what is private there is its own.

    While the order of modules is learnt, which takes a step, DeepSpeed does it all but for the wait for kernels.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        """Takes what DeepSpeed's own takes."""
        super().__init__(*args, **options)
        self._alone = dist.get_world_size() == 1
        self._on_gpu = get_accelerator().device_name() == "cuda"
        self._device = torch.device(get_accelerator().current_device_name())
        self._params: dict[int, tuple[Any, ...]] = {}
        """Of a module, by its number."""
        self._pending: deque[tuple[Any, int]] = deque()
        """Weights that were released and whose kernels the GPU may not be through with: an event on the stream that
        computes, the oldest first, and how many elements they have."""
        self._pending_elements = 0

    def _clear_trace_structures(self) -> None:
        super()._clear_trace_structures()
        self._params = {}

    def _fetch_sub_module_impl(self, current_submodule: torch.nn.Module, forward: bool, is_leaf: bool) -> None:
        self._wait_for_room()
        if not self.is_complete_trace():
            super()._fetch_sub_module_impl(current_submodule, forward, is_leaf)
            return
        params = self._params_of(current_submodule)
        self._bring([param for param in params if param.ds_status is ZeroParamStatus.NOT_AVAILABLE])
        self._use(current_submodule, params, forward)
        self._pass_over(params)
        self._bring_ahead()
        self.__step_id += 1

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # a compiled U-Net leaves its graph for it
    def release_sub_module(self, submodule: torch.nn.Module, forward: bool = False) -> None:
        """Releases what is not used again soon.

        Args:
            submodule: that is through.
            forward: whether its pass forward is; else that backward, which a computation anew is a part of.
        """
        before = self.__n_available_params
        if self.is_complete_trace():
            self._release(submodule, forward)
        else:
            super().release_sub_module(submodule, forward)
        if self._on_gpu and before > self.__n_available_params:
            self._pending.append((torch.cuda.current_stream().record_event(), before - self.__n_available_params))
            self._pending_elements += before - self.__n_available_params

    @torch.no_grad()
    def release_and_reset_all(self, module: Any) -> None:
        """Releases everything: weights were updated.

        Args:
            module: the engine's.
        """
        for param in module.parameters():
            if param.ds_status is ZeroParamStatus.INFLIGHT:
                self.__inflight_param_registry.data.pop(param).wait()
            param.ds_active_sub_modules.clear()
            self._free(param)

    @torch.no_grad()
    def bring_back(self, params: Iterable[Any]) -> None:
        """Has weights come that stay: after an update, together and not one by one.

        Args:
            params: that are never released in a step.
        """
        missing = [param for param in params if param.ds_status is ZeroParamStatus.NOT_AVAILABLE]
        if not missing:
            return
        arrival = self._send(missing)
        if arrival is not None:
            arrival.wait()
        for param in missing:
            param.ds_status = ZeroParamStatus.AVAILABLE

    def _params_of(self, module: Any) -> tuple[Any, ...]:
        """Its own, or all of it where it is fetched whole."""
        known = self._params.get(module.ds_id)
        if known is None:
            known = tuple(dict.fromkeys(iter_params(module, recurse=z3_leaf_module(module))))
            self._params[module.ds_id] = known
        return known

    def _bring(self, params: Collection[Any]) -> None:
        """Has weights come."""
        if not params:
            return
        with get_accelerator().stream(self.__allgather_stream):
            arrival = self._send(params)
        for param in params:
            param.ds_status = ZeroParamStatus.INFLIGHT
            self.__inflight_param_registry.data[param] = Coming(param, arrival)
            self.__n_available_params += param.ds_numel

    def _send(self, params: Collection[Any]) -> Any:
        """Puts whole weights on their way; returns what to wait for, None where they are there."""
        return self._copy(params) if self._alone else self._gather(params)

    def _copy(self, params: Iterable[Any]) -> Any:
        """Puts copies of whole weights into the queue of the current stream."""
        for param in params:
            param.data = param.ds_tensor.to(self._device, non_blocking=True).view(param.ds_shape)
        return torch.cuda.current_stream().record_event() if self._on_gpu else None

    def _gather(self, params: Collection[Any]) -> dist.Work | None:
        """Copies this rank's parts to their places in whole weights, where the ranks exchange them.

        Args:
            params: of one precision, as all of an engine's are, in the same order on every rank.
        """
        parts, wholes = [], []
        for param in params:
            size = param.ds_tensor.ds_numel
            whole = torch.empty(size * param.ds_zero_partition_world_size, dtype=param.dtype, device=self._device)
            part = whole.narrow(0, size * param.ds_zero_partition_rank, size)
            part.copy_(param.ds_tensor, non_blocking=True)
            param.data = whole[: param.ds_numel].view(param.ds_shape)
            parts.append(part)
            wholes.append(whole)
        group: dist.ProcessGroup = next(iter(params)).ds_process_group
        exchange = group.allgather_into_tensor_coalesced(wholes, parts)
        if self._on_gpu:
            return exchange
        exchange.wait()  # two at once spoil memory: seen in gloo's threads, torch 2.13
        return None

    def _use(self, module: Any, params: Collection[Any], forward: bool) -> None:
        """Notes that a module uses its weights, whose arrival the stream that computes waits for."""
        again = forward and bool(self.__active_backward_submodules) and torch._C._current_graph_task_id() != -1
        arrivals: dict[Any, None] = {}
        for param in params:
            param.ds_active_sub_modules.add(module.ds_id)
            if again and not param.requires_grad:  # no gradient of its own tells when it is through
                update_recompute_parameters(next(reversed(self.__active_backward_submodules.values())), param)
            if param.ds_status is ZeroParamStatus.INFLIGHT:
                arrivals[self.__inflight_param_registry.data.pop(param).arrival] = None
                param.ds_status = ZeroParamStatus.AVAILABLE
        for arrival in arrivals:
            if arrival is not None:
                arrival.wait()

    def _pass_over(self, params: Collection[Any]) -> None:
        """Takes a module's weights from the queue of what is to come, unless they were fetched ahead."""
        fetched_for, queue = self.__most_recent_step_id_param_fetched_for, self.__param_queue
        missing = {param for param in params if fetched_for[param] < self.__step_id}
        if {queue.popleft().param for _ in range(min(len(missing), len(queue)))} != missing:
            raise RuntimeError(
                f"step {self.__step_id} of the trace is of other weights than the module that is computed"
            )

    def _bring_ahead(self) -> None:
        """Has as many come as may be."""
        fetched_for, queue = self.__most_recent_step_id_param_fetched_for, self.__param_queue
        room = min(self.__max_n_available_params - self.__n_available_params, self.__prefetch_bucket_sz)
        ahead: dict[Any, None] = {}
        elements = 0
        while queue and elements < room:
            use = queue.popleft()
            fetched_for[use.param] = max(fetched_for[use.param], use.step_id_last_used_at)
            if use.param.ds_status is ZeroParamStatus.NOT_AVAILABLE and use.param not in ahead:
                ahead[use.param] = None
                elements += use.param.ds_numel
        self._bring(ahead)

    @torch.no_grad()
    def _release(self, module: Any, forward: bool) -> None:
        params, released = self._params_of(module), self.__params_to_release(module, self.__step_id)
        if not forward:
            again = module.ds_recompute_parameters
            released = released | {param.ds_id for param in again if not param.ds_persist}
            params = (*params, *again.difference(params))
            again.clear()
            self.__active_backward_submodules.pop(module.ds_id, None)
        for param in params:
            param.ds_active_sub_modules.discard(module.ds_id)
            if param.ds_id in released and not param.is_external_param:
                self._free(param)

    def _free(self, param: Any) -> None:
        """Lets go of a weight that no module uses."""
        if param.ds_status is not ZeroParamStatus.AVAILABLE or param.ds_active_sub_modules:
            return
        if self._on_gpu:  # its memory belongs to the stream that copied it
            param.data.record_stream(torch.cuda.current_stream())
        param.data = torch.empty(0, dtype=param.dtype, device=param.device)
        param.ds_status = ZeroParamStatus.NOT_AVAILABLE
        self.__n_available_params -= param.ds_numel

    def _wait_for_room(self) -> None:
        """Until what is released and what is gathered are no more than may be, as DeepSpeed counts the second."""
        most = self.__max_n_available_params
        while self._pending and (
            self._pending_elements + self.__n_available_params > most or self._pending[0][0].query()
        ):
            event, elements = self._pending.popleft()
            event.synchronize()
            self._pending_elements -= elements
