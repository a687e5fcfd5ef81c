"""Names under which values stand that DeepSpeed reads elsewhere, or only still reads."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from launcher.config.accelerate import PATHS_FROM_DEEPSPEED_CONFIG

_ZERO = "zero_optimization"


@dataclass(frozen=True, slots=True)
class Moved:
    """A value under a name that DeepSpeed does not read, or only still reads."""

    old: str
    new: str
    reason: str
    convert: Callable[[Any], Any] = lambda value: value


_OLD = "DeepSpeed's old name for it"
_SHORT = "DeepSpeed's own name inside its code; files have the other"
_ACCELERATE = "accelerate's name for it; DeepSpeed does not read it"


def _to_cpu(value: Any) -> Any:
    return {True: "cpu", False: "none"}.get(value, value) if isinstance(value, bool) else value


MOVED = (
    *(Moved(key, path, _ACCELERATE) for key, path in PATHS_FROM_DEEPSPEED_CONFIG.items() if key != path),
    Moved("bfloat16", "bf16", _OLD),
    Moved(f"{_ZERO}.cpu_offload", f"{_ZERO}.offload_optimizer.device", _OLD, _to_cpu),
    Moved(f"{_ZERO}.cpu_offload_param", f"{_ZERO}.offload_param.device", _OLD, _to_cpu),
    Moved(
        f"{_ZERO}.stage3_gather_fp16_weights_on_model_save",
        f"{_ZERO}.stage3_gather_16bit_weights_on_model_save",
        _OLD,
    ),
    *(
        Moved(f"{_ZERO}.{key}", f"{_ZERO}.stage3_{key}", _SHORT)
        for key in (
            "prefetch_bucket_size",
            "param_persistence_threshold",
            "model_persistence_threshold",
            "max_live_parameters",
            "max_reuse_distance",
            "gather_16bit_weights_on_model_save",
            "module_granularity_threshold",
            "use_all_reduce_for_fetch_params",
            "allgather_sequential",
        )
    ),
    Moved("optimizer.name", "optimizer.type", "DeepSpeed calls it type"),
    Moved("scheduler.name", "scheduler.type", "DeepSpeed calls it type"),
)
"""Where two of a pair stand and do not agree, both stay: which is meant, a rule asks."""
