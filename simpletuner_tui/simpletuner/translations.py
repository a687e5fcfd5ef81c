"""Options of SimpleTuner that are called or said otherwise here: a function for each, by name.

What is called as a setting of ``launcher.config.training`` needs none: it is kept.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from launcher.deepspeed.fields import shown
from simpletuner_tui.simpletuner.said import Options, Said, Translation, alias, already, never
from simpletuner_tui.simpletuner.values import is_off, number, switch, whole, word

PIXELS_OF_A_MEGAPIXEL = 1024**2
"""As SimpleTuner counts: an area of 1.0 is 1024 × 1024."""
ALIGNED = 64
"""Pixels that the sides of SDXL's pictures are a multiple of."""


def _precision(value: Any, _: Options) -> Said:
    chosen = word(value) if value is not None else "no"
    if chosen not in ("no", "fp16", "bf16"):
        raise ValueError(f"{shown(value)} is not trained in; bf16, fp16 and no are")
    return Said({"accelerate.mixed_precision": chosen}, "is accelerate's own answer")


def _accumulation(value: Any, options: Options) -> Said:
    target = "accelerate.gas" if options.deepspeed is not None else "deepspeed.gradient_accumulation_steps"
    return Said({target: whole(value)}, f"is {target}")


def _clipping(value: Any, options: Options) -> Said:
    norm = number(value)
    if options.deepspeed is None:
        return Said({"deepspeed.gradient_clipping": norm}, "is the largest global norm; 0 does not clip")
    if norm == 0:
        return Said({"accelerate.use_clip": False}, "0 does not clip")
    return Said({"accelerate.use_clip": True, "accelerate.clip": norm}, "is accelerate's gradient clipping")


def _processes(value: Any, _: Options) -> Said:
    count = whole(value)
    if count == 1:
        return Said({}, "one process is the default")
    return Said({"accelerate.machine": "MULTI_GPU", "accelerate.num_processes": count}, "several processes: multi-GPU")


def _machines(value: Any, _: Options) -> Said:
    count = whole(value)
    if count == 1:
        return Said({}, "one machine is the default")
    return Said({"accelerate.machine": "MULTI_GPU", "accelerate.num_machines": count}, "several machines: multi-GPU")


def _warm_up(value: Any, _: Options) -> Said:
    steps = whole(value)
    if steps == 0:
        return Said({"training.lr_warmup_steps": 1}, "0 steps are refused by DeepSpeed: 1 is the shortest warm-up")
    return Said({"training.lr_warmup_steps": steps}, "")


SCHEDULES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "constant": ("WarmupLR", "constant after a warm-up of lr_warmup_steps"),
        "constant_with_warmup": ("WarmupLR", "constant after the warm-up"),
        "linear": ("WarmupDecayLR", "falls to 0 in a straight line"),
        "cosine": ("WarmupCosineLR", "falls along a cosine"),
    }
)
"""DeepSpeed's schedule for each of SimpleTuner's that it has, and what it does."""


def _schedule(value: Any, options: Options) -> Said:
    if "scheduler" in (options.deepspeed or {}):
        raise ValueError("the DeepSpeed configuration names a schedule, and that one holds")
    if (found := SCHEDULES.get(word(value))) is None:
        raise ValueError(f"DeepSpeed has no schedule like {shown(value)}; it has {', '.join(SCHEDULES)}")
    name, what = found
    answers: dict[str, object] = {"deepspeed.scheduler.type": name}
    if name != "WarmupCosineLR":
        answers["deepspeed.scheduler.params.warmup_type"] = "linear"
    return Said(answers, f"{name}: {what}")


_ADAM = "AdamW; its states are fp32, whatever SimpleTuner's own keeps them in"
OPTIMIZERS = (
    ("adamw", "AdamW", _ADAM),
    ("lion", "Lion", "Lion"),
    ("adagrad", "Adagrad", "Adagrad"),
    ("muon", "Muon", ""),
)
"""What a name contains, the optimizer for it, and what to say."""


def _optimizer(value: Any, options: Options) -> Said:
    if "optimizer" in (options.deepspeed or {}):
        raise ValueError("the DeepSpeed configuration names an optimizer, and that one holds")
    name = word(value)
    for part, optimizer, how in OPTIMIZERS:
        if part in name and "schedule" not in name:
            return Said({"deepspeed.optimizer.type": optimizer}, how or "Muon for matrices, Adam for the rest")
    raise ValueError(f"there is no {shown(value)} here; AdamW stays")


def _beta(index: int) -> Translation:
    other = 1 - index

    def translate(value: Any, options: Options) -> Said:
        names = ("optimizer_beta", "adam_beta")
        betas = [0.9, 0.999]
        for name in names:
            if not is_off(beside := options.values.get(f"{name}{other + 1}")):
                betas[other] = number(beside)
        betas[index] = number(value)
        return Said({"deepspeed.optimizer.params.betas": betas}, "with the other one: betas")

    return translate


