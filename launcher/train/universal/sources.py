"""Training states as engines leave them on disk, read without an engine and mapped, never loaded whole."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from launcher.errors import InvalidInputError
from launcher.runs.checkpoints import Checkpoint
from launcher.train.deepspeed_engine import LAYOUT, TAG
from launcher.train.ema import average_file
from launcher.train.plain_engine import STATE
from launcher.train.universal.form import (
    AVERAGE,
    DEEPSPEEDS_NAMES,
    MASTER,
    STATES,
    Counters,
    LossScale,
    Parameter,
    Universal,
)


@dataclass(slots=True)
class Source:
    """A training state: of each parameter its shape and, by kind, the flat pieces that it is the sequence of."""

    counters: Counters
    shapes: dict[str, torch.Size]
    pieces: dict[str, dict[str, list[torch.Tensor]]] = field(default_factory=dict)

    def parameters(self, kinds: tuple[str, ...]) -> Iterator[Parameter]:
        """Every parameter's whole tensors of these kinds; a state that is missing everywhere was never made.

        Raises:
            InvalidInputError: there is more or less of a tensor than its shape holds.
        """
        for name, shape in self.shapes.items():
            tensors = {}
            for kind in kinds:
                parts = self.pieces.get(name, {}).get(kind)
                if parts is None and kind != MASTER and self.counters.updates == 0:
                    parts = [torch.zeros(shape.numel())]
                found = sum(part.numel() for part in parts or ())
                if parts is None or found != shape.numel():
                    raise InvalidInputError(f"{kind} of {name} has {found} numbers instead of {shape.numel()}")
                tensors[kind] = (parts[0] if len(parts) == 1 else torch.cat(parts)).reshape(shape)
            yield name, tensors

    @property
    def has_average(self) -> bool:
        """Whether a moving average was kept."""
        return any(AVERAGE in kinds for kinds in self.pieces.values())

    def add(self, name: str, kind: str, piece: torch.Tensor) -> None:
        """One more piece, after those that are there."""
        self.pieces.setdefault(name, {}).setdefault(kind, []).append(piece)


def open_source(checkpoint: Checkpoint) -> Source:
    """The training state in a checkpoint of any engine.

    Raises:
        InvalidInputError: its optimizer's states cannot be read apart, or its files are not what they should be.
    """
    optimizer = checkpoint.facts["optimizer"]
    folder, stage = checkpoint.path, checkpoint.facts["zero_stage"]
    try:
        if checkpoint.universal:
            return _universal(folder, optimizer)
        if stage is None:
            return _plain(folder, optimizer, checkpoint.step)
        readers = {0: _unpartitioned, 1: _flat_partitions, 2: _flat_partitions, 3: _partitioned_parameters}
        return readers[stage](folder / TAG, optimizer)
    except (KeyError, IndexError, ValueError, RuntimeError, EOFError, OSError) as error:
        detail = str(error).strip().splitlines() or [type(error).__name__]
        raise InvalidInputError(f"{folder} could not be read: {detail[0]}") from error


def _load(path: Path) -> Any:
    # Mapped; DeepSpeed's own files hold objects of its own, so they are pickles.
    return torch.load(path, map_location="cpu", mmap=True, weights_only=False)


def _universal(folder: Path, optimizer: str) -> Source:
    opened = Universal(folder)
    source = Source(opened.counters, {})
    averages = (AVERAGE,) if opened.has_average else ()
    for name in opened.names():
        for kind in (MASTER, *STATES[optimizer], *averages):
            tensor = opened.tensor(kind, name)
            source.shapes[name] = tensor.shape
            source.add(name, kind, tensor.flatten())
    return source


def _plain(folder: Path, optimizer: str, step: int) -> Source:
    state = _load(folder / STATE)
    masters: dict[str, torch.Tensor] = state["masters"]
    scaler = state["scaler"]
    scale = LossScale(scaler["scale"], scaler["_growth_tracker"]) if scaler else None
    states = state["optimizer"]["state"]
    updates = _updates(states.values())
    counters = Counters(updates, _place(state["schedule"]), skipped=step - updates, loss_scale=scale)
    source = _with_average(Source(counters, {name: master.shape for name, master in masters.items()}), folder)
    averages = _averages(folder, 0)
    for name, tensor in zip(masters, averages, strict=bool(averages)):
        source.add(name, AVERAGE, tensor.flatten())
    for index, name in enumerate(state.get("order", masters)):
        source.add(name, MASTER, masters[name].detach().flatten())
        for kind, tensor in _tensors(states.get(index, {}), optimizer):
            source.add(name, kind, tensor.flatten())
    return source


def _unpartitioned(folder: Path, optimizer: str) -> Source:
    """Stage 0: whole parameters, under a wrapper of flat groups in half precision with DeepSpeed's own Adam."""
    saved = _load(folder / "mp_rank_00_model_states.pt")
    held, module, groups = saved["optimizer"], saved["module"], saved[LAYOUT]["groups"]
    names = [name for group in groups for name in group]
    base = held.get("optimizer_state_dict", held)
    states = base["state"]
    source = Source(_counters(saved, states.values(), held), {name: module[name].shape for name in names})
    source = _with_average(source, folder.parent)
    averages = _averages(folder.parent, 0)
    for name, tensor in zip(names, averages, strict=bool(averages)):
        source.add(name, AVERAGE, tensor.flatten())
    if "fp32_groups_flat" in held:
        for index, (group, flat) in enumerate(zip(groups, held["fp32_groups_flat"], strict=True)):
            kinds = [(MASTER, flat.detach()), *_tensors(states.get(index, {}), optimizer)]
            _split(source, group, kinds, source.shapes)
        return source
    masters = [master for group in held["fp32_groups"] for master in group] if "fp32_groups" in held else None
    for index, name in enumerate(names):
        source.add(name, MASTER, (masters[index] if masters else module[name]).detach().flatten())
        for kind, tensor in _tensors(states.get(index, {}), optimizer):
            source.add(name, kind, tensor.flatten())
    return source


