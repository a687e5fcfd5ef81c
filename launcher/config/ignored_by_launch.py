"""What ``accelerate launch --config_file`` does nothing about, so that nobody takes a file's word for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from launcher.config.accelerate import Dynamo, uses_deepspeed


@dataclass(frozen=True, slots=True)
class _Ignored:
    """A key of the file that ``accelerate launch`` does nothing about, and when it says something at all."""

    key: str
    sentence: str
    said: Callable[[Mapping[str, Any]], bool]


_ALONE = "accelerate launch takes it only from its command line"


def _several_machines(content: Mapping[str, Any]) -> bool:
    return bool(content.get("num_machines", 1) > 1)


def _within(section: str, key: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda content: key in (content.get(section) or {})


def _to_nvme(part: str) -> Callable[[Mapping[str, Any]], bool]:
    def said(content: Mapping[str, Any]) -> bool:
        inline = content.get("deepspeed_config") or {}
        return uses_deepspeed(content) and inline.get(f"{part}_device") == "nvme" and f"{part}_nvme_path" in inline

    return said


_IGNORED = (
    _Ignored(
        "dynamo_config",
        "under DeepSpeed accelerate launch does not tell the training of it; a launch from here compiles the U-Net",
        lambda content: uses_deepspeed(content) and Dynamo.read(content) is not None,
    ),
    _Ignored(
        "enable_cpu_affinity",
        f"{_ALONE} (--enable_cpu_affinity); a launch from here passes it",
        lambda content: bool(content.get("enable_cpu_affinity")),
    ),
    _Ignored(
        "num_processes",
        "without mpirun accelerate launch starts one process on CPUs, however many are asked for; a launch from here "
        "starts them all",
        lambda content: (
            content.get("distributed_type") == "MULTI_CPU"
            and content.get("num_processes", 1) > 1
            and not content.get("mpirun_config")
        ),
    ),
    _Ignored(
        "rdzv_backend",
        f"{_ALONE} (--rdzv_backend); a launch from here passes it",
        lambda content: _several_machines(content) and content.get("rdzv_backend", "static") != "static",
    ),
    _Ignored(
        "same_network",
        f"{_ALONE} (--same_network); a launch from here passes it",
        lambda content: _several_machines(content) and bool(content.get("same_network")),
    ),
    _Ignored(
        "machine_rank",
        "DeepSpeed's own launchers number the machines themselves",
        lambda content: (
            uses_deepspeed(content)
            and content.get("machine_rank", 0) != 0
            and content["deepspeed_config"].get("deepspeed_multinode_launcher", "pdsh") not in ("standard", "nossh")
        ),
    ),
    _Ignored(
        "downcast_bf16",
        f"{_ALONE} (--downcast_bf16)",
        lambda content: content.get("downcast_bf16", "no") not in ("no", False),
    ),
    _Ignored(
        "tpu_use_sudo",
        f"{_ALONE} (--tpu_use_sudo)",
        lambda content: bool(content.get("tpu_use_sudo")),
    ),
    *(
        _Ignored(
            f"deepspeed_config.{part}_nvme_path",
            "accelerate launch drops it, and DeepSpeed would write to a folder named none; a launch from here puts it "
            "into deepspeed.json",
            _to_nvme(part),
        )
        for part in ("offload_optimizer", "offload_param")
    ),
    _Ignored(
        "deepspeed_config.deepspeed_inclusion_filter",
        "beside an exclusion filter accelerate launch passes on the exclusion alone",
        lambda content: all(
            _within("deepspeed_config", f"deepspeed_{kind}_filter")(content) for kind in ("inclusion", "exclusion")
        ),
    ),
    *(
        _Ignored(
            f"fp8_config.{key}",
            f"accelerate launch passes it on under a name that nothing reads; {default} is used",
            _within("fp8_config", key),
        )
        for key, default in (
            ("amax_history_length", "1024"),
            ("amax_compute_algorithm", "most_recent"),
            ("optimization_level", "O2"),
        )
    ),
)
"""Known by running the launch of accelerate 1.15.0 on files with and without each key."""


def ignored_by_accelerate_launch(content: Mapping[str, Any]) -> tuple[str, ...]:
    """What a file says and ``accelerate launch --config_file`` does nothing about: a sentence for each key.

    Args:
        content: the file as an object, as ``accelerate config`` writes it. Files for Amazon SageMaker have none:
            accelerate 1.15.0 launches no such file at all.
    """
    if content.get("compute_environment") == "AMAZON_SAGEMAKER":
        return ()
    return tuple(f"{ignored.key}: {ignored.sentence}" for ignored in _IGNORED if ignored.said(content))
