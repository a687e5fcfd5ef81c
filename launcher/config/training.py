"""What ``training.json`` holds, topic by topic.

A topic is one dataclass; :data:`TOPICS` lists them, and :class:`TrainingSettings` is their union. Keys that
SimpleTuner's users know keep their names. Paths are absolute once a plan is made.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher.config.setting import Problem, Setting, Value, declarations, read_topic, setting


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Which model is fine-tuned."""

    pretrained_model_name_or_path: str = setting(
        "",
        "The SDXL model to fine-tune: a diffusers folder, a single .safetensors file, or a hub id.",
        required=True,
        path=True,
        hub=True,
    )
    pretrained_vae_model_name_or_path: str = setting(
        "",
        "A VAE to use instead of the model's own: a diffusers folder or a hub id. Empty keeps the model's, "
        "which runs in fp32 where it would overflow in half precision.",
        path=True,
        hub=True,
    )
    pretrained_model_config: str = setting(
        "stabilityai/stable-diffusion-xl-base-1.0",
        "Where a single .safetensors file finds its configuration and tokenizers: a diffusers folder or a "
        "hub id. Not used for other models.",
        path=True,
        hub=True,
    )


@dataclass(frozen=True, slots=True)
class DataSettings:
    """Which pictures it learns from."""

    instance_data_dir: str = setting(
        "",
        "A folder of pictures, each with its caption in a .txt file of the same name beside it.",
        required=True,
        path=True,
    )
    resolution: int = setting(
        1024,
        "Side of the square that each picture is scaled and centre-cropped to.",
        unit="px",
        minimum=16,
        maximum=4096,
    )
    cache_dir: str = setting(
        "",
        "Where latents and prompt embeddings are kept between runs. Empty: `cache` beside the run directories.",
        path=True,
    )


@dataclass(frozen=True, slots=True)
class OptimizationSettings:
    """How long, how much at once and how fast it learns."""

    max_train_steps: int = setting(1000, "Optimizer steps to train for.", unit="steps", minimum=1)
    train_batch_size: int = setting(
        1,
        "Pictures per GPU and micro-batch. The global batch is this times accumulation times processes.",
        unit="pictures",
        minimum=1,
    )
    learning_rate: float = setting(1e-5, "Learning rate after warm-up.", minimum=0.0, maximum=1.0)
    lr_warmup_steps: int = setting(
        100, "Steps over which the learning rate rises; DeepSpeed refuses 0.", unit="steps", minimum=1
    )
    gradient_checkpointing: bool = setting(
        True, "Recompute activations in the backward pass: far less VRAM, about a quarter more GPU time."
    )
    seed: int = setting(42, "Seed of data order, noise and timesteps.", minimum=0, maximum=2**63 - 1)
    num_eval_images: int = setting(
        8,
        "Pictures whose loss on fixed, held-out noise is measured before and after training. 0 measures nothing.",
        unit="pictures",
        minimum=0,
    )


@dataclass(frozen=True, slots=True)
class CheckpointSettings:
    """What is saved while it trains, and where."""

    output_dir: str = setting("", "Where checkpoints and exports go. Empty: inside the run directory.", path=True)
    checkpointing_steps: int = setting(
        500, "A checkpoint is written every so many steps, and at the end.", unit="steps", minimum=1
    )
    checkpoints_total_limit: int = setting(
        2, "How many checkpoints are kept; the oldest go first.", unit="checkpoints", minimum=1
    )
    resume_from_checkpoint: str = setting(
        "latest",
        "`latest` continues from the newest whole checkpoint in the output folder, if there is one.",
        choices=("latest", "no"),
    )


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """What is left at the end."""

    export_pipeline: bool = setting(True, "Write a diffusers pipeline folder when training ends.")
    export_dtype: str = setting("bf16", "Number format of the exported U-Net.", choices=("bf16", "fp16", "fp32"))
    num_validation_images: int = setting(
        4,
        "Sample pictures drawn with the exported pipeline when training ends. 0 draws none.",
        unit="pictures",
        minimum=0,
        maximum=64,
    )
    validation_prompt: str = setting("", "Prompt of the sample pictures. Empty: captions of the data set.")
    validation_num_inference_steps: int = setting(
        30, "Denoising steps of a sample picture.", unit="steps", minimum=1, maximum=1000
    )
    validation_guidance: float = setting(
        5.0, "Classifier-free guidance of the sample pictures.", minimum=0.0, maximum=50.0
    )


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """What the processes get from the machine."""

    cpu_threads: int = setting(
        0,
        "Threads of each process for work on the CPU, the offloaded optimizer first of all. 0: physical "
        "cores divided by processes.",
        unit="threads",
        minimum=0,
        maximum=4096,
    )


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Everything that is neither accelerate's nor DeepSpeed's."""

    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    optimization: OptimizationSettings = field(default_factory=OptimizationSettings)
    checkpoints: CheckpointSettings = field(default_factory=CheckpointSettings)
    export: ExportSettings = field(default_factory=ExportSettings)
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)

    def to_json(self) -> dict[str, Value]:
        """One flat object, keys in the order of the topics."""
        return {
            key: value
            for topic in dataclasses.fields(self)
            for key, value in dataclasses.asdict(getattr(self, topic.name)).items()
        }


TOPICS: dict[str, type] = {
    "model": ModelSettings,
    "data": DataSettings,
    "optimization": OptimizationSettings,
    "checkpoints": CheckpointSettings,
    "export": ExportSettings,
    "runtime": RuntimeSettings,
}
"""Topic dataclasses by their name in :class:`TrainingSettings`."""


def training_declarations() -> Iterator[tuple[str, Setting]]:
    """Every setting of ``training.json`` with its topic's name."""
    for name, topic in TOPICS.items():
        for declared in declarations(topic):
            yield name, declared


def read_training(values: Mapping[str, object]) -> tuple[TrainingSettings, list[Problem]]:
    """Settings from a flat object as ``training.json`` holds it; faults are listed, not raised."""
    topics: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, topic in TOPICS.items():
        parsed, found = read_topic(topic, values, "training")
        topics[name] = topic(**parsed)
        problems += found
    known = {declared.key for _, declared in training_declarations()}
    problems += [Problem(f"training.{key}", "is not a setting", rule="unknown") for key in values if key not in known]
    return TrainingSettings(**topics), problems
