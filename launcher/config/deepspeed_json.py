"""DeepSpeed's JSON of the settings, and the settings of such a JSON."""

from collections.abc import Mapping
from typing import Any

from launcher.config.deepspeed import JSON_PATHS, OPTIMIZER_PARAMS, DeepSpeedSettings, deepspeed_declarations
from launcher.config.nested import leaves, merge, nest, put
from launcher.config.setting import Problem, Setting, Value

_STAGE_3_ONLY = (
    "sub_group_size",
    "stage3_prefetch_bucket_size",
    "stage3_max_live_parameters",
    "stage3_max_reuse_distance",
    "stage3_param_persistence_threshold",
    "stage3_gather_16bit_weights_on_model_save",
)
_PRE_STAGE_3 = ("allgather_bucket_size", "contiguous_gradients")


def to_deepspeed_json(
    settings: DeepSpeedSettings,
    *,
    train_batch_size: int,
    learning_rate: float,
    warmup_steps: int,
    total_steps: int,
) -> dict[str, Any]:
    """The whole JSON for ``deepspeed.initialize``.

    Args:
        settings: what was chosen.
        train_batch_size: pictures per GPU and micro-batch.
        learning_rate: after warm-up.
        warmup_steps: optimizer steps, at least 1 (DeepSpeed refuses 0).
        total_steps: optimizer steps of the run, for schedules that decay.
    """
    paths = {
        "train_micro_batch_size_per_gpu": train_batch_size,
        "gradient_accumulation_steps": settings.gradient_accumulation_steps,
        "gradient_clipping": settings.gradient_clipping,
        "steps_per_print": 10**9,
        "zero_optimization.stage": settings.stage,
    }
    paths |= _precision(settings.precision)
    paths |= _zero(settings)
    paths |= _optimizer(settings, learning_rate)
    paths |= _schedule(settings, learning_rate, warmup_steps, total_steps)
    return merge(nest(paths), settings.extra)


def _precision(precision: str) -> dict[str, Any]:
    return {} if precision == "no" else {f"{precision}.enabled": True}


def _zero(settings: DeepSpeedSettings) -> dict[str, Any]:
    if settings.stage == 0:
        return {}
    keys = ["reduce_bucket_size", "overlap_comm", *(_STAGE_3_ONLY if settings.stage == 3 else _PRE_STAGE_3)]
    for part in ("offload_optimizer", "offload_param"):
        device = getattr(settings, f"{part}_device")
        if device != "none":
            keys.append(f"{part}_device")
        if device != "none" and (part == "offload_optimizer" or settings.stage == 3):
            keys.append(f"{part}_pin_memory")
        if device == "nvme":
            keys.append(f"{part}_nvme_path")
    paths = {JSON_PATHS[key]: getattr(settings, key) for key in keys}
    if settings.optimizer_type == "Muon" and settings.stage == 3:
        paths["zero_optimization.reduce_scatter"] = False  # DeepSpeed refuses both together
    if "offload_param" in settings.nvme_parts:
        paths[JSON_PATHS["offload_param_buffer_size"]] = settings.offload_param_buffer_size
        # DeepSpeed stops where it fetches parameters ahead from NVMe: launcher/deepspeed/rules/offload.py.
        paths[JSON_PATHS["stage3_prefetch_bucket_size"]] = 0
    return paths


def _optimizer(settings: DeepSpeedSettings, learning_rate: float) -> dict[str, Any]:
    rate = {"optimizer.params.lr": learning_rate}
    if _of_another_type(settings, "optimizer"):
        return rate
    params = {key: getattr(settings, key) for key in OPTIMIZER_PARAMS[settings.optimizer_type]}
    return {
        "optimizer.type": settings.optimizer_type,
        **rate,
        **{f"optimizer.params.{key}": list(v) if isinstance(v, tuple) else v for key, v in params.items()},
    }


def _schedule(settings: DeepSpeedSettings, learning_rate: float, warmup_steps: int, total_steps: int) -> dict[str, Any]:
    if _of_another_type(settings, "scheduler"):
        return {}
    params: dict[str, Any] = {"warmup_num_steps": warmup_steps}
    if settings.scheduler_type == "WarmupCosineLR":
        params["total_num_steps"] = total_steps
    else:
        # WarmupDecayLR's own warmup_max_lr is 0.001 and overrides the optimizer's rate, so both name it. Muon has two
        # rates, and WarmupLR goes up to each where it names none.
        params |= {"warmup_min_lr": 0.0, "warmup_type": settings.warmup_type}
        if settings.optimizer_type != "Muon":
            params["warmup_max_lr"] = learning_rate
        if settings.scheduler_type == "WarmupDecayLR":
            params["total_num_steps"] = total_steps
    return {
        "scheduler.type": settings.scheduler_type,
        **{f"scheduler.params.{key}": value for key, value in params.items()},
    }


def _of_another_type(settings: DeepSpeedSettings, section: str) -> bool:
    """Whether ``extra`` names an optimizer or a schedule that no setting offers: its parameters are its own then."""
    named = settings.extra.get(section)
    known = getattr(settings, f"{section}_type")
    return isinstance(named, Mapping) and named.get("type", known) != known


def read_deepspeed(
    values: Mapping[str, object], extra: Mapping[str, Any] | None = None
) -> tuple[DeepSpeedSettings, list[Problem]]:
    """Settings from values by JSON path; faults are listed, not raised.

    Args:
        values: by JSON path.
        extra: nested as in DeepSpeed's JSON; what it says of a setting holds.
    """
    extra = dict(extra or {})
    values = {**values, **split(extra)[0]}
    parsed: dict[str, Value] = {}
    problems: list[Problem] = []
    declared_by_path = deepspeed_declarations()
    for path, declared in declared_by_path.items():
        try:
            parsed[declared.key] = declared.parse(values.get(path, declared.default))
        except ValueError as error:
            problems.append(Problem(f"deepspeed.{path}", str(error)))
            parsed[declared.key] = declared.default
    problems += [
        Problem(f"deepspeed.{path}", "is not a setting", rule="unknown")
        for path in values
        if path not in declared_by_path
    ]
    return DeepSpeedSettings(**parsed, extra=extra), problems  # type: ignore[arg-type]


def split(content: Mapping[str, Any]) -> tuple[dict[str, object], dict[str, Any]]:
    """DeepSpeed's JSON as values of settings by path, and what no setting can hold, nested as it stood."""
    known = deepspeed_declarations()
    values: dict[str, object] = {}
    rest: dict[str, Any] = {}
    for keys, value in leaves(content):
        # A key that holds a dot itself is none of ours, whatever it looks like.
        path = "" if any("." in str(key) for key in keys) else ".".join(map(str, keys))  # YAML has keys of any kind
        if path in ("bf16.enabled", "fp16.enabled") and isinstance(value, bool):
            if value:
                values["precision"] = keys[0]
        elif path in known and path != "precision" and _takes(known[path], value):
            values[path] = value
        else:
            put(rest, keys, value)
    return values, rest


def _takes(declared: Setting, value: object) -> bool:
    try:
        declared.parse(value)
    except ValueError:
        return False
    return True
