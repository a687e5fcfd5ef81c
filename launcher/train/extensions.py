"""DeepSpeed's compiled extensions: built once per machine, before anything large is loaded."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deepspeed.accelerator import get_accelerator
from deepspeed.comm.torch import build_shm_op
from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder
from torch.utils.cpp_extension import get_default_build_root

from launcher.config.engine import uses_torch_adam
from launcher.config.nested import with_overrides
from launcher.errors import CannotRunHereError
from launcher.machine.build_locks import LOCK, holder
from launcher.machine.toolchain import first_error
from launcher.runs.swap import swap_folders
from launcher.train import cpu_info
from launcher.train.distributed import World
from launcher.train.offload import fused_adamw
from launcher.train.report import LOGGER, Report

cpu_info.patch_cpuinfo()

TORCH_ADAM = {"optimizer.params.torch_adam": True, "optimizer.params.fused": True}
"""torch's fused AdamW in CPUAdam's place: equal within 5e-8 and as fast, and nothing is compiled for it.

Beside Muon it is not fused.
"""
_WITH_ADAM = ("Adam", "AdamW", "Muon")
"""Optimizers whose extension is an Adam's, which torch's can stand in for."""


def build_communication() -> None:
    """Compiles what processes on CPUs exchange gradients with.

    Left to DeepSpeed it would be compiled while the processes meet, and look like waiting.
    """
    with _one_at_a_time(ShareMemCommBuilder.NAME):
        build_shm_op()


def build_optimizer(
    config: Mapping[str, Any], world: World, report: Report, *, torch_adam: bool = False
) -> dict[str, Any]:
    """Compiles the optimizer's extension.

    Where it cannot be compiled, Adam falls back to torch's own fused one and the person is told.

    Args:
        config: as deepspeed.json holds it.
        world: rank 0 compiles, the others wait.
        report: told of the fallback.
        torch_adam: whether the run continues a state of torch's Adam, which only that can read.

    Returns:
        The configuration to train with.

    Raises:
        CannotRunHereError: the optimizer exists only as an extension, and it does not compile here.
    """
    if torch_adam:
        config = with_overrides(config, TORCH_ADAM)
    optimizer = config["optimizer"]
    name = _extension(optimizer, config)
    if name is None:
        return dict(config)
    failure = world.from_main(failure_to_build(name) if world.is_main else None)
    if failure is None:
        if name == "CPUAdamBuilder" and optimizer["type"] != "Muon":
            _build_fused_adamw(world, report)
        return dict(config)
    if optimizer["type"] not in _WITH_ADAM:
        raise CannotRunHereError(
            f"{optimizer['type']} with offload needs DeepSpeed's {name} extension, which does not compile "
            f"here ({failure}); install a C++ compiler (Debian, Ubuntu: apt install g++), or choose AdamW"
        )
    report.warning(
        f"DeepSpeed's CPU Adam does not compile here ({failure}); torch's fused AdamW does the same update "
        "instead. To compile it: install g++ and the Python headers (Debian, Ubuntu: apt install g++ "
        "python3-dev)"
    )
    return with_overrides(config, TORCH_ADAM)


def _build_fused_adamw(world: World, report: Report) -> None:
    """Compiles the update that takes DeepSpeed's place; where it cannot be, the person is told what that costs."""
    found = world.from_main(_failure_to_build_fused_adamw() if world.is_main else None)
    if found is not None:
        report.warning(
            f"Adam in one pass over host memory does not compile here ({found}); DeepSpeed's does the same in three, "
            "which takes half as long again. To compile it: install g++ (Debian, Ubuntu: apt install g++)"
        )


def _failure_to_build_fused_adamw() -> str | None:
    found = fused_adamw.load()
    return found if isinstance(found, str) else None


def build_swapping(config: Mapping[str, Any], run: Path, world: World) -> dict[str, Any]:
    """Compiles what NVMe offload reads and writes with, where it is used.

    Args:
        config: as deepspeed.json holds it.
        run: the run directory.
        world: rank 0 compiles, the others wait.

    Returns:
        The configuration to train with: what is swapped goes to folders of the run's own.

    Raises:
        CannotRunHereError: it does not compile here, and nothing stands in for it.
    """
    folders = swap_folders(config, run)
    for name in ("PinMemoryBuilder", "AsyncIOBuilder") if folders else ():  # the second would build the first unguarded
        failure = world.from_main(failure_to_build(name) if world.is_main else None)
        if failure is not None:
            raise CannotRunHereError(
                f"NVMe offload needs DeepSpeed's async_io extension, which does not compile here ({failure}); install "
                "a C++ compiler and libaio's headers (Debian, Ubuntu: apt install g++ python3-dev libaio-dev), or "
                "offload to cpu"
            )
    return with_overrides(config, {path: str(folder) for path, folder in folders.items()})


def _extension(optimizer: Mapping[str, Any], config: Mapping[str, Any]) -> str | None:
    """The op builder an optimizer needs, or None; as ``_configure_basic_optimizer`` builds it."""
    offloads = config.get("zero_optimization", {}).get("offload_optimizer", {}).get("device", "none") != "none"
    if optimizer["type"] in _WITH_ADAM:
        if uses_torch_adam(optimizer):
            return None
        return "CPUAdamBuilder" if offloads else "FusedAdamBuilder"
    if optimizer["type"] == "Lion":
        return "CPULionBuilder" if offloads else "FusedLionBuilder"
    return "CPUAdagradBuilder" if offloads else None


def failure_to_build(name: str) -> str | None:
    """Compiles and loads an op, for launches and for the doctor; returns why it failed, in one line, or None.

    Args:
        name: of its builder, such as ``CPUAdamBuilder``.
    """
    builder = get_accelerator().get_op_builder(name)()
    try:
        with _one_at_a_time(builder.name):
            builder.load(verbose=False)
    except Exception as error:  # a build fails in as many ways as there are compilers
        LOGGER.exception("%s does not build", name)
        return first_error(str(error)) or type(error).__name__
    return None


@contextmanager
def _one_at_a_time(name: str) -> Iterator[None]:
    """Keeps other runs from building the same op meanwhile, and takes away what a killed build left.

    A later build would wait for that without end (``launcher.machine.build_locks``).
    """
    folder = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root()) / name
    folder.mkdir(parents=True, exist_ok=True)
    baton = folder / LOCK
    with (folder / "building").open("w") as building:
        fcntl.flock(building, fcntl.LOCK_EX)  # released by the kernel, however this process ends
        if baton.exists() and holder(baton) is None:
            LOGGER.warning("%s was left by a build that was killed", baton)
            baton.unlink(missing_ok=True)
        yield
