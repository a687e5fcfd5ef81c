"""The run a DeepSpeed configuration belongs to: what the configuration must agree with, or takes from it."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from launcher.config.setting import Setting, Value
from launcher.config.settings import Settings
from launcher.config.training import training_declarations

_TRAINING = {declared.key: declared for _, declared in training_declarations()}
SDXL_PARAMETERS = 2_567_463_684
"""Of SDXL's U-Net."""
SDXL_LARGEST_PARAMETER = 29_491_200
"""Elements of the largest of its 1,680 tensors, a 3 × 3 convolution from 2,560 channels to 1,280."""
SDXL_MODULE_LEVELS = 11
"""Modules within each other, the U-Net itself counted."""


def _of_training(key: str) -> Any:
    return _TRAINING[key].default


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What is known of the run; the defaults are a training of SDXL on one GPU as the questions propose it."""

    world_size: int = 1
    """Processes, one for each GPU."""
    train_batch_size: int = _of_training("train_batch_size")
    """Pictures per GPU and micro-batch."""
    gradient_accumulation_steps: int = 1
    """Micro-batches per optimizer step."""
    gradient_clipping: float = 1.0
    """Largest global gradient norm; 0 turns clipping off."""
    learning_rate: float = _of_training("learning_rate")
    """After warm-up."""
    max_train_steps: int = _of_training("max_train_steps")
    """Optimizer steps of the whole run."""
    lr_warmup_steps: int = _of_training("lr_warmup_steps")
    """Optimizer steps of warm-up."""
    mixed_precision: str = "bf16"
    """``bf16``, ``fp16`` or ``no``."""
    offload_param_path: str = ""
    """Folder for NVMe offload; empty: none was given."""
    device: str = "cuda"
    """``cuda`` or ``cpu``."""
    parameters: int = SDXL_PARAMETERS
    """Of the model."""
    largest_parameter: int = SDXL_LARGEST_PARAMETER
    """Elements of its largest tensor."""
    module_levels: int = SDXL_MODULE_LEVELS
    """Modules within each other, the model itself counted."""
    said: frozenset[str] = frozenset()
    """Which of the above were given; the others are assumed."""

    def given(self, **facts: Any) -> "RunFacts":
        """A copy with these facts in place of what was assumed."""
        return replace(self, **facts, said=self.said | facts.keys())


def facts_of(settings: Settings) -> RunFacts:
    """What settings say of their run."""
    optimization, deepspeed = settings.training.optimization, settings.deepspeed
    return RunFacts().given(
        world_size=settings.launch.num_processes,
        train_batch_size=optimization.train_batch_size,
        gradient_accumulation_steps=deepspeed.gradient_accumulation_steps,
        gradient_clipping=deepspeed.gradient_clipping,
        learning_rate=optimization.learning_rate,
        max_train_steps=optimization.max_train_steps,
        lr_warmup_steps=optimization.lr_warmup_steps,
        mixed_precision=deepspeed.precision,
        offload_param_path=settings.training.runtime.offload_param_path or deepspeed.offload_param_nvme_path,
        device="cpu" if settings.launch.use_cpu else "cuda",
    )


_FACTS: Mapping[str, Setting] = {
    setting.key: setting
    for setting in (
        Setting("world_size", int, 1, "GPUs.", minimum=1, maximum=100_000),
        _TRAINING["train_batch_size"],
        Setting("gradient_accumulation_steps", int, 1, "Micro-batches per optimizer step.", minimum=1),
        Setting("gradient_clipping", float, 1.0, "Largest gradient norm.", minimum=0),
        _TRAINING["learning_rate"],
        _TRAINING["max_train_steps"],
        _TRAINING["lr_warmup_steps"],
        Setting("mixed_precision", str, "bf16", "Number format.", choices=("no", "fp16", "bf16")),
        Setting("offload_param_path", str, "", "Folder for NVMe offload.", path=True),
        Setting("device", str, "cuda", "What trains.", choices=("cuda", "cpu")),
        Setting("parameters", int, SDXL_PARAMETERS, "Of the model.", minimum=1),
        Setting("largest_parameter", int, SDXL_LARGEST_PARAMETER, "Elements of the largest tensor.", minimum=1),
        Setting("module_levels", int, SDXL_MODULE_LEVELS, "Modules within each other.", minimum=1),
    )
}


def parse_run(assignments: Iterable[str]) -> tuple[RunFacts, list[str]]:
    """Facts from ``FIELD=VALUE`` texts, as ``--run`` takes them.

    Returns:
        The facts, with what was assumed where a text is faulty, and a sentence for each that is.
    """
    facts: dict[str, Value] = {}
    faults: list[str] = []
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = name.strip()
        if not equals:
            faults.append(f"--run {assignment}: expected FIELD=VALUE, such as --run world_size=2")
        elif name not in _FACTS:
            close = difflib.get_close_matches(name, _FACTS, 1)
            known = f"; did you mean {close[0]}?" if close else f"; the fields are {', '.join(_FACTS)}"
            faults.append(f"--run {name}: no such field{known}")
        else:
            try:
                facts[name] = _FACTS[name].parse(_value(_FACTS[name].kind, text.strip()))
            except ValueError as error:
                faults.append(f"--run {name}: {error}")
    return RunFacts().given(**facts), faults


def _value(kind: type, text: str) -> object:
    if kind is str:
        return text
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text