def _flat_partitions(folder: Path, optimizer: str) -> Source:
    """Stages 1 and 2: each rank has a run of every group's parameters, and says which."""
    saved = _load(folder / "mp_rank_00_model_states.pt")
    ranks = _ranks(folder)
    shapes = {name: torch.Size(shape) for group in saved["param_shapes"] for name, shape in group.items()}
    first = ranks[0]["base_optimizer_state"]["state"]
    source = _with_average(Source(_counters(saved, first.values(), ranks[0]), shapes), folder.parent)
    for number, rank in enumerate(ranks):
        states, averages = rank["base_optimizer_state"]["state"], _averages(folder.parent, number)
        for index, (flat, places) in enumerate(
            zip(rank["single_partition_of_fp32_groups"], rank["param_slice_mappings"], strict=True)
        ):
            kinds = [(MASTER, flat.detach()), *_tensors(states.get(index, {}), optimizer)]
            kinds += [(AVERAGE, averages[index])] if averages else []
            for name, place in places.items():
                for kind, tensor in kinds:
                    source.add(name, kind, tensor.narrow(0, place.start, place.numel))
    return source


def _partitioned_parameters(folder: Path, optimizer: str) -> Source:
    """Stage 3: each rank has a part of every parameter, padded so that all are equal; NVMe keeps files of its own."""
    saved = _load(folder / "zero_pp_rank_0_mp_rank_00_model_states.pt")
    ranks = _ranks(folder)
    shapes = {name: torch.Size(shape) for group in saved["param_shapes"] for name, shape in group.items()}
    swapped_as = saved[LAYOUT]["swapped"]
    parts = {name: torch.Size([math.ceil(shape.numel() / len(ranks))]) for name, shape in shapes.items()}
    first = ranks[0]["optimizer_state_dict"]["state"]
    source = _with_average(Source(_counters(saved, first.values(), ranks[0]), shapes), folder.parent)
    for rank, held in enumerate(ranks):
        states, averages = held["optimizer_state_dict"]["state"], _averages(folder.parent, rank)
        files = folder / "offloaded_tensors" / f"rank{rank:02}"
        for index, (group, swapped) in enumerate(zip(saved["param_shapes"], swapped_as, strict=True)):
            if swapped is None:
                kinds = [(MASTER, held["fp32_flat_groups"][index].detach())]
                kinds += _tensors(states.get(index, {}), optimizer)
            else:
                size = sum(parts[name].numel() for name in group)
                kinds = [(kind, _swapped(files, swapped, kind, size)) for kind in (MASTER, *STATES[optimizer])]
            kinds += [(AVERAGE, averages[index])] if averages else []
            _split(source, group, kinds, parts, rank)
    return source