def _of_optimizer(key: str) -> Translation:
    def translate(value: Any, _: Options) -> Said:
        return Said({f"deepspeed.optimizer.params.{key}": number(value)}, f"is the optimizer's {key}")

    return translate


def side_of(value: Any, kind: Any) -> int:
    """The side in pixels of the square that a resolution means.

    Args:
        value: pixels, or for ``area`` megapixels.
        kind: SimpleTuner's ``resolution_type``.

    Raises:
        ValueError: it means none.
    """
    size = number(value)
    if is_off(kind) or word(kind) in ("pixel", "pixel_area"):
        return whole(value)
    if word(kind) != "area":
        raise ValueError(f"{shown(kind)} is no resolution_type")
    if not 0 < size < 1000:
        raise ValueError(f"{shown(value)} is no area in megapixels")
    return max(ALIGNED, round(math.sqrt(size * PIXELS_OF_A_MEGAPIXEL) / ALIGNED) * ALIGNED)


def _resolution(value: Any, options: Options) -> Said:
    kind = options.values.get("resolution_type")
    side = side_of(value, kind)
    how = f"{shown(value)} megapixels are {side} x {side}" if kind == "area" else ""
    return Said({"training.resolution": side}, how)


def _resolution_type(value: Any, options: Options) -> Said:
    side_of(1, value)  # refuses what is none
    if "resolution_type" not in options.settings:
        if word(value) == "pixel":
            return Said({}, "resolution is a side in pixels")
        return Said({}, "resolution becomes the side of a square of that area")
    kind = word(value)
    return Said({"training.resolution_type": "pixel_area" if kind == "area" else kind}, "resolution stands in pixels")


def _steps(value: Any, options: Options) -> Said:
    if whole(value) == 0:
        return Said({}, "0 leaves it to num_train_epochs")
    return Said({"training.max_train_steps": whole(value)}, "")


def _epochs(value: Any, options: Options) -> Said:
    epochs = number(value)
    if epochs == 0:
        return Said({}, "0 leaves it to max_train_steps")
    if not is_off(steps := options.values.get("max_train_steps")) and number(steps) > 0:
        raise ValueError("max_train_steps says how long it trains")
    if not options.pictures:
        raise ValueError(
            "how many steps that is depends on how many pictures there are, which is not known; set "
            "training.max_train_steps"
        )
    steps = max(1, math.ceil(options.pictures * epochs / options.global_batch))
    how = f"{shown(value)} epochs of {options.pictures} pictures, {options.global_batch} a step"
    return Said({"training.max_train_steps": steps}, how)


def _resume(value: Any, _: Options) -> Said:
    if is_off(value):
        return Said({"training.resume_from_checkpoint": "no"}, "blank begins anew")
    if word(value) == "latest":
        return Said({"training.resume_from_checkpoint": "latest"}, "")
    raise ValueError("checkpoints of SimpleTuner are not continued, and of a run's own the newest whole one is taken")


def _dynamo(value: Any, _: Options) -> Said:
    if is_off(value) or word(value) == "no":
        return Said({"accelerate.use_dynamo": False}, "nothing is compiled")
    return Said({"accelerate.use_dynamo": True, "accelerate.dynamo_backend": word(value).upper()}, "accelerate's own")


def _validation_resolution(value: Any, options: Options) -> Said:
    if "validation_resolution" not in options.settings:
        raise ValueError("there is no such setting here")
    sides = {whole(side) for side in str(value).lower().split("x")}
    if len(sides) != 1:
        raise ValueError(f"{shown(value)} is no square, nor one side of it")
    return Said({"training.validation_resolution": sides.pop()}, "the side of a square" if "x" in str(value) else "")


def _of_dynamo(name: str) -> Translation:
    def translate(value: Any, options: Options) -> Said:
        chosen = word(value) if name == "dynamo_mode" else switch(value)
        return Said({"accelerate.dynamo_custom": True, f"accelerate.{name}": chosen}, "accelerate's own")

    return translate


def _trackers(value: Any, _: Options) -> Said:
    known = ("tensorboard", "wandb")
    if is_off(value):
        return Said({"training.report_to": "none"}, "the run's own events are always there")
    wanted = known if word(value) == "all" else tuple(part.strip() for part in word(value).split(","))
    found = [name for name in known if name in wanted]
    if others := [name for name in wanted if name not in known]:
        raise ValueError(f"{', '.join(others)} is not followed with; tensorboard and wandb are")
    return Said({"training.report_to": ",".join(found)}, "" if value in known else "those that there are")


def _offset_noise(value: Any, options: Options) -> Said:
    if not switch(value):
        return Said({}, "the noise is not offset")
    defaults = {"noise_offset": 0.1, "noise_offset_probability": 0.25}  # SimpleTuner's own
    left_out = {f"training.{name}": each for name, each in defaults.items() if options.values.get(name) is None}
    return Said(left_out, "the noise is offset")


