"""Folders that cannot be written, and disks without room."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.config.setting import Level
from launcher.data.sources import read_sources
from launcher.data.unpacked import ROWS, Unpacked, there
from launcher.errors import ExitCode, InvalidInputError
from launcher.estimate.total import IN_ROWS, ON_NVME, checkpoint_mib
from launcher.machine.disk import bytes_below, free_bytes, same_filesystem, why_not_writable
from launcher.plan import Plan
from launcher.preflight.finding import MIB, About, Finding, size
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
            yield Finding(field, message, exit_code=ExitCode.CANNOT_RUN_HERE, about=About.DISK)


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
            held += share.held
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
            f"{size(checkpoint_mib(plan.settings, plan.model))}: lower training.checkpoints_total_limit, set "
            "training.checkpoint_contents to weights, turn off training.export_pipeline, or choose another disk",
            exit_code=ExitCode.CANNOT_RUN_HERE,
            forceable=True,
            about=About.DISK,
        )


def of_others(plan: Plan) -> Iterator[Finding]:
    """What the cache holds of rows that this run does not train on, and another run of the cache may."""
    _, others = _unpacked(plan)
    for source in dict.fromkeys(each.source for each in others):
        held = [each for each in others if each.source == source]
        total = size(sum(each.bytes for each in held) // MIB)
        told = (
            f"{', '.join(str(each.path) for each in held)} holds {total} of pictures unpacked from {source}, which "
            "this run does not train on; remove it if no other run of this cache folder needs it"
        )
        yield Finding("training.cache_dir", told, Level.NOTE)


def _unpacked(plan: Plan) -> tuple[list[Unpacked], list[Unpacked]]:
    """What the cache holds of pictures from this run's rows, and from others."""
    try:
        sources = read_sources(plan.settings.training)
    except InvalidInputError:  # told where pictures are looked for, and whose rows are whose is not known
        return [], []
    return there(places(plan)["training.cache_dir"], sources)


@dataclass(frozen=True, slots=True)
class _Share:
    """A share of the disk that may lie elsewhere than the output."""

    name: str
    field: str
    folder: Path
    content: str
    held: int
    """MiB of it that are there already."""
    mib: int = 0


def _shares(plan: Plan) -> Iterator[_Share]:
    cache = places(plan)["training.cache_dir"]
    rows = cache / ROWS
    held = _mib_below(cache) - _mib_below(rows)
    yield _Share("caches", "training.cache_dir", cache, "latents and prompt embeddings", held)
    unpacked = sum(each.bytes for each in _unpacked(plan)[0]) // MIB
    yield _Share(IN_ROWS, "training.cache_dir", rows, "pictures that lie in rows", unpacked)
    folders = swap_folders(plan.settings.deepspeed_json(), plan.run_dir)
    for part, (path, folder) in zip(plan.settings.deepspeed.nvme_parts, folders.items(), strict=True):
        yield _Share(ON_NVME[part], f"deepspeed.{path}", folder, _SWAPPED[part], _mib_below(folder))


_SWAPPED = {
    "offload_optimizer": "masters, gradients and the optimizer's states",
    "offload_param": "parameters",
}


def _other_disk(share: _Share, on_it: list[_Share]) -> Iterator[Finding]:
    """Whether a disk has room for all that goes there; said at the first of them."""
    needed = sum(each.mib for each in on_it)
    free, held = free_bytes(share.folder) // MIB, sum(each.held for each in on_it)
    if share is on_it[0] and needed > free + held and not why_not_writable(share.folder):
        yield Finding(
            share.field,
            f"{share.folder} needs {size(needed)} for {' and '.join(each.content for each in on_it)}, and "
            f"{size(free)} are free on its disk; choose another disk",
            exit_code=ExitCode.CANNOT_RUN_HERE,
            forceable=True,
            about=About.DISK,
        )


def _already_there(output: Path) -> int:
    """MiB of checkpoints and exports of an earlier launch, which this one replaces."""
    return sum(_mib_below(output / name) for name in ("checkpoints", "pipeline", "lora"))


def _mib_below(folder: Path) -> int:
    return bytes_below(folder) // MIB
