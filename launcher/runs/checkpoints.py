"""Which checkpoints an output folder holds, and whether a run can continue one. Torch-free.

A checkpoint is ``checkpoint-N`` with the engine's files, ``checkpoint.json`` (what it was made with) and, written
last, ``COMPLETE`` (``marker``). A folder without a true marker does not count. ``checkpoint-N-universal``
is one that ``convert`` made: any engine, ZeRO stage and number of processes continues it.
"""

import itertools
import json
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.config.engine import parameter_groups
from launcher.config.training import AdapterSettings, TrainingSettings
from launcher.data.draws import buckets_of, order_digest
from launcher.data.pictures import Picture
from launcher.errors import InvalidInputError
from launcher.runs.directory import RunDirectory
from launcher.runs.marker import MARKER, why_damaged, why_not_whole

FACTS = "checkpoint.json"
UNIVERSAL = "universal"
"""What a converted checkpoint's name ends with, and its form in ``checkpoint.json``."""
_NAME = re.compile(rf"checkpoint-(\d+)(-{UNIVERSAL})?")

IN_MEMORY = "GPU or host memory"
"""Where an optimizer keeps its states unless it swaps them."""
WHOLE = "whole"
"""Groups of parameters that are not split."""


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
    parameter_groups: str = WHOLE
    """How large the optimizer's groups are: each has all that decays alike, or so many elements at most."""
    buckets: Mapping[str, int] | None = None
    """How many pictures each bucket has, by its size; None where they are not known yet."""
    data_order: str | None = None
    """What the order of pictures follows from beside seed and global batch size (``launcher.data.draws``)."""

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
    "parameter_groups": "parameter groups",
    "model_type": "model type",
    "lora_rank": "LoRA rank",
    "lora_alpha": "LoRA alpha",
    "lora_target_modules": "LoRA of",
}
"""No engine can load a state across these: DeepSpeed fails with an empty message, or needs other files. Across an
alpha it could, and would go on with another function than the one that was trained."""

EARLIER = {
    "optimizer_on": IN_MEMORY,
    "weight_decay_exclude": "none",
    "parameter_groups": WHOLE,
    "model_type": "full",
}
"""What checkpoints are that do not say it: there was nothing else when they were made."""

CONVERTIBLE = ("AdamW", "Adam", "Adagrad", "Lion")
"""Optimizers whose states can be carried from one engine, stage and number of processes to another."""
ALIKE = {"Adam": "AdamW"}
"""Optimizers with the states of another."""
CARRIED = {
    *("zero_stage", "precision", "optimizer", "world_size"),
    *("optimizer_on", "weight_decay_exclude", "parameter_groups"),
}
"""Of :data:`MUST_AGREE`, what a converted checkpoint does not depend on, where the optimizer's states are alike."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole checkpoint on disk."""

    path: Path
    step: int
    facts: Mapping[str, Any]
    """What it was made with: :class:`Identity` and the optimizer's implementation."""

    @property
    def universal(self) -> bool:
        """Whether any engine continues it."""
        return self.facts.get("form") == UNIVERSAL

    @property
    def resumable(self) -> bool:
        """Whether it holds more than weights."""
        return self.facts.get("contents") != "weights"

    @property
    def torch_adam(self) -> bool:
        """Whether its optimizer state is torch's own AdamW's, which CPUAdam cannot read."""
        return bool(self.facts.get("torch_adam"))


def precision(config: Mapping[str, Any]) -> str:
    """``bf16``, ``fp16`` or ``no``, from DeepSpeed's JSON."""
    enabled = [name for name in ("bf16", "fp16") if config.get(name, {}).get("enabled")]
    return enabled[0] if enabled else "no"