def _of_offset_noise(name: str) -> Translation:
    def translate(value: Any, options: Options) -> Said:
        if not switch(options.values.get("offset_noise") or False):
            return Said({}, "offset_noise is off")
        return Said({f"training.{name}": number(value)}, "")

    return translate


def _attention(value: Any, _: Options) -> Said:
    if word(value) in ("sdpa", "flash"):
        return Said({"training.attention_mechanism": word(value)}, "")
    if word(value) == "diffusers":
        return Said({"training.attention_mechanism": "sdpa"}, "PyTorch's own attention")
    raise ValueError("PyTorch's own attention is what is used here; it has flash attention (flash) where a GPU does")


_UPLOADS = "nothing is uploaded from here"
_ENCODERS = "only the U-Net is trained"
_CONFIGURES = "SimpleTuner's own interface, no part of a training"

TRANSLATIONS: Mapping[str, Translation] = MappingProxyType(
    {
        "model_family": already(("sdxl",), "SDXL is what is trained", "SDXL is all that is trained here"),
        "mixed_precision": _precision,
        "gradient_accumulation_steps": _accumulation,
        "max_grad_norm": _clipping,
        "grad_clip_method": already(
            ("norm",), "clipping is by the global norm", "clipping is by the global norm only, not by value"
        ),
        "num_processes": _processes,
        "training_num_processes": _processes,
        "num_machines": _machines,
        "training_num_machines": _machines,
        "lr_warmup_steps": _warm_up,
        "lr_scheduler": _schedule,
        "lr_end": never("DeepSpeed's schedules have an end of their own"),
        "optimizer": _optimizer,
        "optimizer_beta1": _beta(0),
        "optimizer_beta2": _beta(1),
        "adam_beta1": _beta(0),
        "adam_beta2": _beta(1),
        "adam_epsilon": _of_optimizer("eps"),
        "adam_weight_decay": _of_optimizer("weight_decay"),
        "optimizer_weight_decay": _of_optimizer("weight_decay"),
        "resolution": _resolution,
        "resolution_type": _resolution_type,
        "max_train_steps": _steps,
        "num_train_epochs": _epochs,
        "resume_from_checkpoint": _resume,
        "report_to": _trackers,
        "checkpoint_step_interval": alias("checkpointing_steps"),
        "validation_resolution": _validation_resolution,
        "validation_step_interval": alias("validation_steps"),
        "offset_noise": _offset_noise,
        "noise_offset": _of_offset_noise("noise_offset"),
        "noise_offset_probability": _of_offset_noise("noise_offset_probability"),
        "torch_num_threads": alias("cpu_threads"),
        "dynamo_backend": _dynamo,
        "dynamo_mode": _of_dynamo("dynamo_mode"),
        "dynamo_fullgraph": _of_dynamo("dynamo_use_fullgraph"),
        "dynamo_use_fullgraph": _of_dynamo("dynamo_use_fullgraph"),
        "dynamo_dynamic": _of_dynamo("dynamo_use_dynamic"),
        "dynamo_use_dynamic": _of_dynamo("dynamo_use_dynamic"),
        "dynamo_use_regional_compilation": _of_dynamo("dynamo_use_regional_compilation"),
        "lora_type": already(("standard",), "peft's LoRA", "peft's LoRA is trained, no LyCORIS"),
        "base_model_precision": already(
            ("no_change", "no", "none"), "the base is not quantised", "a quantised model cannot be trained whole"
        ),
        **dict.fromkeys(
            (f"text_encoder_{index}_precision" for index in range(1, 5)),
            already(("no_change", "no", "none"), "text encoders are not quantised", "text encoders are not quantised"),
        ),
        "attention_mechanism": _attention,
        # Hugging Face's download cache there, latents and prompt embeddings here.
        "cache_dir": never("is where downloads of the hub are kept: set HF_HOME"),
        "text_encoder_lr": never(_ENCODERS),
        "train_text_encoder": already((False,), _ENCODERS, _ENCODERS),
        **dict.fromkeys(("push_to_hub", "push_checkpoints_to_hub"), already((False, "false"), _UPLOADS, _UPLOADS)),
        **dict.fromkeys(("hub_model_id", "publishing_config"), never(_UPLOADS)),
        "webhook_config": never("is in another form there: answer training.notify_webhook"),
        **dict.fromkeys(("configurator", "i_know_what_i_am_doing"), never(_CONFIGURES)),
    }
)
"""By name; they hold over a setting of the same name, but for those in :data:`OWN_ONCE_THERE`."""

OWN_ONCE_THERE = frozenset({"train_text_encoder"})
"""Said in other words only as long as there is no setting of that name."""
