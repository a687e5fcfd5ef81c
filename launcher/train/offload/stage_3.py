"""ZeRO stage 3 with the optimizer on the CPU: gradients come to the host once, and one pass over its memory updates.

DeepSpeed's own way brings each gradient to the host, uploads it again, and brings it down a second time in fp32; then
it scales in one pass, updates in a second and rounds the masters in a third.
"""

from itertools import groupby
from typing import Any

import deepspeed.comm as dist
import torch
from deepspeed.accelerator import get_accelerator
from deepspeed.runtime.zero.stage3 import DeepSpeedZeroOptimizer_Stage3, IPGBucketZ3

from launcher.train.offload.fetching import PartitionedParameterCoordinator
from launcher.train.offload.fused_adamw import FusedAdamW
from launcher.train.offload.gradients import HostGradients, Run, clip_factor
from launcher.train.offload.packing import Waiting, pack


class Stage3(DeepSpeedZeroOptimizer_Stage3):  # type: ignore[misc]
    """DeepSpeed's optimizer of stage 3, with an Adam on the CPU and weights in bf16 or fp32."""

    def __init__(self, *args: Any, adam: FusedAdamW, **options: Any) -> None:
        """Takes what DeepSpeed's own takes, and the update."""
        super().__init__(*args, **options)
        self._adam = adam
        self._rounded = False
        self._waiting: Waiting[Any] = Waiting(self._fill)

    def initialize_optimizer_states(self) -> None:
        """Nothing: DeepSpeed's own makes room for gradients in fp32, and states come with the first update."""

    def reduce_independent_p_g_buckets_and_remove_grads(self, param: Any) -> None:
        """Takes in the gradient of one parameter; several are copied into the bucket at once."""
        dtype = self.get_param_comm_dtype(param)
        bucket, ranks = self.ipg_buckets[dtype], self._get_param_partition_group(param)
        if bucket.elements + param.ds_numel > self.reduce_bucket_size or ranks != bucket.process_group:
            self._DeepSpeedZeroOptimizer_Stage3__reduce_and_partition_ipg_grads(dtype)
            bucket.process_group = ranks
        bucket.params.append(param)
        self._waiting.add(bucket, param, param.ds_numel)

    def _DeepSpeedZeroOptimizer_Stage3__reduce_and_partition_ipg_grads(  # noqa: N802
        self, communication_data_type: torch.dtype
    ) -> None:
        """Averages what is in the bucket and brings it to the host."""
        self._fill(self.ipg_buckets[communication_data_type])
        DeepSpeedZeroOptimizer_Stage3._DeepSpeedZeroOptimizer_Stage3__reduce_and_partition_ipg_grads(
            self, communication_data_type
        )

    def _fill(self, bucket: IPGBucketZ3) -> None:
        """Moves what waits into the bucket, if there is one, and what waits is not greater than it."""
        params, elements = self._waiting.take()
        if not params:
            return
        if not get_accelerator().resolves_data_dependency():
            self.reduce_and_partition_stream.wait_stream(self._waiting.stream)
        if self.contiguous_gradients and bucket.elements <= self.reduce_bucket_size:
            gradients = [param.grad for param in params]
            start = bucket.elements - elements
            with get_accelerator().stream(self.reduce_and_partition_stream):
                copies = pack(gradients, bucket.buffer.narrow(0, start, elements))
            for gradient, copy in zip(gradients, copies, strict=True):
                if not get_accelerator().is_synchronized_device():
                    gradient.record_stream(self.reduce_and_partition_stream)
                gradient.data = copy  # the parameter itself may be released already

    @torch.no_grad()
    def partition_grads(self, params_to_release: list[Any], grad_partitions: list[torch.Tensor]) -> None:
        """Brings this rank's parts of a bucket to the host, which adds up micro-batches.

        Args:
            params_to_release: whose gradients they are.
            grad_partitions: of each this rank's part, flat; views of the bucket.
        """
        parts = []
        for param, part in zip(params_to_release, grad_partitions, strict=True):
            if param.partition_numel() * self._get_param_partition_rank(param) < param.ds_numel:
                group, place, _ = self.grad_position[self.get_param_id(param)]
                parts.append((part, Run(int(part.storage_offset()), group, place, part.numel())))
        last = self.is_gradient_accumulation_boundary()
        for _, together in groupby(parts, key=lambda pair: pair[0].untyped_storage().data_ptr()):
            pairs = list(together)
            storage = pairs[0][0].untyped_storage()
            full = torch.empty(0, dtype=pairs[0][0].dtype, device=pairs[0][0].device).set_(storage)
            self._gradients.take(full, (run for _, run in pairs), last=last)
        for param in params_to_release:
            if not get_accelerator().is_synchronized_device():
                param.grad.record_stream(get_accelerator().current_stream())
            param.grad = None

    def unscale_and_clip_grads(self, sub_group_id: int, total_norm: torch.Tensor) -> None:
        """Leaves the gradients as they are: the update scales them on its way."""
        self._scale = clip_factor(float(total_norm), self.clip_grad)

    def _setup_for_real_optimizer(self) -> None:
        super()._setup_for_real_optimizer()
        self._alone = dist.get_world_size(group=self.dp_process_group) == 1
        # DeepSpeed's place for gradients between micro-batches holds all there is of them, one group after another.
        self._gradients = HostGradients(self.grad_partitions_flat_buffer.split(self.fp16_partitioned_groups_flat_numel))

    def _DeepSpeedZeroOptimizer_Stage3__avg_scatter_grads(  # noqa: N802 - DeepSpeed's name, as Python stores it
        self, params_to_reduce: list[Any], communication_data_type: torch.dtype
    ) -> list[torch.Tensor]:
        """Averages gradients over the ranks; of one rank they are what they are."""
        if self._alone:
            return [param.grad.reshape(-1) for param in params_to_reduce]
        averaged: list[torch.Tensor] = DeepSpeedZeroOptimizer_Stage3._DeepSpeedZeroOptimizer_Stage3__avg_scatter_grads(
            self, params_to_reduce, communication_data_type
        )
        return averaged

    def _get_norm_groups(self) -> list[torch.Tensor]:
        return [torch.tensor(self._gradients.norm(None if self._alone else self.dp_process_group))]

    def _get_fp32_grad_state_partition(self, param: Any, release_swap_buffers: bool) -> tuple[torch.Tensor, int]:
        """Where ``safe_get_full_grad`` finds a parameter's gradient, and the number of its group."""
        group, place, size = self.grad_position[self.get_param_id(param)]
        return self._gradients.of_group(group).narrow(0, place, size), group

    def get_full_hp_param(self, param: Any, optim_state_key: str | None = None) -> torch.Tensor | None:
        """A parameter's master or state in fp32, whole; of one rank it lies in host memory already.

        DeepSpeed's own takes 236 MiB of the GPU for the largest weight of SDXL, twice over.
        """
        if not self._alone or not param.requires_grad:
            gathered: torch.Tensor | None = super().get_full_hp_param(param, optim_state_key)
            return gathered
        part, _ = self._get_fp32_opt_state_partition(param, True, optim_state_key)
        whole: torch.Tensor = part[: param.ds_numel].view(param.ds_shape)
        return whole

    def _optimizer_step(self, sub_group_id: int) -> None:
        master, weights = self.fp32_partitioned_groups_flat[sub_group_id], self._weights_on_host(sub_group_id)
        self._adam.update(
            master,
            self._gradients.of_group(sub_group_id),
            self.optimizer.state[master],
            self.optimizer.param_groups[self.sub_group_to_group_id[sub_group_id]],
            adam_w_mode=self.optimizer.adam_w_mode,
            scale=self._scale,
            weights_out=weights,
        )
        self._rounded = weights is not None

    def _reassign_or_swap_out_partitioned_parameters(self, sub_group_id: int) -> None:
        """Copies masters to weights; not those of the group that was just updated, if that has rounded them already."""
        if self._rounded:
            self._rounded = False
        else:
            super()._reassign_or_swap_out_partitioned_parameters(sub_group_id)

    def _post_step(self, timer_names: list[str]) -> None:
        coordinator = self.parameter_offload.get_param_coordinator()
        if isinstance(coordinator, PartitionedParameterCoordinator):
            coordinator.bring_back(self.persistent_parameters)
        super()._post_step(timer_names)

    def _weights_on_host(self, sub_group_id: int) -> torch.Tensor | None:
        """The weights of a group where they lie in host memory in bf16: the update rounds the masters into them."""
        weights: torch.Tensor = self.fp16_partitioned_groups_flat[sub_group_id]
        return weights if self.offload_param and weights.dtype == torch.bfloat16 else None