def _averages(folder: Path, rank: int) -> list[torch.Tensor]:
    """A rank's moving averages, in the order of the engine's shares of the masters; none where there is none."""
    file = average_file(folder, rank)
    return list(_load(file)["average"]) if file.is_file() else []


def _with_average(source: Source, folder: Path) -> Source:
    file = average_file(folder, 0)
    if file.is_file():
        source.counters = replace(source.counters, averaged=int(_load(file)["updates"]))
    return source


def _swapped(folder: Path, group: str, kind: str, size: int) -> torch.Tensor:
    """What DeepSpeed swapped out: raw fp32, padded."""
    name = group if kind == MASTER else f"{kind}-{group}"
    found = [path for path in folder.iterdir() if re.fullmatch(rf"{re.escape(name)}\.tensor\.swp", path.name)]
    if not found or found[0].stat().st_size < 4 * size:
        raise InvalidInputError(f"{folder / name}.tensor.swp is missing or too short")
    return torch.from_file(str(found[0]), shared=False, size=size, dtype=torch.float32)


def _split(
    source: Source,
    group: Iterable[str],
    kinds: list[tuple[str, torch.Tensor]],
    sizes: Mapping[str, torch.Size],
    rank: int = 0,
) -> None:
    """Cuts flat tensors of a group, one parameter after another; what pads the last rank's part is left out."""
    start = 0
    for name in group:
        part = sizes[name].numel()
        wanted = min(part, source.shapes[name].numel() - rank * part)
        for kind, tensor in kinds:
            if wanted > 0:
                source.add(name, kind, tensor.narrow(0, start, wanted))
        start += part


def _ranks(folder: Path) -> list[dict[str, Any]]:
    """The optimizer files of all ranks, in their order."""
    pattern = r"(?:bf16_)?zero_pp_rank_(\d+)_mp_rank_00_optim_states\.pt"
    found = {int(match[1]): path for path in folder.iterdir() if (match := re.fullmatch(pattern, path.name))}
    return [_load(found[rank])["optimizer_state_dict"] for rank in range(len(found))]


def _counters(saved: Mapping[str, Any], states: Any, optimizer: Mapping[str, Any]) -> Counters:
    return Counters(
        _updates(states), _place(saved["lr_scheduler"]), int(saved["skipped_steps"]), _loss_scale(optimizer)
    )


def _place(schedule: Mapping[str, Any] | None) -> int:
    return int(schedule["last_batch_iteration"]) if schedule else -1


def _updates(states: Any) -> int:
    """The optimizer's own count, which every engine raises for all parameters at once."""
    return max((int(state["step"]) for state in states if "step" in state), default=0)


def _loss_scale(optimizer: Mapping[str, Any]) -> LossScale | None:
    if not optimizer.get("dynamic_loss_scale"):
        return None
    held = vars(optimizer["loss_scaler"]) if "loss_scaler" in optimizer else optimizer
    good_steps = held["cur_iter"] - held["last_overflow_iter"] - 1
    return LossScale(float(held["cur_scale"]), good_steps, held.get("cur_hysteresis"))


def _tensors(state: Mapping[str, Any], optimizer: str) -> list[tuple[str, torch.Tensor]]:
    """An optimizer's states by kind; Lion's second, which DeepSpeed makes on the CPU and never uses, is left out."""
    names = {DEEPSPEEDS_NAMES.get((optimizer, kind), kind): kind for kind in STATES[optimizer]}
    names |= {kind: kind for kind in STATES[optimizer]}  # where torch's own stands in
    return [(names[name], value) for name, value in state.items() if name in names]
