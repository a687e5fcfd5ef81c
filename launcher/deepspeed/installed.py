"""What the installed DeepSpeed has, read from its sources without importing it: that takes seconds, and torch."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

OPTIONAL = ("comet_ml", "mup", "tensorboard", "wandb")
"""Packages that DeepSpeed imports only when a configuration asks for them."""


@dataclass(frozen=True, slots=True)
class Installed:
    """One version of DeepSpeed, by what a configuration can name."""

    version: str | None
    """None: DeepSpeed is not installed."""
    optimizers: tuple[str, ...]
    """``DEEPSPEED_OPTIMIZERS``: the names it has an optimizer for, in lower case."""
    zero_supported: tuple[str, ...]
    """``ZERO_SUPPORTED_OPTIMIZERS``: classes that ZeRO takes without ``zero_allow_untested_optimizer``."""
    schedulers: tuple[str, ...]
    """``VALID_LR_SCHEDULES``: its own schedules."""
    removed: tuple[str, ...]
    """Paths of keys it refuses because what they configured is gone."""
    packages: frozenset[str] = frozenset(OPTIONAL)
    """Which of :data:`OPTIONAL` are there."""


TESTED = Installed(
    version="0.19.8",
    optimizers=("adagrad", "adam", "adamw", "lamb", "muadam", "muadamw", "musgd", "lion", "muon"),
    zero_supported=(
        "Adam",
        "AdamW",
        "FusedAdam",
        "DeepSpeedCPUAdam",
        "ZenFlowCPUAdam",
        "Adagrad",
        "DeepSpeedCPUAdagrad",
        "DeepSpeedCPULion",
        "FusedLion",
    ),
    schedulers=("LRRangeTest", "OneCycle", "WarmupLR", "WarmupDecayLR", "WarmupCosineLR"),
    removed=(
        "nebula",
        "compression_training",
        "amp",
        "quantize_training",
        "sparse_gradients",
        "eigenvalue",
        "sparse_attention",
        "elasticity",
        "graph_harvesting",
        "curriculum_learning",
        "progressive_layer_drop",
        "zero_optimization.mics_shard_size",
        "zero_optimization.mics_hierarchical_params_gather",
        "zero_optimization.zeropp_loco_param",
    ),
)
"""The version every rule here was proven with."""


def installed_version() -> str | None:
    """The installed DeepSpeed's version; None where there is none."""
    try:
        return version("deepspeed")
    except PackageNotFoundError:
        return None


UNTESTED = "untested-version"
"""Id of the rule that warns of another version."""


def untested(number: str | None) -> str | None:
    """What to say of a version that the rules were not proven with; None for the one they were."""
    if number == TESTED.version:
        return None
    what = "DeepSpeed is not installed" if number is None else f"DeepSpeed {number} is not tested"
    return f"{what}: judged by what {TESTED.version} does"


@cache
def read_installed() -> Installed:
    """The DeepSpeed that a run from this environment would use.

    Where there is none, or its sources do not read as 0.19.8's do, the lists are those of :data:`TESTED`; the version
    says so.
    """
    number = installed_version()
    spec = find_spec("deepspeed")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    if number is None or not folders:
        return replace(TESTED, version=None)
    packages = frozenset(name for name in OPTIONAL if find_spec(name))
    return replace(read_sources(number, Path(folders[0])), packages=packages)


def read_sources(number: str, folder: Path) -> Installed:
    """What the package in ``folder`` has; what cannot be read there is as in :data:`TESTED`."""
    config = _constants(folder / "runtime/config.py")
    zero = _constants(folder / "runtime/zero/utils.py")
    schedules = _constants(folder / "runtime/lr_schedules.py")
    removed = [
        *_names(config.get("_REMOVED_TOP_LEVEL_CONFIG_KEYS"), config),
        *(f"zero_optimization.{key}" for key in _names(config.get("_REMOVED_ZERO_CONFIG_KEYS"), config)),
    ]
    return Installed(
        version=number,
        optimizers=tuple(_names(config.get("DEEPSPEED_OPTIMIZERS"), config)) or TESTED.optimizers,
        zero_supported=tuple(_names(zero.get("ZERO_SUPPORTED_OPTIMIZERS"), zero)) or TESTED.zero_supported,
        schedulers=tuple(_names(schedules.get("VALID_LR_SCHEDULES"), schedules)) or TESTED.schedulers,
        removed=tuple(removed) or TESTED.removed,
    )


def _constants(path: Path) -> Mapping[str, ast.expr]:
    """The module's own assignments by name."""
    try:
        module = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return {}
    return {
        target.id: statement.value
        for statement in module.body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }


def _names(listed: ast.expr | None, constants: Mapping[str, ast.expr]) -> Iterator[str]:
    """The names a list or the keys of a dictionary hold: texts, constants that are texts, or classes."""
    items = listed.elts if isinstance(listed, ast.List) else listed.keys if isinstance(listed, ast.Dict) else []
    for item in items:
        meant = constants.get(item.id, item) if isinstance(item, ast.Name) else item
        if isinstance(meant, ast.Constant) and isinstance(meant.value, str):
            yield meant.value
        elif isinstance(meant, ast.Name):
            yield meant.id
        elif isinstance(meant, ast.Attribute):
            yield meant.attr
