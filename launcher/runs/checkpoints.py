"""Which checkpoints an output folder holds, and whether a run can continue one. Torch-free.

A checkpoint is ``checkpoint-N`` with the engine's files, ``checkpoint.json`` (what it was made with) and, written
last, ``COMPLETE`` with the size of every file. A folder without a true marker does not count.
"""

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.config.training import AdapterSettings, TrainingSettings

MARKER = "COMPLETE"
FACTS = "checkpoint.json"


IN_MEMORY = "GPU or host memory"
"""Where an optimizer keeps its states unless it swaps them."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a checkpoint must share with the run that resumes from it, and what it should."""

    zero_stage: int | None
    """None without DeepSpeed."""
    precision: str
    optimizer: str
    world_size: int
    model: str
    """As it was named: a folder, a file or a hub id."""
    resolution: int
    seed: int
    global_batch_size: int
    pictures: int
    optimizer_on: str = IN_MEMORY
    """Where the optimizer's states are kept: there, or on ``NVMe``."""
    weight_decay_exclude: str = "none"
    """What makes a group of its own, and ``none`` where there is one group."""
    prediction_type: str = "auto"
    rescale_betas_zero_snr: bool = False
    model_type: str = "full"
    """``full`` or ``lora``; the other facts of a LoRA are empty without one."""
    lora_rank: int | None = None
    lora_alpha: float | None = None
    lora_target_modules: str | None = None
    """Ends of the adapted layers' names, sorted, separated by commas."""

    def facts(self) -> dict[str, Any]:
        """As ``checkpoint.json`` stores it."""
        return {name: getattr(self, name) for name in self.__slots__}


MUST_AGREE = {
    "zero_stage": "ZeRO stage",
    "precision": "precision",
    "optimizer": "optimizer",
    "world_size": "number of processes",
    "optimizer_on": "optimizer in",
    "weight_decay_exclude": "weight decay for all but",
    "model_type": "model type",
    "lora_rank": "LoRA rank",
    "lora_alpha": "LoRA alpha",
    "lora_target_modules": "LoRA of",
}
"""No engine can load a state across these: DeepSpeed fails with an empty message, or needs other files. Across an
alpha it could, and would go on with another function than the one that was trained."""

EARLIER = {"optimizer_on": IN_MEMORY, "weight_decay_exclude": "none", "model_type": "full"}
"""What checkpoints are that do not say it: there was nothing else when they were made."""

SHOULD_AGREE = {
    "model": ("model", "the checkpoint's U-Net is trained on, with this model's VAE and text encoders"),
    "resolution": ("resolution", "training goes on at the new one"),
    "seed": ("seed", "the data order changes from here on"),
    "global_batch_size": ("global batch size", "the data order changes from here on"),
    "prediction_type": ("prediction type", "what it learnt so far it unlearns"),
    "rescale_betas_zero_snr": ("zero terminal SNR", "it goes on with another noise schedule"),
    "pictures": ("number of pictures", "the data order changes from here on"),
}
"""What a run may change, and what comes of it."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole checkpoint on disk."""

    path: Path
    step: int
    facts: Mapping[str, Any]
    """What it was made with: :class:`Identity` and the optimizer's implementation."""

    @property
    def torch_adam(self) -> bool:
        """Whether its optimizer state is torch's own AdamW's, which CPUAdam cannot read."""
        return bool(self.facts.get("torch_adam"))


def precision(config: Mapping[str, Any]) -> str:
    """``bf16``, ``fp16`` or ``no``, from DeepSpeed's JSON."""
    enabled = [name for name in ("bf16", "fp16") if config.get(name, {}).get("enabled")]
    return enabled[0] if enabled else "no"


