"""A configuration in terms of the settings: what they and the run say of it, and what it alone says."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from launcher.config.deepspeed import OPTIMIZER_PARAMS, deepspeed_declarations
from launcher.config.deepspeed_json import read_deepspeed, split, to_deepspeed_json
from launcher.config.nested import leaves, put
from launcher.deepspeed.fields import FIELDS, Field
from launcher.deepspeed.run_facts import RunFacts
from launcher.deepspeed.view import ABSENT, View

OF_TRAINING: Mapping[str, str] = MappingProxyType(
    {
        "train_micro_batch_size_per_gpu": "train_batch_size",
        "optimizer.params.lr": "learning_rate",
        "scheduler.params.warmup_num_steps": "lr_warmup_steps",
    }
)
"""What is a setting of the training itself, by JSON path: its key."""


@dataclass(frozen=True, slots=True)
class Parts:
    """One configuration, shared out."""

    deepspeed: dict[str, object]
    """Values of all settings by JSON path; DeepSpeed's default where the configuration is silent."""
    training: dict[str, object]
    """Values of the training by key; only where they are not the run's."""
    extra: dict[str, Any]
    """What else it says, nested as it stood."""


def parts_of(config: Mapping[str, Any], run: RunFacts) -> Parts:
    """Shares out a configuration so that the settings write one that means the same.

    Args:
        config: DeepSpeed's JSON, normalised for ``run`` and without errors.
        run: the run it belongs to.
    """
    view = View(config)
    values = {path: _default(path, view) for path in deepspeed_declarations()} | split(config)[0]
    training: dict[str, object] = {
        key: view.raw(path) for path, key in OF_TRAINING.items() if view.raw(path) not in (ABSENT, getattr(run, key))
    }
    return Parts(values, training, beyond(config, values, run.given(**training)))


def beyond(config: Mapping[str, Any], values: Mapping[str, object], run: RunFacts) -> dict[str, Any]:
    """What a configuration says that the settings do not.

    Args:
        config: DeepSpeed's JSON, normalised.
        values: of settings by JSON path.
        run: whose batch, learning rate and steps the settings would write.
    """
    base = to_deepspeed_json(
        read_deepspeed(values)[0],
        train_batch_size=run.train_batch_size,
        learning_rate=run.learning_rate,
        warmup_steps=run.lr_warmup_steps,
        total_steps=run.max_train_steps,
    )
    written = View(base)
    extra: dict[str, Any] = {}
    for keys, value in leaves(config):
        path = "" if any("." in key for key in keys) else ".".join(keys)
        said = written.raw(path) if path else ABSENT
        if said != value and not (said is ABSENT and (_is_off(path, value) or _is_idle(path, value, values))):
            put(extra, keys, value)
    _undo(extra, config, base)
    return extra


def _is_off(path: str, value: object) -> bool:
    """Whether it only says that a number format is not used, which a configuration without it says too."""
    return path in ("bf16.enabled", "fp16.enabled") and value is False


def _is_idle(path: str, value: object, values: Mapping[str, object]) -> bool:
    """Whether a setting says the same, and is not written because it has no effect with the others."""
    held = values.get(path, ABSENT)
    return (list(held) if isinstance(held, tuple) else held) == value


def _undo(extra: dict[str, Any], config: Mapping[str, Any], base: Mapping[str, Any]) -> None:
    """Names DeepSpeed's default where the settings would write something else and the configuration is silent."""
    view, of_extra = View(config), View(extra)
    for keys, value in leaves(base):
        path = ".".join(keys)
        # An optimizer or a schedule of another type takes nothing of what the settings write there.
        if view.has(path) or of_extra.has(f"{keys[0]}.type") or path == "steps_per_print":
            continue
        default = _default(path, view)
        if default is not None and path in FIELDS and default != (tuple(value) if isinstance(value, list) else value):
            put(extra, keys, default)


def _default(path: str, view: View) -> Any:
    """What DeepSpeed does where nothing stands; None where that is no value a setting could have."""
    if path == "precision":
        return "no"
    if path == "zero_optimization.overlap_comm" and view.stage > 0:
        return view.stage == 3  # deepspeed/runtime/zero/config.py, overlap_comm_valid
    if path == "optimizer.params.weight_decay" and view.get("optimizer.params.torch_adam"):
        return 0.01  # torch.optim.AdamW's own
    declared, field = deepspeed_declarations().get(path), FIELDS.get(path)
    default = None if field is None or _has_no_effect(field, view) else field.default
    return declared.default if default is None and declared is not None else default


def _has_no_effect(field: Field, view: View) -> bool:
    """Whether a setting that is silent is silent for good; what would be proposed in its place does no harm then."""
    if field.path.startswith("optimizer.params."):
        known = OPTIMIZER_PARAMS.get(str(view.get("optimizer.type")))
        return known is not None and field.path.rpartition(".")[2] not in known
    if field.path == "zero_optimization.offload_param.buffer_size":
        return view.device("offload_param") != "nvme"
    if field.path == "zero_optimization.offload_param.pin_memory" and view.device("offload_param") == "none":
        return True
    return field.stages is not None and view.stage not in field.stages and not field.path.endswith(".device")
