"""The file that ``accelerate config`` writes for the same answers, as an object."""

from typing import Any

from simpletuner_tui.questions.conditions import Answer
from simpletuner_tui.questions.model import Resolved

PREFIX = "accelerate."

UNASKED: dict[str, Any] = {
    "compute_environment": "LOCAL_MACHINE",
    "debug": False,
    "distributed_type": "NO",
    "downcast_bf16": "no",
    "enable_cpu_affinity": False,
    "machine_rank": 0,
    "main_training_function": "main",
    "num_machines": 1,
    "num_processes": 1,
    "rdzv_backend": "static",
    "same_network": True,
    "tpu_env": [],
    "tpu_use_cluster": False,
    "tpu_use_sudo": False,
    "use_cpu": False,
}
"""What accelerate saves for questions it does not ask."""


def accelerate_file(resolved: Resolved) -> dict[str, Any]:
    """accelerate's file from the answers in force."""
    content = {**UNASKED, **assemble(resolved, PREFIX)}
    if resolved.values.get("accelerate.use_deepspeed"):
        # DeepSpeed takes the machine's place, whatever it was.
        content["distributed_type"] = "DEEPSPEED"
    return content


def assemble(resolved: Resolved, prefix: str) -> dict[str, Any]:
    """What the questions of a namespace set, nested as they say."""
    content: dict[str, Any] = {}
    for question in resolved.asked:
        if question.id.startswith(prefix) and question.id in resolved.values and not question.secret:
            for target in question.sets:
                if target.when is None or target.when.holds(resolved.context):
                    _store(content, target.path, target.item, _stored(target.transform, resolved.values[question.id]))
    return content


def _stored(transform: Any, value: Answer) -> Any:
    return value if transform is None else transform(value)


def _store(content: dict[str, Any], path: str, item: int | None, value: Any) -> None:
    *parents, leaf = path.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
    if item is None:
        content[leaf] = value
        return
    items = content.setdefault(leaf, [])
    items.extend([None] * (item + 1 - len(items)))
    items[item] = value
