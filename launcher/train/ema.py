"""An exponential moving average of the weights, beside the engine: each rank averages the fp32 masters it owns.

Masters change in the engine's step and nowhere else. So the average of one step is taken by a thread while the next
step computes, and waited for before that one touches them: it is what it would be if every step waited.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch

from launcher.config.training import EmaSettings
from launcher.errors import InvalidInputError
from launcher.runs.checkpoints import Checkpoint, convert_command
from launcher.train.distributed import World
from launcher.train.engine import Engine
from launcher.train.report import Report
from launcher.train.universal.filling import fill
from launcher.train.universal.form import AVERAGE, Universal

PIECE = 1 << 24
"""Elements that are brought over or exchanged at once: 64 MiB."""


def decay_at(update: int, highest: float) -> float:
    """How much of the average stays at the n-th update, counted from 1; nothing does at the first.

    The warm-up of ``diffusers.training_utils.EMAModel.get_decay``.
    """
    before = update - 1
    return min(highest, (1 + before) / (10 + before)) if before else 0.0


class MovingAverage:
    """The average of this rank's share of the masters; every rank makes every call."""

    def __init__(self, engine: Engine, settings: EmaSettings, world: World) -> None:
        """Starts from the masters as they are.

        Args:
            engine: after its checkpoint is loaded.
            settings: decay, interval and where the average is kept.
            world: this rank among the others.
        """
        self._engine, self._settings, self._world = engine, settings, world
        self._updates = 0
        device = torch.device("cpu") if settings.ema_device == "cpu" else world.device
        self._average = [master.to(device, copy=True) for master in engine.master_partitions()]
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ema")
        self._under_way: Future[None] | None = None

    def update(self, step: int) -> None:
        """Begins to take in the masters after a step, where its turn has come; does not wait for it."""
        if step % self._settings.ema_update_interval:
            return
        self.wait()
        self._updates += 1
        share = 1 - decay_at(self._updates, self._settings.ema_decay)
        on_gpu = self._world.device.type == "cuda"
        stepped = torch.cuda.current_stream(self._world.device).record_event() if on_gpu else None
        self._under_way = self._worker.submit(
            _take_in, self._average, self._engine.master_partitions(), share, self._world.device, stepped
        )

    def wait(self) -> None:
        """Returns when no update is under way: masters may change again."""
        if self._under_way is not None:
            self._under_way.result()
            self._under_way = None

    @contextmanager
    def exchanged(self) -> Iterator[None]:
        """Inside, the engine's masters hold the average; afterwards they are what they were, to the bit."""
        self.wait()
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def save(self, folder: Path) -> None:
        """Writes this rank's average below ``folder``."""
        self.wait()
        if self._average:
            torch.save({"updates": self._updates, "average": self._average}, average_file(folder, self._world.rank))

    def load(self, folder: Path) -> None:
        """Restores what :meth:`save` wrote below ``folder``.

        Raises:
            InvalidInputError: it is of other masters.
        """
        if not self._average:
            return
        file = average_file(folder, self._world.rank)
        state = torch.load(file, map_location="cpu")
        if [kept.shape for kept in state["average"]] != [mine.shape for mine in self._average]:
            raise InvalidInputError(
                f"the moving average in {file} is of weights that are divided otherwise; to go on with it, run: "
                f"{convert_command(folder)}, or use the settings it was made with; or go on without it "
                "(training.use_ema)"
            )
        for mine, kept in zip(self._average, state["average"], strict=True):
            mine.copy_(kept)
        self._updates = state["updates"]

    def load_universal(self, checkpoint: Universal) -> None:
        """Takes this rank's share of the average in a converted checkpoint, which has one."""
        pieces = self._engine.pieces_of_partitions()
        for mine, held in zip(self._average, pieces, strict=True):
            fill(mine, held, AVERAGE, checkpoint)
        self._updates = checkpoint.counters.averaged

    def _exchange(self) -> None:
        for average, master in zip(self._average, self._engine.master_partitions(), strict=True):
            for mine, theirs in _pieces(average, master):
                kept = theirs.clone()
                theirs.copy_(mine)
                mine.copy_(kept)


def begin(
    engine: Engine, settings: EmaSettings, world: World, checkpoint: Checkpoint | None, report: Report
) -> MovingAverage | None:
    """The average of a run that keeps one, from where its checkpoint left it; every rank calls it.

    Args:
        engine: after the checkpoint is loaded.
        settings: whether there is an average, and how it is taken.
        world: the ranks.
        checkpoint: what the run continues from, of an engine or converted.
        report: warned where checkpoint and run differ about it.

    Raises:
        InvalidInputError: the checkpoint's average is of other masters.
    """
    average = MovingAverage(engine, settings, world) if settings.use_ema else None
    if checkpoint is None:
        return average
    with Universal(checkpoint.path) if checkpoint.universal else nullcontext() as universal:
        saved = universal.has_average if universal else average_file(checkpoint.path, 0).is_file()
        if average is None:
            if saved:
                report.warning(f"{checkpoint.path} has a moving average, which ends here: training.use_ema is off")
        elif not saved:
            report.warning(f"{checkpoint.path} has no moving average: it begins with the weights of this checkpoint")
        elif universal:
            average.load_universal(universal)
        else:
            average.load(checkpoint.path)
    return average


def average_file(folder: Path, rank: int) -> Path:
    """Where a rank's share of the average lies in a checkpoint of an engine."""
    return folder / f"ema-rank-{rank}.pt"


def _take_in(
    averages: Sequence[torch.Tensor],
    masters: Sequence[torch.Tensor],
    share: float,
    device: torch.device,
    stepped: "torch.cuda.Event | None",
) -> None:
    """Moves each average towards its masters, which on a GPU are whole once ``stepped`` has passed."""
    if stepped is None:
        for average, master in zip(averages, masters, strict=True):
            average.lerp_(master, share)
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        stream.wait_event(stepped)
        for average, master in zip(averages, masters, strict=True):
            if average.device == master.device:
                average.lerp_(master, share)
            else:
                _bring(average, master, share, stream)
        stream.synchronize()


def _bring(average: torch.Tensor, master: torch.Tensor, share: float, stream: "torch.cuda.Stream") -> None:
    """From the GPU to an average in host memory, through pinned memory, beside what the GPU computes."""
    pinned = torch.empty(min(PIECE, master.numel()), pin_memory=True)
    for mine, theirs in _pieces(average, master):
        here = pinned[: theirs.numel()].view(theirs.shape)
        here.copy_(theirs, non_blocking=True)
        stream.synchronize()
        mine.lerp_(here, share)


def _pieces(one: torch.Tensor, other: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Views of the same places in both, of as many rows as come to about :data:`PIECE` elements."""
    rows = max(1, PIECE * len(one) // one.numel())
    yield from zip(torch.split(one, rows), torch.split(other, rows), strict=True)
