"""Folders that cannot be written, and disks without room."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.errors import ExitCode
from launcher.estimate.total import ON_NVME, checkpoint_mib
from launcher.machine.disk import free_bytes, same_filesystem, why_not_writable
from launcher.plan import Plan
from launcher.preflight.finding import MIB, Finding, size
from launcher.runs.swap import swap_folders


def places(plan: Plan) -> dict[str, Path]:
    """Folders that are written, by the question that names them."""
    output = plan.settings.training.checkpoints.output_dir
    return {
        "--run-dir": plan.run_dir,
        "training.output_dir": Path(output) if output else plan.run_dir,
        "training.cache_dir": Path(plan.settings.training.data.cache_dir),
    }


def folders(plan: Plan) -> Iterator[Finding]:
    """Folders that cannot be made or written."""
    told = set()
    for field, path in places(plan).items():
        reason = why_not_writable(path)
        if reason and reason not in told:
            told.add(reason)
            message = f"{path} cannot be written: {reason}; choose another"
            yield Finding(field, message, exit_code=ExitCode.CANNOT_RUN_HERE)


def disks(plan: Plan) -> Iterator[Finding]:
    """Disks without room for what goes there."""
    output = places(plan)["training.output_dir"]
    needed = {part.name: part.mib for part in plan.estimate.disk}
    held = _already_there(output)
    elsewhere: list[_Share] = []
    for share in _shares(plan):
        if not needed.get(share.name):
            continue
        if same_filesystem(output, share.folder):
            held += _mib_below(share.folder)
        else:
            elsewhere.append(replace(share, mib=needed.pop(share.name)))
    for share in elsewhere:
        yield from _other_disk(share, [each for each in elsewhere if same_filesystem(each.folder, share.folder)])
    total, free = sum(needed.values()), free_bytes(output) // MIB
    if total > free + held and not why_not_writable(output):
        parts = ", ".join(f"{name} {size(mib)}" for name, mib in needed.items())
        yield Finding(
            "training.output_dir",
            f"{output} needs {size(total)} ({parts}), and {size(free)} are free on its disk. One checkpoint takes "
            f"{size(checkpoint_mib(plan.settings, plan.model))}: lower training.checkpoints_total_limit, turn off "
            "training.export_pipeline, or choose another disk",
            exit_code=ExitCode.CANNOT_RUN_HERE,
            forceable=True,
        )


@dataclass(frozen=True, slots=True)
class _Share:
    """A share of the disk that may lie elsewhere than the output."""

    name: str
    field: str
    folder: Path
    content: str
    mib: int = 0


def _shares(plan: Plan) -> Iterator[_Share]:
    cache = places(plan)["training.cache_dir"]
    yield _Share("caches", "training.cache_dir", cache, "latents and prompt embeddings")
    folders = swap_folders(plan.settings.deepspeed_json(), plan.run_dir)
    for part, (path, folder) in zip(plan.settings.deepspeed.nvme_parts, folders.items(), strict=True):
        yield _Share(ON_NVME[part], f"deepspeed.{path}", folder, _SWAPPED[part])


_SWAPPED = {
    "offload_optimizer": "masters, gradients and the optimizer's states",
    "offload_param": "parameters",
}


def _other_disk(share: _Share, on_it: list[_Share]) -> Iterator[Finding]:
    """Whether a disk has room for all that goes there; said at the first of them."""
    needed = sum(each.mib for each in on_it)
    free, held = free_bytes(share.folder) // MIB, sum(_mib_below(each.folder) for each in on_it)
    if share is on_it[0] and needed > free + held and not why_not_writable(share.folder):
        yield Finding(
            share.field,
            f"{share.folder} needs {size(needed)} for {' and '.join(each.content for each in on_it)}, and "
            f"{size(free)} are free on its disk; choose another disk",
            exit_code=ExitCode.CANNOT_RUN_HERE,
            forceable=True,
        )


def _already_there(output: Path) -> int:
    """MiB of checkpoints and exports of an earlier launch, which this one replaces."""
    return sum(_mib_below(output / name) for name in ("checkpoints", "pipeline", "lora"))


def _mib_below(folder: Path) -> int:
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # removed meanwhile
                size += Path(place, name).lstat().st_size
    return size // MIB
