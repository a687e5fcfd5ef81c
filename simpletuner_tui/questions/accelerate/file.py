"""The file that ``accelerate config`` writes for the same answers, as an object and as bytes."""

import json
from pathlib import Path
from typing import Any

from launcher.errors import InvalidInputError
from simpletuner_tui.questions.accelerate.common import PREFIX
from simpletuner_tui.questions.resolving import Resolved

UNASKED: dict[str, dict[str, Any]] = {
    "LOCAL_MACHINE": {
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
    },
    "AMAZON_SAGEMAKER": {
        # base_job_name has this number however many machines there are: accelerate computes it once, from the default.
        "base_job_name": "accelerate-sagemaker-1",
        "compute_environment": "AMAZON_SAGEMAKER",
        "debug": False,
        "distributed_type": "NO",
        "enable_cpu_affinity": False,
        "gpu_ids": "all",
        "mixed_precision": "no",
        "num_machines": 1,
        "py_version": "py38",
        "pytorch_version": "1.10.2",
        "transformers_version": "4.17.0",
        "use_cpu": False,
    },
}
"""What accelerate saves for questions it does not ask, by compute environment."""


def accelerate_file(resolved: Resolved) -> dict[str, Any]:
    """accelerate's file from the answers in force."""
    environment = str(resolved.values.get(f"{PREFIX}environment", "LOCAL_MACHINE"))
    return {**UNASKED[environment], **assemble(resolved, PREFIX)}


def file_bytes(content: dict[str, Any], name: str) -> bytes:
    """The file as accelerate writes it: JSON where its name ends so, else YAML."""
    if name.endswith(".json"):
        return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()
    import yaml  # noqa: PLC0415 - not before a file is shown or read: it is a twentieth of a start

    return yaml.safe_dump(content).encode()


def read_file(path: Path) -> dict[str, Any]:
    """A file of accelerate's, YAML or JSON, as an object.

    Raises:
        InvalidInputError: it cannot be read, or holds no object.
    """
    try:
        written = path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}") from error
    import yaml  # noqa: PLC0415 - as above

    try:
        content = yaml.safe_load(written)  # JSON as accelerate writes it is YAML too
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"{path} is not a file of accelerate: {error}") from error
    if not isinstance(content, dict):
        raise InvalidInputError(f"{path} is not a file of accelerate: it holds no keys and values")
    return content


def assemble(resolved: Resolved, prefix: str) -> dict[str, Any]:
    """What the questions of a namespace set, nested as they say; a later one replaces what an earlier one set."""
    content: dict[str, Any] = {}
    for question in resolved.asked:
        if question.id.startswith(prefix) and question.id in resolved.values and not question.secret:
            for target in question.sets:
                if target.when is None or target.when.holds(resolved.context):
                    _store(content, target.path, target.item, target.stored(resolved.values[question.id]))
    return content


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