def identity(
    config: Mapping[str, Any], training: TrainingSettings, *, deepspeed: bool, world_size: int, pictures: int
) -> Identity:
    """Of a run.

    Args:
        config: as deepspeed.json holds it.
        training: its settings.
        deepspeed: whether DeepSpeed trains.
        world_size: how many processes.
        pictures: in its data set.
    """
    batch = training.optimization.train_batch_size * config["gradient_accumulation_steps"] * world_size
    return Identity(
        zero_stage=config["zero_optimization"]["stage"] if deepspeed else None,
        precision=precision(config),
        optimizer=config["optimizer"]["type"],
        world_size=world_size,
        model=training.model.pretrained_model_name_or_path,
        resolution=training.data.resolution,
        seed=training.optimization.seed,
        global_batch_size=batch,
        pictures=pictures,
        optimizer_on="NVMe" if _swaps_optimizer(config) else IN_MEMORY,
        weight_decay_exclude=training.optimization.weight_decay_exclude,
        prediction_type=training.objective.prediction_type,
        rescale_betas_zero_snr=training.objective.rescale_betas_zero_snr,
        **_adapter(training.adapter),
    )


def _adapter(settings: AdapterSettings) -> dict[str, Any]:
    if not settings.is_lora:
        return {}
    return {
        "model_type": settings.model_type,
        "lora_rank": settings.lora_rank,
        "lora_alpha": settings.alpha,
        "lora_target_modules": ",".join(settings.targets),
    }


def _swaps_optimizer(config: Mapping[str, Any]) -> bool:
    zero = config["zero_optimization"]
    return bool(zero["stage"] == 3 and zero.get("offload_optimizer", {}).get("device") == "nvme")


def newest(output_dir: Path, ignored: Callable[[str], None] = lambda _: None) -> Checkpoint | None:
    """The newest whole checkpoint of an output folder.

    Args:
        output_dir: checkpoints lie in its folder ``checkpoints``.
        ignored: told of each that is not whole.
    """
    whole = []
    for path, step in numbered(output_dir / "checkpoints"):
        reason = why_not_whole(path)
        if reason is None:
            whole.append((path, step))
        else:
            ignored(f"{path} is not a whole checkpoint ({reason}) and is ignored")
    if not whole:
        return None
    path, step = whole[-1]
    return Checkpoint(path, step, json.loads((path / FACTS).read_bytes()))


def why_not_resumed(checkpoint: Checkpoint, mine: Identity) -> str | None:
    """Why a run cannot continue a checkpoint; None where it can."""
    here = mine.facts()
    there = {**EARLIER, **checkpoint.facts}
    both_lora = there["model_type"] == here["model_type"] == "lora"
    differs = [
        f"{name} {_named(there.get(key))} there, {_named(here[key])} here"
        for key, name in MUST_AGREE.items()
        if there.get(key) != here[key] and (both_lora or not key.startswith("lora_"))
    ]
    if not differs:
        return None
    return (
        f"{checkpoint.path} cannot be resumed with these settings: {'; '.join(differs)}. Use its own settings, or "
        "train into another output folder"
    )


def what_changes(checkpoint: Checkpoint, mine: Identity) -> list[str]:
    """What a run that continues a checkpoint does otherwise than the one that made it."""
    here = mine.facts()
    return [
        f"{checkpoint.path} was made with {name} {checkpoint.facts[key]}, now {here[key]}: {consequence}"
        for key, (name, consequence) in SHOULD_AGREE.items()
        if checkpoint.facts.get(key, here[key]) != here[key]
    ]


def numbered(folder: Path) -> list[tuple[Path, int]]:
    """Checkpoint folders, oldest first, whole or not; none where they cannot be listed."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - Path.iterdir raises where this does
    except OSError:
        return []
    found = [(folder / name, int(match[1])) for name in names if (match := re.fullmatch(r"checkpoint-(\d+)", name))]
    return sorted(found, key=lambda item: item[1])


def why_not_whole(path: Path) -> str | None:
    """Why a folder is not a whole checkpoint; None when it is."""
    try:
        sizes = dict(json.loads((path / MARKER).read_bytes()))
    except FileNotFoundError:
        return f"no {MARKER} marker: its save did not finish"
    except (OSError, ValueError, TypeError) as error:
        return f"{MARKER} is unreadable: {error}"
    for name, size in sizes.items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes instead of {size}"
    return None


def _named(value: object) -> str:
    return "none (plain PyTorch)" if value is None else str(value)
