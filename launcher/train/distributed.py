"""The processes that train together, and what they must agree on."""

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed
from accelerate.utils import set_numa_affinity
from deepspeed.accelerator import get_accelerator
from deepspeed.comm import init_distributed

from launcher.errors import CannotRunHereError
from launcher.train.cuda_context import limit_stacks
from launcher.train.single_process import join_alone

R = TypeVar("R")
LONGEST_WAIT = timedelta(hours=12)
"""How long a process waits for another: rank 0 may be downloading or exporting gigabytes meanwhile. A process
that died is noticed by torch elastic, not by this."""

SHARED_MEMORY = "/dev/shm/deepspeed_allreduce_buffer_{user}_{address}_{port}_{rank}"
"""What processes of one machine share for DeepSpeed's reductions on CPUs, 66 MiB each."""
SHARED_WITHIN = 30.0
"""Seconds after which a file made on one machine must be seen on the others; network storage may cache for a while."""


@dataclass(frozen=True, slots=True)
class World:
    """One process among those that train together."""

    rank: int
    world_size: int
    device: torch.device

    @classmethod
    def join(cls) -> "World":
        """Joins the processes that ``accelerate launch`` started; for several DeepSpeed picks NCCL or gloo."""
        if "RANK" not in os.environ:
            # A single process without DeepSpeed is started as it is, and told nothing.
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
            os.environ.update(alone, MASTER_PORT=str(port))
        # As DeepSpeed's own launcher says it; else it starts numactl for every bucket of a CPU, to count its nodes.
        os.environ.setdefault("LOCAL_SIZE", os.environ.get("LOCAL_WORLD_SIZE", "1"))
        accelerator = get_accelerator()
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        accelerator.set_device(local_rank)
        if os.environ.get("ACCELERATE_CPU_AFFINITY") == "1":
            set_numa_affinity(local_rank)
        if os.environ.get("WORLD_SIZE") == "1":
            join_alone(LONGEST_WAIT)
            if accelerator.device_name() == "cuda":
                limit_stacks()
        else:
            init_distributed(timeout=LONGEST_WAIT)
        if accelerator.device_name() == "cpu":
            unlink_shared_memory()
        return cls(
            rank=torch.distributed.get_rank(),
            world_size=torch.distributed.get_world_size(),
            device=torch.device(accelerator.device_name(local_rank)),
        )

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the one that reports."""
        return self.rank == 0

    def barrier(self) -> None:
        """Waits until every rank is here."""
        if self.world_size > 1:
            torch.distributed.barrier()

    def require_shared(self, folder: Path) -> None:
        """Makes sure that all ranks see one folder, where they are on several machines.

        Raises:
            CannotRunHereError: on every rank, when any of them does not.
        """
        here = os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE")  # torch elastic's, DeepSpeed's
        if here is None or int(here) == self.world_size:
            return
        seen = folder / self.from_main(f".seen-{os.urandom(8).hex()}")
        if self.is_main:
            seen.touch()
        self.barrier()
        deadline = time.monotonic() + SHARED_WITHIN
        while not (found := seen.exists()) and time.monotonic() < deadline:
            time.sleep(0.1)
        everywhere = all(self.from_all(found))
        if self.is_main:
            seen.unlink()
        if not everywhere:
            raise CannotRunHereError(
                f"{folder} is not one folder on all machines; put the run, the pictures and the model on storage that "
                "they share, under the same path"
            )

    def gather(self, numbers: list[float]) -> list[list[float]]:
        """Every rank's numbers, by rank, on every rank; all lists have the same length."""
        if self.world_size == 1:
            return [numbers]
        mine = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        every = [torch.empty_like(mine) for _ in range(self.world_size)]
        torch.distributed.all_gather(every, mine)
        return [row.tolist() for row in every]

    def from_main(self, value: Any) -> Any:
        """Rank 0's value on every rank. It must be picklable."""
        if self.world_size == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def on_main(self, compute: Callable[[], R]) -> R:
        """What rank 0 computes, on every rank; what it raises is raised on every rank. Both must be picklable."""
        result: R | None = None
        failure: Exception | None = None
        if self.is_main:
            try:
                result = compute()
            except Exception as error:
                failure = error  # the others wait for word: they must hear of it too
        result, failure = self.from_main((result, failure))
        if failure is not None:
            raise failure
        return cast(R, result)

    def from_all(self, value: Any) -> list[Any]:
        """Every rank's value, by rank, on every rank. They must be picklable."""
        if self.world_size == 1:
            return [value]
        every: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(every, value)
        return every

    def close(self) -> None:
        """Leaves the group."""
        torch.distributed.destroy_process_group()


def unlink_shared_memory() -> None:
    """Has the memory that CPUs reduce in go with the processes; DeepSpeed leaves it behind until a machine restarts."""
    torch.distributed.barrier()  # until every process has opened everybody's
    name = SHARED_MEMORY.format(
        user=os.getuid(),
        address=os.environ["MASTER_ADDR"],
        port=os.environ["MASTER_PORT"],
        rank=torch.distributed.get_rank(),
    )
    Path(name).unlink(missing_ok=True)  # there is none where processes are on several machines
