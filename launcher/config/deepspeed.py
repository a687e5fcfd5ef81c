"""The part of DeepSpeed's JSON that offloaded training uses, as settings.

Each setting names its place in the JSON; its question id is ``deepspeed.`` plus that path. What a file or the
builder says beyond them is ``extra`` and written back untouched. Defaults are ours where DeepSpeed's
own waste memory on one or two GPUs; the docstring says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher.config.nested import leaves
from launcher.config.setting import Setting, declarations, setting

DEVICES = ("none", "cpu", "nvme")
PRECISIONS = ("no", "fp16", "bf16")
BLOCKS = ("BasicTransformerBlock", "ResnetBlock2D")
"""diffusers' classes of the blocks that SDXL's U-Net is made of: as leaf modules the weights of each are fetched
together at stage 3, where DeepSpeed fetches them layer by layer. A step takes 2.8 s for 3.7, or at batch 8 2.3 for 3.6:
measured on an H200."""
WHOLE_BLOCKS = ("zero_optimization", "leaf_module", "classes")
"""Keys of DeepSpeed's JSON that say so."""
SPARING_LINEAR = ("zero_optimization", "memory_efficient_linear")
"""Keys that say whether linear layers compute without keeping their weights until the backward pass, at stage 3.

DeepSpeed does that in Python, and is a quarter of a second slower in a step of SDXL. Where blocks are recomputed and
fetched whole nothing is gained by it: their weights are there until their backward pass is over. Where nothing is
recomputed all weights would stay, so that it must be on, as it is by default.
"""

GROUP_ELEMENTS = 1 << 25
"""Elements at most of a group of parameters at stages 1 and 2, so that an engine of them starts in little memory:
SDXL's largest parameter, 29,491,200, fits, and 88 such groups are made of its U-Net."""


@dataclass(frozen=True, slots=True)
class DeepSpeedSettings:
    """One DeepSpeed configuration, without what the run itself determines (batch size, learning rate)."""

    stage: int = setting(
        2,
        "ZeRO stage: 1 partitions optimizer states, 2 gradients too, 3 parameters too.",
        minimum=0,
        maximum=3,
    )
    precision: str = setting(
        "bf16", "Number format of weights and gradients in training; masters stay fp32.", choices=PRECISIONS
    )
    gradient_accumulation_steps: int = setting(1, "Micro-batches per optimizer step.", unit="micro-batches", minimum=1)
    gradient_clipping: float = setting(1.0, "Largest global gradient norm; 0 turns clipping off.", minimum=0.0)
    offload_optimizer_device: str = setting("cpu", "Where optimizer states and their update live.", choices=DEVICES)
    offload_optimizer_nvme_path: str = setting("", "Folder for optimizer states on NVMe.", path=True)
    offload_optimizer_pin_memory: bool = setting(
        True, "Lock the offload buffers in host RAM: faster copies, memory that cannot be swapped."
    )
    offload_param_device: str = setting(
        "none", "Where parameters live between uses; works at stage 3 only.", choices=DEVICES
    )
    offload_param_nvme_path: str = setting("", "Folder for parameters on NVMe.", path=True)
    offload_param_pin_memory: bool = setting(
        False,
        "Lock each parameter's own memory in host RAM. DeepSpeed copies what is trained to one buffer that it locks in "
        "any case: for SDXL 6 GB and 20 s of the start for nothing. A LoRA's frozen weights stay where they were, and "
        "come faster from memory that is locked.",
    )
    offload_param_buffer_size: int = setting(
        30_408_704,
        "Elements of each of five buffers for parameters on NVMe: SDXL's largest parameter, up to a whole multiple of "
        "2**20, where DeepSpeed's own 1e8 locks three times the host RAM.",
        unit="elements",
        minimum=1,
    )
    reduce_bucket_size: int = setting(
        30_000_000,
        "Elements reduced at once: at least SDXL's largest parameter, 29,491,200. The bucket is allocated whole on the "
        "GPU: 57 MiB here in bf16, where DeepSpeed's own 5e8 takes 954.",
        unit="elements",
        minimum=1,
    )
    allgather_bucket_size: int = setting(
        50_000_000, "Elements gathered at once, stages 1 and 2.", unit="elements", minimum=1
    )
    overlap_comm: bool = setting(
        True,
        "Reduce gradients and bring them to the host while the backward pass goes on, at the price of a second bucket "
        "on the GPU at stages 1 and 2.",
    )
    contiguous_gradients: bool = setting(True, "Copy gradients into one buffer as they are made.")
    sub_group_size: int = setting(
        100_000_000,
        "Parameters updated at once at stage 3; nothing gets faster by another number. A buffer for NVMe holds so many "
        "in fp32.",
        unit="elements",
        minimum=1,
    )
    stage3_prefetch_bucket_size: int = setting(
        40_000_000,
        "Parameters fetched ahead at stage 3: a transformer block of SDXL's, 34.8 million at the most.",
        unit="elements",
        minimum=0,
    )
    stage3_max_live_parameters: int = setting(
        120_000_000,
        "Parameters gathered on the GPU at once at stage 3: three blocks of SDXL's, where DeepSpeed's own 1e9 takes up "
        "to 2 GB.",
        unit="elements",
        minimum=0,
    )
    stage3_max_reuse_distance: int = setting(
        10_000_000,
        "A parameter used again within so many elements is not released at stage 3. At 0 a block that was recomputed "
        "is fetched once more for its backward pass, which follows at once; this keeps one block, 66 MiB, where "
        "DeepSpeed's own 1e9 keeps 2 GB.",
        unit="elements",
        minimum=0,
    )
    stage3_param_persistence_threshold: int = setting(
        100_000, "Smaller parameters stay on the GPU at stage 3.", unit="elements", minimum=0
    )
    stage3_gather_16bit_weights_on_model_save: bool = setting(
        False, "Gather whole 16-bit weights when DeepSpeed saves a model at stage 3."
    )
    optimizer_type: str = setting("AdamW", "The optimizer.", choices=("AdamW", "Adam", "Adagrad", "Lion", "Muon"))
    muon_lr: float = setting(
        1e-4,
        "Learning rate of the matrices, which Muon updates; the run's own is for what Adam updates beside it: "
        "convolutions, embeddings, biases and norms. Muon's update is 0.028 an element in a matrix 1280 wide, where "
        "Adam's is 0.2 as a rule.",
        minimum=0.0,
    )
    momentum: float = setting(0.95, "Decay rate of Muon's one moment.", minimum=0.0, maximum=1.0)
    betas: tuple[float, ...] = setting((0.9, 0.999), "Decay rates of the two moments.", minimum=0.0, maximum=1.0)
    eps: float = setting(1e-8, "Added to the denominator of the update.", minimum=0.0)
    weight_decay: float = setting(0.01, "Decoupled weight decay.", minimum=0.0)
    scheduler_type: str = setting(
        "WarmupLR", "The learning-rate schedule.", choices=("WarmupLR", "WarmupDecayLR", "WarmupCosineLR")
    )
    warmup_type: str = setting("log", "Shape of the rise, for WarmupLR and WarmupDecayLR.", choices=("log", "linear"))
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What a file or the builder says besides, nested as in DeepSpeed's JSON; it equals a setting that it repeats."""

    @property
    def offloads(self) -> bool:
        """Whether the optimizer runs on the CPU."""
        return self.offload_optimizer_device != "none"

    @property
    def nvme_parts(self) -> tuple[str, ...]:
        """What is swapped to NVMe, of ``offload_optimizer`` and ``offload_param``: below stage 3 nothing is."""
        parts = ("offload_optimizer", "offload_param") if self.stage == 3 else ()
        return tuple(part for part in parts if getattr(self, f"{part}_device") == "nvme")

    @property
    def keeps_linear_weights(self) -> bool:
        """Whether linear layers at stage 3 keep their weights until the backward pass, as ``extra`` says."""
        return self.stage == 3 and dict(leaves(self.extra)).get(SPARING_LINEAR) is False

    @property
    def fetched_whole(self) -> frozenset[str]:
        """Which of :data:`BLOCKS` have their weights fetched together, as ``extra`` says."""
        classes = dict(leaves(self.extra)).get(WHOLE_BLOCKS)
        return frozenset(BLOCKS).intersection(
            map(str, classes if self.stage == 3 and isinstance(classes, list) else ())
        )


