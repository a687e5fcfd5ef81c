"""Which ZeRO stage goes with which offload, optimizer, precision and compiler; what an objective must say."""

from collections.abc import Callable
from dataclasses import dataclass

from launcher.config.accelerate import LaunchSettings
from launcher.config.deepspeed import BLOCKS, DeepSpeedSettings
from launcher.config.setting import Level
from launcher.config.training import TrainingSettings
from launcher.noise_schedule import ZERO_SNR_NEEDS_VELOCITY


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that does not work, with the field to change and where it was learnt."""

    id: str
    field: str
    message: str
    broken: Callable[[LaunchSettings, DeepSpeedSettings, TrainingSettings], bool]
    source: str
    level: Level = Level.ERROR


LION_NEEDS_DEEPSPEED = "plain PyTorch has no Lion; choose AdamW, or DeepSpeed with the optimizer offloaded to cpu"
MUON_NEEDS_DEEPSPEED = "Muon is DeepSpeed's here; choose AdamW, or DeepSpeed"

FULL_RATE = 1e-5
"""What is usual for the whole U-Net."""


def _adagrad_of_two_groups(launch: LaunchSettings, ds: DeepSpeedSettings, training: TrainingSettings) -> bool:
    in_groups = training.optimization.weight_decay_exclude != "none" and not training.adapter.is_lora
    return in_groups and launch.deepspeed and ds.stage > 0 and ds.optimizer_type == "Adagrad" and not ds.offloads


def _fetches_layers(launch: LaunchSettings, ds: DeepSpeedSettings, training: TrainingSettings) -> bool:
    """Whether stage 3 fetches layer by layer on a GPU where it need not: a LoRA and NVMe must."""
    could_be_whole = not training.adapter.is_lora and "offload_param" not in ds.nvme_parts
    return (
        launch.deepspeed
        and not launch.use_cpu
        and ds.stage == 3
        and could_be_whole
        and len(ds.fetched_whole) < len(BLOCKS)
    )


LAUNCH: tuple[Rule, ...] = (
    Rule(
        "lion-needs-deepspeed",
        "deepspeed.optimizer.type",
        LION_NEEDS_DEEPSPEED,
        lambda launch, ds, _: not launch.deepspeed and ds.optimizer_type == "Lion",
        source="torch.optim has none",
    ),
    Rule(
        "muon-needs-deepspeed",
        "deepspeed.optimizer.type",
        MUON_NEEDS_DEEPSPEED,
        lambda launch, ds, _: not launch.deepspeed and ds.optimizer_type == "Muon",
        source="torch.optim.Muon is another: it takes no other weights beside matrices",
    ),
    Rule(
        "offload-path-without-nvme",
        "training.offload_param_path",
        "is not used: nothing is offloaded to nvme at ZeRO stage 3 that names no folder of its own",
        lambda launch, ds, training: (
            bool(training.runtime.offload_param_path)
            and training.runtime.offload_param_path
            not in [getattr(ds, f"{part}_nvme_path") for part in ds.nvme_parts if launch.deepspeed]
        ),
        source="deepspeed/runtime/engine.py: below stage 3 nvme is taken for cpu",
        level=Level.WARNING,
    ),
    Rule(
        "muon-decays-as-one",
        "deepspeed.scheduler.type",
        "WarmupDecayLR has one learning rate for Muon's weights and Adam's; choose WarmupLR or WarmupCosineLR",
        lambda _, ds, __: ds.optimizer_type == "Muon" and ds.scheduler_type == "WarmupDecayLR",
        source="deepspeed/runtime/lr_schedules.py: without warmup_max_lr it takes 0.001 for both",
    ),
    Rule(
        "adagrad-decays-as-one",
        "training.weight_decay_exclude",
        "Adagrad without offload lets all weights decay or none: DeepSpeed makes it anew with one group, and stops at "
        "the first step; answer none, offload the optimizer to cpu, or choose AdamW",
        _adagrad_of_two_groups,
        source="run: IndexError, list index out of range; initialize_optimizer_states of stages 1 to 3",
    ),
    Rule(
        "lora-learns-faster",
        "training.learning_rate",
        "a LoRA hardly learns at a rate that suits the whole U-Net; 1e-4 is usual",
        lambda _, __, training: training.adapter.is_lora and training.optimization.learning_rate <= FULL_RATE,
        source="1e-4 is the default of diffusers' train_text_to_image_lora_sdxl.py and of kohya's sd-scripts",
        level=Level.WARNING,
    ),
    Rule(
        "lora-in-whole-blocks",
        "deepspeed.zero_optimization.leaf_module.classes",
        "a LoRA does not train in blocks whose weights are fetched together: DeepSpeed releases frozen weights before "
        "the backward pass has used them; take it out",
        lambda launch, ds, training: launch.deepspeed and training.adapter.is_lora and bool(ds.fetched_whole),
        source="run: RuntimeError, the size of tensor a (0) must match the size of tensor b (4), in the first backward",
    ),
    Rule(
        "fetched-layer-by-layer",
        "deepspeed.zero_optimization.leaf_module.classes",
        "at ZeRO stage 3 DeepSpeed fetches weights layer by layer, and a step takes a third longer than with whole "
        f"blocks; set it to {' and '.join(BLOCKS)}, or take what `simpletuner-tui plan` or F7 recommends",
        _fetches_layers,
        source="run on an H200: 3.7 s a step for 2.8, at batch 8 3.6 for 2.3",
        level=Level.WARNING,
    ),
    Rule(
        "weights-kept-for-linear-layers",
        "deepspeed.zero_optimization.memory_efficient_linear",
        "without gradient checkpointing every linear layer's weights stay on the GPU from the forward to the backward "
        "pass where this is off; turn it on, or training.gradient_checkpointing",
        lambda launch, ds, training: (
            launch.deepspeed and ds.keeps_linear_weights and not training.optimization.gradient_checkpointing
        ),
        source="run: after a forward pass on two CPUs the weights of all 16 linear layers were there, with it on none",
        level=Level.WARNING,
    ),
    Rule(
        "compiled-at-stage-3",
        "accelerate.use_dynamo",
        "at ZeRO stage 3 DeepSpeed fetches each layer's weights from Python, where torch.compile stops: it compiles "
        "single layers, for minutes, and little gets faster; choose stage 2, or do not compile",
        lambda launch, ds, _: launch.dynamo is not None and launch.deepspeed and ds.stage == 3,
        source="run: 96 graphs with 224 operations, where stage 2 gave 2 with 958",
        level=Level.WARNING,
    ),
    Rule(
        "one-graph-at-stage-3",
        "accelerate.dynamo_use_fullgraph",
        "at ZeRO stage 3 no model compiles in one piece: DeepSpeed fetches each layer's weights from Python; answer "
        "no, or choose stage 2",
        lambda launch, ds, _: (
            launch.dynamo is not None and launch.dynamo.fullgraph and launch.deepspeed and ds.stage == 3
        ),
        source="run: torch._dynamo.exc.Unsupported at the first layer's hook",
    ),
    Rule(
        "regions-in-one-piece",
        "accelerate.dynamo_use_fullgraph",
        "with regional compilation torch finds single layers beside the blocks in which it has nothing to compile, and "
        "in fullgraph mode that is an error; answer no to one of the two",
        lambda launch, _, __: launch.dynamo is not None and launch.dynamo.fullgraph and launch.dynamo.regional,
        source="run: torch 2.13 found no compiled frames in the first convolution",
    ),
    Rule(
        "flash-needs-half-precision",
        "training.attention_mechanism",
        "a GPU has no flash attention in fp32; choose sdpa, or bf16",
        lambda launch, ds, training: (
            training.runtime.attention_mechanism == "flash" and ds.precision == "no" and not launch.use_cpu
        ),
        source="torch: no kernel for float32, aten/src/ATen/native/transformers/cuda/sdp_utils.cpp",
    ),
    Rule(
        "zero-snr-needs-velocity",
        "training.rescale_betas_zero_snr",
        ZERO_SNR_NEEDS_VELOCITY,
        lambda _, __, training: (
            training.objective.rescale_betas_zero_snr and training.objective.prediction_type == "epsilon"
        ),
        source="Lin et al. 2023, section 3.2",
    ),
    Rule(
        "min-snr-at-zero-snr",
        "training.snr_gamma",
        "min-SNR gives the last timestep of a schedule with zero terminal SNR the weight 0, so that what the rescaling "
        "is for, to begin from pure noise, is not learnt; set it to 0",
        lambda _, __, training: training.objective.snr_gamma > 0 and training.objective.rescale_betas_zero_snr,
        source="Hang et al. 2023: the weight of velocity is min(SNR, gamma) / (SNR + 1)",
        level=Level.WARNING,
    ),
    Rule(
        "timesteps-to-train",
        "training.min_timestep",
        "leaves no timestep below training.max_timestep; lower it, or raise that",
        lambda _, __, training: training.objective.min_timestep >= training.objective.max_timestep,
        source="the range holds its first timestep and not its last",
    ),
)