def identity(
    config: Mapping[str, Any],
    training: TrainingSettings,
    *,
    deepspeed: bool,
    world_size: int,
    pictures: Sequence[Picture],
) -> Identity:
    """Of a run.

    Args:
        config: as deepspeed.json holds it.
        training: its settings.
        deepspeed: whether DeepSpeed trains.
        world_size: how many processes.
        pictures: its data set; none where it is not looked at yet.
    """
    buckets = buckets_of(pictures)
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
        pictures=len(pictures),
        optimizer_on="NVMe" if _swaps_optimizer(config) else IN_MEMORY,
        weight_decay_exclude=training.optimization.weight_decay_exclude,
        parameter_groups=f"up to {size:,} elements" if deepspeed and (size := parameter_groups(config)) else WHOLE,
        prediction_type=training.objective.prediction_type,
        rescale_betas_zero_snr=training.objective.rescale_betas_zero_snr,
        buckets={str(bucket.size): bucket.pictures for bucket in buckets} or None,
        data_order=order_digest(pictures) if pictures else None,
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


def whole(folder: Path, ignored: Callable[[str], None] = lambda _: None) -> list[Checkpoint]:
    """The whole checkpoints in a folder, oldest first, by names and sizes.

    Args:
        folder: ``checkpoints`` of an output folder.
        ignored: told of each that is not whole.
    """
    found = []
    for path, step in numbered(folder):
        if reason := why_not_read(path):
            ignored(f"{path} is not a whole checkpoint ({reason}) and is ignored")
        else:
            found.append(_read(path, step))
    return found


def why_not_read(path: Path) -> str | None:
    """Why a folder is not a whole checkpoint, as far as can be told without reading all of it; None when it is."""
    if reason := why_not_whole(path):
        return reason
    try:
        facts = json.loads((path / FACTS).read_bytes())
        identity_there = {name for name in Identity.__slots__ if name in facts}
    except (OSError, ValueError, TypeError) as error:
        return f"{FACTS} is unreadable: {error}"
    if missing := {"zero_stage", *MUST_AGREE} - {"optimizer_on", "parameter_groups"} - identity_there:
        return f"{FACTS} does not say {min(missing)}"
    return None


def was_whole(path: Path) -> bool:
    """Whether a folder is a checkpoint whose save was finished, and that was damaged since."""
    return (path / MARKER).exists() and why_not_read(path) is not None


def to_resume(output_dir: Path, wanted: str, ignored: Callable[[str], None] = lambda _: None) -> Checkpoint | None:
    """The checkpoint that a run begins with, its content not looked at; None where it begins anew.

    Args:
        output_dir: checkpoints lie in its folder ``checkpoints``.
        wanted: ``training.resume_from_checkpoint``: ``latest``, or the name of one.
        ignored: told of each that is not whole.

    Raises:
        InvalidInputError: the one that is named is not there, not whole or cannot be resumed; or some were whole once
            and none is now.
    """
    if wanted == "latest":
        folder = output_dir / "checkpoints"
        if found := [each for each in whole(folder, ignored) if each.resumable]:
            return found[-1]
        if damaged := [path for path, _ in numbered(folder) if was_whole(path)]:
            raise InvalidInputError(
                f"{not_whole(damaged[-1], str(why_not_read(damaged[-1])))}, and none beside it is; move "
                f"{folder} away to begin anew, or train into another output folder"
            )
        return None
    path = (output_dir / "checkpoints" / wanted).absolute()
    if not path.is_dir():
        names = ", ".join(each.path.name for each in whole(path.parent) if each.resumable) or "none"
        raise InvalidInputError(f"{path} is not there; checkpoints that can be resumed: {names}")
    if reason := why_not_read(path):
        raise InvalidInputError(not_whole(path, reason))
    checkpoint = _read(path, numbered_as(path))
    if not checkpoint.resumable:
        raise InvalidInputError(f"{path} holds weights alone and cannot be resumed")
    return checkpoint


def newest_to_resume(run: RunDirectory) -> Checkpoint | None:
    """What a run would go on from; None where it has nothing, or is a part of another run.

    Raises:
        InvalidInputError: its settings cannot be read, or of its checkpoints none is whole any more.
    """
    return to_resume(run.output_dir(), "latest") if run.trains() == run else None


