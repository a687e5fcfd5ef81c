"""What of a run's settings decides what its engine keeps on the GPU."""

from dataclasses import dataclass

from launcher.config.deepspeed import BLOCKS, DeepSpeedSettings
from launcher.config.engine import adds_up_by_itself, parameter_groups, parts_before_the_gpu, updates_in_one_pass
from launcher.config.settings import Settings
from launcher.estimate.adapter import Trained

MOMENTS = {"AdamW": 2, "Adam": 2, "Adagrad": 1, "Lion": 1, "Muon": 1.14}
"""Tensors of optimizer state for each parameter. Muon has one for matrices, 86.7 % of SDXL's U-Net, and Adam's two for
the rest."""


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """An engine, as far as its memory goes; sizes in elements."""

    deepspeed: bool
    stage: int
    """0 without ZeRO."""
    ranks: int
    weight_bytes: int
    """Of a weight that is computed with: 2 in half precision, 4 in fp32."""
    master_bytes: int
    """Of its fp32 master; 0 where weights are their own masters."""
    moments: float
    """fp32 tensors of optimizer state for each trained parameter."""
    offload_optimizer: bool
    offload_param: bool
    accumulation: int
    """Micro-batches a step."""
    reduce_bucket: int
    overlap: bool
    prefetch_bucket: int
    max_live: int
    max_reuse_distance: int
    persistence_threshold: int
    sub_group: int
    leaf_blocks: bool = False
    """Whether transformer blocks and resnets are fetched whole."""
    one_pass: bool = False
    """Whether ``launcher.train.offload`` brings gradients to the host and updates there, in place of DeepSpeed."""
    group: int | None = None
    """Of a group of parameters at stages 1 and 2, at most; None where one holds all."""
    weights_begin_whole: bool = False
    """Whether stage 3 takes the model apart on the GPU."""
    linear_keeps: bool = False
    """Whether linear layers keep their weights from the forward to the backward pass at stage 3, released or not."""

    @property
    def local_sums(self) -> bool:
        """Whether each rank adds up micro-batches of all parameters, before ranks average them once a step."""
        return self.one_pass and adds_up_by_itself(self.stage, self.ranks, self.accumulation)


def engine_facts(settings: Settings, of: Trained) -> EngineFacts:
    """The facts of these settings.

    Args:
        settings: of the run.
        of: what of the model is trained.
    """
    ds, deepspeed, config = settings.deepspeed, settings.launch.deepspeed, settings.deepspeed_json()
    stage_3 = deepspeed and ds.stage == 3
    return EngineFacts(
        deepspeed=deepspeed,
        stage=ds.stage if deepspeed else 0,
        ranks=settings.launch.num_processes,
        weight_bytes=4 if ds.precision == "no" else 2,
        master_bytes=master_bytes(settings),
        moments=moments(ds),
        offload_optimizer=ds.offloads,
        offload_param=ds.stage == 3 and ds.offload_param_device != "none",
        accumulation=ds.gradient_accumulation_steps,
        reduce_bucket=ds.reduce_bucket_size,
        overlap=ds.overlap_comm,
        prefetch_bucket=min(ds.stage3_prefetch_bucket_size, of.held),
        max_live=ds.stage3_max_live_parameters,
        max_reuse_distance=ds.stage3_max_reuse_distance,
        persistence_threshold=ds.stage3_param_persistence_threshold,
        sub_group=ds.sub_group_size,
        leaf_blocks=len(ds.fetched_whole) == len(BLOCKS),
        one_pass=deepspeed and updates_in_one_pass(config),
        group=parameter_groups(config) if deepspeed else None,
        weights_begin_whole=stage_3 and not parts_before_the_gpu(config),
        linear_keeps=stage_3 and not config["zero_optimization"].get("memory_efficient_linear", True),
    )


def moments(ds: DeepSpeedSettings) -> float:
    """Tensors of optimizer state; DeepSpeed's Lion for the CPU has a second that it never uses."""
    return 2 if ds.optimizer_type == "Lion" and ds.offloads else MOMENTS[ds.optimizer_type]


def master_bytes(settings: Settings) -> int:
    """Of a weight's fp32 copy, which plain fp32 training does not keep."""
    return 0 if settings.deepspeed.precision == "no" and settings.deepspeed.stage == 0 else 4
