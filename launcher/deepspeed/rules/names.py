"""What depends on the DeepSpeed that is installed: its version, the names it has, the packages beside it."""

from collections.abc import Iterator

from launcher.config.setting import Level, Problem
from launcher.deepspeed.fields import shown
from launcher.deepspeed.installed import UNTESTED, Installed, untested
from launcher.deepspeed.names import settled_name
from launcher.deepspeed.view import View

_MEANT = {
    "constant": "WarmupLR stays at its rate after warm-up",
    "polynomial": "WarmupDecayLR falls in a line",
    "linear": "WarmupDecayLR falls in a line",
    "cosine": "WarmupCosineLR falls along a cosine",
}
"""The schedule of DeepSpeed's that comes close to another's."""

_PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "comet": "comet_ml"}


def name_problems(view: View, installed: Installed) -> Iterator[Problem]:
    """Names that DeepSpeed does not have, packages it would miss, and a version nobody tried."""
    if message := untested(installed.version):
        yield Problem("deepspeed", message, Level.WARNING, UNTESTED)
    optimizer = view.raw("optimizer.type")
    if isinstance(optimizer, str) and view.optimizer and view.optimizer not in installed.optimizers:
        yield Problem("optimizer.type", settled_name(optimizer, installed)[1], rule="optimizer-unknown")
    elif view.has("optimizer.type") and not isinstance(optimizer, str):
        yield Problem("optimizer.type", f"must be a name, not {shown(optimizer)}", rule="type")
    if view.has("scheduler.type") and view.raw("scheduler.type") not in installed.schedulers:
        yield _schedule(view.raw("scheduler.type"), installed)
    for section, package in _PACKAGES.items():
        if view.get(f"{section}.enabled") and package not in installed.packages:
            message = f"needs the package {package}, which is not installed: pip install {package}"
            yield Problem(f"{section}.enabled", message, rule="package-missing")


def _schedule(name: object, installed: Installed) -> Problem:
    close = next((text for word, text in _MEANT.items() if word in str(name).lower()), None)
    hint = close or f"its own are {', '.join(installed.schedulers)}"
    message = f"DeepSpeed has no schedule {shown(name)}, and torch's cannot be used under ZeRO; {hint}"
    return Problem("scheduler.type", message, rule="schedule-unknown")
