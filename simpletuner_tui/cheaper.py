"""What takes less of a GPU than a run that ran out of it: the next preset, and the command that finds a setting."""

from collections.abc import Mapping
from typing import Any

from launcher.errors import LauncherError
from launcher.runs.directory import RunDirectory
from simpletuner_tui.presets import Preset, presets


def cheaper(run: RunDirectory, event: Mapping[str, Any]) -> tuple[str, ...]:
    """What to begin anew with, the next cheaper preset first.

    Args:
        run: that ran out of GPU memory.
        event: its ``out_of_memory``.
    """
    held = event["measured"]["process"] or event["measured"]["reserved"]
    try:
        training = run.training()
    except LauncherError:
        return ()
    if training.adapter.is_lora or not held:  # presets are of the whole U-Net
        return ()
    resolution = training.data.resolution
    finds = f"`simpletuner-tui plan --vram {held}MiB --resolution {resolution}` finds the fastest setting for this card"
    preset = next_cheaper(held, resolution)
    if preset is None:
        return (finds,)
    takes = f"`simpletuner-tui --preset {preset.name}` begins with the next cheaper preset: {preset.figures}"
    return (takes, finds)


def next_cheaper(held_mib: int, resolution: int) -> Preset | None:
    """Of the presets for one GPU and host memory, the largest that needs less; None where none does.

    Args:
        held_mib: what the GPU gave to the process, and was not enough.
        resolution: that it trains at.
    """
    fitting = [
        preset
        for preset in presets()
        if preset.gpus == 1
        and preset.answers["training.resolution"] == resolution
        and "nvme" not in preset.answers.values()
        and preset.figures.least_mib < held_mib
    ]
    return max(fitting, key=lambda preset: preset.figures.least_mib, default=None)