def numbered_as(path: Path) -> int:
    """The step in a checkpoint's name.

    Raises:
        InvalidInputError: it is not called as checkpoints are.
    """
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise InvalidInputError(f"{path} is no checkpoint; those of a run are folders named checkpoint-N")
    return int(match[1])


def not_whole(path: Path, reason: str) -> str:
    """What to tell of a checkpoint that is damaged, and which older one is whole."""
    older = older_than(path)
    offer = f"; {older[-1].path.name} is an older one that is whole" if older else ""
    return f"{path} is not a whole checkpoint ({reason}){offer}"


def older_than(path: Path) -> list[Checkpoint]:
    """The whole checkpoints beside another that come before it and can be resumed, oldest first."""
    before = itertools.takewhile(lambda pair: pair[0].name != path.name, numbered(path.parent))
    names = {each.name for each, _ in before}
    return [each for each in whole(path.parent) if each.resumable and each.path.name in names]


def checkpoint_at(path: Path, *, content: bool) -> Checkpoint:
    """The whole checkpoint in a folder.

    Args:
        path: the folder.
        content: whether all of it is read and held against its checksums.

    Raises:
        InvalidInputError: it is none, or damaged; an older whole one is named, if there is one.
    """
    path = path.absolute()
    step = numbered_as(path)
    if not path.is_dir():
        raise InvalidInputError(f"{path} is not there")
    if reason := why_not_read(path) or (why_damaged(path) if content else None):
        raise InvalidInputError(not_whole(path, reason))
    return _read(path, step)


def _read(path: Path, step: int) -> Checkpoint:
    return Checkpoint(path, step, json.loads((path / FACTS).read_bytes()))


def why_not_resumed(checkpoint: Checkpoint, mine: Identity) -> str | None:
    """Why a run cannot continue a checkpoint; None where it can."""
    here = mine.facts()
    there = {**EARLIER, **checkpoint.facts}
    both_lora = there["model_type"] == here["model_type"] == "lora"
    differs = {
        key: f"{name} {_named(there.get(key))} there, {_named(here[key])} here"
        for key, name in MUST_AGREE.items()
        if there.get(key) != here[key] and (both_lora or not key.startswith("lora_"))
    }
    same_states = ALIKE.get(mine.optimizer, mine.optimizer) == ALIKE.get(there["optimizer"], there["optimizer"])
    convertible = same_states and mine.optimizer in CONVERTIBLE and differs.keys() <= CARRIED
    if not differs or (checkpoint.universal and convertible):
        return None
    reason = f"{checkpoint.path} cannot be resumed with these settings: {'; '.join(differs.values())}. "
    if convertible:
        return (
            f"{reason}To continue it with them, run: {convert_command(checkpoint.path)} - it makes one beside it that "
            "any ZeRO stage, number of processes and plain PyTorch continue. Or use its own settings, or train into "
            "another output folder"
        )
    return f"{reason}Use its own settings, or train into another output folder"


def convert_command(checkpoint: Path) -> str:
    """What a person types to continue a checkpoint with other settings."""
    return f"simpletuner-tui convert {shlex.quote(str(checkpoint))}"


def numbered(folder: Path) -> list[tuple[Path, int]]:
    """Checkpoint folders, oldest first, whole or not; none where they cannot be listed.

    A converted one comes after the one that it was made of.
    """
    try:
        names = os.listdir(folder)  # noqa: PTH208 - Path.iterdir raises where this does
    except OSError:
        return []
    matches = (_NAME.fullmatch(name) for name in names)
    found = [(folder / match[0], int(match[1])) for match in matches if match]
    return sorted(found, key=lambda pair: (pair[1], pair[0].name))


def _named(value: object) -> str:
    return "none (plain PyTorch)" if value is None else str(value)