JSON_PATHS: dict[str, str] = {
    "stage": "zero_optimization.stage",
    "precision": "precision",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "gradient_clipping": "gradient_clipping",
    "offload_optimizer_device": "zero_optimization.offload_optimizer.device",
    "offload_optimizer_nvme_path": "zero_optimization.offload_optimizer.nvme_path",
    "offload_optimizer_pin_memory": "zero_optimization.offload_optimizer.pin_memory",
    "offload_param_device": "zero_optimization.offload_param.device",
    "offload_param_nvme_path": "zero_optimization.offload_param.nvme_path",
    "offload_param_pin_memory": "zero_optimization.offload_param.pin_memory",
    "offload_param_buffer_size": "zero_optimization.offload_param.buffer_size",
    "reduce_bucket_size": "zero_optimization.reduce_bucket_size",
    "allgather_bucket_size": "zero_optimization.allgather_bucket_size",
    "overlap_comm": "zero_optimization.overlap_comm",
    "contiguous_gradients": "zero_optimization.contiguous_gradients",
    "sub_group_size": "zero_optimization.sub_group_size",
    "stage3_prefetch_bucket_size": "zero_optimization.stage3_prefetch_bucket_size",
    "stage3_max_live_parameters": "zero_optimization.stage3_max_live_parameters",
    "stage3_max_reuse_distance": "zero_optimization.stage3_max_reuse_distance",
    "stage3_param_persistence_threshold": "zero_optimization.stage3_param_persistence_threshold",
    "stage3_gather_16bit_weights_on_model_save": ("zero_optimization.stage3_gather_16bit_weights_on_model_save"),
    "optimizer_type": "optimizer.type",
    "muon_lr": "optimizer.params.muon_lr",
    "momentum": "optimizer.params.momentum",
    "betas": "optimizer.params.betas",
    "eps": "optimizer.params.eps",
    "weight_decay": "optimizer.params.weight_decay",
    "scheduler_type": "scheduler.type",
    "warmup_type": "scheduler.params.warmup_type",
}
"""Where each setting stands in DeepSpeed's JSON. ``precision`` stands for the bf16 and fp16 sections."""

OPTIMIZER_PARAMS: dict[str, tuple[str, ...]] = {
    "AdamW": ("betas", "eps", "weight_decay"),
    "Adam": ("betas", "eps", "weight_decay"),
    "Adagrad": ("eps", "weight_decay"),
    "Lion": ("betas", "weight_decay"),
    "Muon": ("muon_lr", "momentum", "betas", "eps", "weight_decay"),
}
"""Which of the settings each optimizer's class accepts; another one is a TypeError when the engine starts."""


def names_no_folder(value: object) -> bool:
    """Whether an NVMe path is blank or the word none, which DeepSpeed would take for a folder of that name."""
    return isinstance(value, str) and value.strip().lower() in ("", "none")


def deepspeed_declarations() -> dict[str, Setting]:
    """The settings by their place in DeepSpeed's JSON."""
    return {JSON_PATHS[declared.key]: declared for declared in declarations(DeepSpeedSettings)}
