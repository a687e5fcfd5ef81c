"""ZeRO stages 1 and 2: gradients leave the GPU while the backward pass goes on, and one pass over host memory updates.

DeepSpeed's own way waits for the GPU once for every parameter, to look for infinite gradients, and in every micro-batch
of an accumulation for every copy. It keeps gradients in fp32 on the host, scales them in one pass, updates in a second
and rounds the masters in a third. Here a gradient that is not finite shows in the norm, which has to be read anyway,
and gradients stay in the precision they were computed in: the update widens them without loss.
"""

import math
from collections.abc import Iterator
from typing import Any

import deepspeed.comm as dist
import torch
from deepspeed.accelerator import get_accelerator
from deepspeed.runtime.zero.stage_1_and_2 import INITIAL_MICRO_STEP_ID, DeepSpeedZeroOptimizer, IPGBucket

from launcher.config.engine import adds_up_by_itself
from launcher.train.offload.fused_adamw import FusedAdamW
from launcher.train.offload.gradients import HostGradients, Run, clip_factor
from launcher.train.offload.local_sums import LocalSums
from launcher.train.offload.packing import Waiting, pack


class Stage1And2(DeepSpeedZeroOptimizer):  # type: ignore[misc]
    """DeepSpeed's optimizer of stages 1 and 2, with an Adam on the CPU and weights in bf16 or fp32."""

    def __init__(self, *args: Any, adam: FusedAdamW, **options: Any) -> None:
        """Takes what DeepSpeed's own takes, and the update."""
        super().__init__(*args, **options)
        self._adam = adam
        self._alone = dist.get_world_size(group=self.dp_process_group) == 1
        self._waiting: Waiting[tuple[tuple[int, int, int], torch.Tensor]] = Waiting(self._fill)
        # Of DeepSpeed's own way alone.
        self.temp_grad_buffer_for_cpu_offload = self.temp_grad_buffer_for_gpu_offload = None

    def initialize_optimizer_states(self) -> None:
        """Makes room for gradients on the host; DeepSpeed's own would be in fp32."""
        if self.dtype != torch.bfloat16:  # the masters themselves are uploaded
            self.param_buffer_of_bit16_for_cpu_offload_groups.clear()
        make = get_accelerator().pin_empty if self.cpu_offload_pin_memory else torch.empty
        sizes = [int(size) for size in self.partition_size]
        ranks, rank = dist.get_world_size(group=self.dp_process_group), dist.get_rank(group=self.dp_process_group)
        self._sums: LocalSums | None = None
        self._places: dict[int, int] = {}
        """Where each parameter begins in its whole group, by its number, for the sums."""
        if adds_up_by_itself(2 if self.partition_gradients else 1, ranks, self.gradient_accumulation_steps):
            groups = [make(ranks * size, dtype=self.dtype).zero_() for size in sizes]
            self._sums = LocalSums(groups)
            # A rank's own part of a step's sums takes the place of what it had added up there.
            parts = [group.narrow(0, rank * size, size) for group, size in zip(groups, sizes, strict=True)]
            for params, offsets in zip(self.round_robin_bit16_groups, self.round_robin_bit16_offsets, strict=True):
                self._places |= zip(map(self.get_param_id, params), offsets, strict=True)
        else:
            parts = [make(size, dtype=self.dtype).zero_() for size in sizes]
        self._gradients = HostGradients(parts)

    def reduce_independent_p_g_buckets_and_remove_grads(self, param: Any, group: int) -> None:
        """Takes in the gradient of one parameter; several are copied into the bucket at once."""
        dtype, size = self.get_param_comm_dtype(param), param.numel()
        bucket = self.ipg_buckets[dtype]
        if bucket.elements + size > self.reduce_bucket_size:
            self.reduce_ipg_grads(dtype)
            bucket.index = (bucket.index + 1) % len(bucket.buffer)
        gradient = param.grad
        self.clear_grad_attribute(param)
        self._waiting.add(bucket, ((group, param.param_idx_in_group, self.get_param_id(param)), gradient), size)

    def reduce_ipg_grads(self, comm_dtype: torch.dtype | None = None) -> None:
        """Averages what is in the buckets and hands it over to the host."""
        for dtype in self.ipg_buckets if comm_dtype is None else (comm_dtype,):
            bucket = self.ipg_buckets[dtype]
            if not bucket.elements:
                continue
            self._fill(bucket)
            large = bucket.elements > self.reduce_bucket_size  # of one parameter, alone in it
            full = bucket.grads[0].view(-1) if large else self._end_of(bucket, bucket.elements)
            stream = self._reducing
            for event in bucket.ready_events.values():
                stream.wait_event(event)
            self._record_gradient_stream(full, stream)
            with get_accelerator().stream(stream):
                self._hand_over(bucket, full)
                self._record_offload_copy()
                if not large:
                    self._keep_until_copied(bucket)
            bucket.clear()

    def independent_gradient_partition_epilogue(self) -> None:
        """Ends a backward pass; with ``overlap_comm`` DeepSpeed's own waits for the whole GPU, in every micro-batch."""
        self.reduce_ipg_grads()
        exchanged = not self._alone
        if self._sums is not None:
            exchanged = self.is_gradient_accumulation_boundary()
            if exchanged:
                self._give_what_is_left(self._sums)
        if exchanged and not get_accelerator().resolves_data_dependency():
            # What ranks exchange next goes through another group: on each of them this comes first.
            get_accelerator().current_stream().wait_stream(self._reducing)
        self._release_ipg_buffers()
        self._epilogue_ran_this_backward = True

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Updates the masters on the host and the weights on the GPU, group by group."""
        self.micro_step_id = INITIAL_MICRO_STEP_ID
        self._wait_for_offload_copies()
        norm = self._gradients.norm(None if self._alone else self.dp_process_group)
        self._global_grad_norm = norm if math.isfinite(norm) else math.inf
        self.overflow = math.isinf(self._global_grad_norm) and (
            self.check_grad_overflow or self.dtype != torch.bfloat16  # only with bf16 DeepSpeed may be told not to look
        )
        if self.overflow:
            return
        scale, rank = clip_factor(self._global_grad_norm, self.clip_grad), dist.get_rank(group=self.dp_process_group)
        in_bf16 = self.dtype == torch.bfloat16
        for index, group in enumerate(self.optimizer.param_groups):
            master = self.single_partition_of_fp32_groups[index]
            rounded = self.param_buffer_of_bit16_for_cpu_offload_groups[index] if in_bf16 else None
            state, gradient = self.optimizer.state[master], self._gradients.of_group(index)
            self._adam.update(
                *(master, gradient, state, group),
                adam_w_mode=self.optimizer.adam_w_mode,
                scale=scale,
                weights_out=rounded,
            )
            # While it goes up, and to the other ranks, the next group is updated.
            weights = self.parallel_partitioned_bit16_groups[index][rank].detach()
            weights.copy_(master.detach() if rounded is None else rounded, non_blocking=True)
            if not self._alone:
                dist.all_gather_into_tensor(self.bit16_groups_flat[index], weights, group=self.dp_process_group)
        self._lazy_init_hp_params_optimizer_state()
        if not in_bf16 and not get_accelerator().resolves_data_dependency():
            # The masters may change as soon as this returns: a moving average is exchanged for them.
            get_accelerator().current_stream().synchronize()

    @property
    def _reducing(self) -> Any:
        """The stream that reduces gradients and brings them to the host; None on a CPU."""
        return self.reduction_stream if self.overlap_comm else get_accelerator().current_stream()

    def _fill(self, bucket: IPGBucket) -> None:
        """Moves what waits into the bucket, on the stream that computed it.

        A backward pass comes to parameters in about the opposite of their order, so the bucket is filled from its end:
        then gradients lie in it as they do on the host, and leave it in few copies. All ranks do so at the same
        parameters: these come in the same order there, as DeepSpeed too takes for granted.
        """
        pairs, elements = self._waiting.take()
        if not pairs:
            return
        pairs.sort(key=lambda pair: pair[0])
        bucket.params[:0] = [param for param, _ in pairs]
        gradients = [gradient for _, gradient in pairs]
        with get_accelerator().stream(self._waiting.stream):
            if bucket.elements > self.reduce_bucket_size:
                # It is added to on another stream, and autograd may have given its memory to others too.
                bucket.grads = [gradient.clone(memory_format=torch.contiguous_format) for gradient in gradients]
            else:
                stream = get_accelerator().current_stream()
                if bucket.index in bucket.reuse_events:
                    stream.wait_event(bucket.reuse_events[bucket.index])
                for gradient in gradients:
                    self._record_gradient_stream(gradient, stream)
                pack(gradients, self._end_of(bucket, bucket.elements).narrow(0, 0, elements))
            self._record_bucket_producer(bucket)

    def _end_of(self, bucket: IPGBucket, elements: int) -> torch.Tensor:
        buffer: torch.Tensor = bucket.buffer[bucket.index]
        return buffer.narrow(0, self.reduce_bucket_size - elements, elements)

    def _hand_over(self, bucket: IPGBucket, full: torch.Tensor) -> None:
        """Brings a bucket to the host: averaged over the ranks this rank's part, and before that what it adds up."""
        if self.micro_step_id > 0 and not self.cpu_offload_pin_memory:
            self._wait_for_offload_copies()  # pageable memory may be read before the GPU has written it
        stream = get_accelerator().current_stream()
        for other, event in self._pending_offload_events.items():
            if other != stream:  # under torch.compile; its copies may go to the same places
                stream.wait_event(event)
        last = self.is_gradient_accumulation_boundary()
        if self._sums is not None:
            whole = self._whole(bucket)
            if not last:
                self._sums.take(full, whole, last=False)
                return
            self._sums.give(full, whole)
        if not self._alone:
            # DeepSpeed's own copies it twice, and with overlap_comm waits for the whole GPU before each.
            full.div_(dist.get_world_size(group=self.dp_process_group))
            dist.all_reduce(full, group=self.dp_process_group)
        self._gradients.take(full, self._own(bucket), last=last)

    def _whole(self, bucket: IPGBucket) -> list[Run]:
        """All parameters of a bucket; their places are in whole groups."""
        return [Run(offset, group, self._places[number], size) for offset, group, number, size in self._in(bucket)]

    def _own(self, bucket: IPGBucket) -> list[Run]:
        """What of a bucket is this rank's; its places are in this rank's parts of groups."""
        pieces = []
        for offset, _, number, _ in self._in(bucket):
            if self.is_param_in_current_partition[number]:
                group, start, place, size = self.grad_position[number]
                pieces.append(Run(offset + start, group, place, size))
        return pieces

    def _in(self, bucket: IPGBucket) -> Iterator[tuple[int, int, int, int]]:
        """Of each parameter where it begins in a bucket, its group, number and elements."""
        offset = 0
        for group, index, number in bucket.params:
            elements = self.bit16_groups[group][index].numel()
            yield offset, group, number, elements
            offset += elements

    def _give_what_is_left(self, sums: LocalSums) -> None:
        """What a step's last micro-batch has no gradient of counts as zero there, and is averaged like all others."""
        self.setup_buckets()
        for group, params in enumerate(self.bit16_groups):
            for param in params:
                if sums.has((group, self._places[self.get_param_id(param)])):
                    param.grad = torch.zeros_like(param)
                    self.reduce_independent_p_g_buckets_and_remove_grads(param, group)
        self.reduce_ipg_grads()

    def _keep_until_copied(self, bucket: IPGBucket) -> None:
        """The next bucket that is filled in the same place waits for this one's copies."""
        if not get_accelerator().resolves_data_dependency():
            event = get_accelerator().Event()
            event.record()
            bucket.reuse_events[bucket.index] = event

    def _get_offload_gradient_dict(self) -> None:
        """Where ``safe_get_full_grad`` finds each parameter's gradient."""
        for group, params in enumerate(self.params_in_partition):
            places = (self.grad_position[self.get_param_id(param)] for param in params)
            self.offload_gradient_dict[group] = [
                self._gradients.of_group(group).narrow(0, place, size) for _, _, place, size in places
            ]
