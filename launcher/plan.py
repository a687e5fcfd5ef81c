"""From settings to everything a run needs: files, command line, environment, estimate."""

import json
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from launcher.config.accelerate import LaunchSettings
from launcher.config.nccl import FEW_CHANNELS, NCCL_SIZES, has_few_channels
from launcher.config.settings import Settings
from launcher.data.extent import extent
from launcher.estimate import Estimate, ModelFacts, estimate, read_model_facts
from launcher.estimate.step_time import why_unpredicted
from launcher.machine.bandwidths import Bandwidths, Hardware, known, this_hardware
from launcher.machine.host import Host, read_host
from launcher.machine.measuring import ToMeasure
from launcher.machine.packages import installed_version
from launcher.machine.toolchain import Toolchain, extensions_folder, read_toolchain
from launcher.runs.directory import MACHINE
from launcher.runs.rehearsal import Rehearsal

PACKAGES = ("simpletuner-tui", "torch", "deepspeed", "accelerate", "diffusers", "transformers")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a launch would do."""

    settings: Settings
    run_dir: Path
    """Where the training reads and writes, on every machine."""
    home: Path
    """Where this machine's files go: ``run_dir`` itself, or a folder in it on the second machine and later ones."""
    model: ModelFacts
    estimate: Estimate
    argv: tuple[str, ...]
    environment: dict[str, str]
    notes: tuple[str, ...]
    files: dict[str, bytes]
    """By name; equal answers give equal files, but for plan.json."""


def make_plan(settings: Settings, answers: bytes, run_dir: Path, rehearsal: Rehearsal | None = None) -> Plan:
    """Plans a run; nothing is written.

    Args:
        settings: without errors.
        answers: answers.json, as it will lie in the run directory.
        run_dir: where the run will be.
        rehearsal: what makes it one.
    """
    run_dir = run_dir.absolute()
    settings = _with_places(settings, run_dir)
    host, toolchain = read_host(), read_toolchain()
    model = read_model_facts(settings.training.model.pretrained_model_name_or_path)
    cost = estimate(settings, model, extent(settings.training), speed_here(settings))
    home = machine_home(run_dir, settings.launch)
    argv = _argv(settings.launch, run_dir)
    environment = _environment(settings, host)
    notes = _notes(settings, host, toolchain)
    plan: dict[str, Any] = {
        "argv": argv,
        "environment": environment,
        "versions": {"python": platform.python_version(), **{name: installed_version(name) for name in PACKAGES}},
        "estimate": cost.to_json(),
        "notes": notes,
    }
    if settings.launch.machines and settings.launch.machines.over_ssh:
        plan["over_ssh"] = True
    if rehearsal is not None:
        plan["rehearsal"] = asdict(rehearsal)
    if home != run_dir:
        plan["trains"] = str(run_dir)
    files = {
        "answers.json": answers,
        "accelerate.yaml": yaml.safe_dump(settings.launch.to_yaml_object()).encode(),
        "deepspeed.json": _json(settings.deepspeed_json()),
        "training.json": _json(settings.training.to_json()),
        "plan.json": _json(plan),
    }
    return Plan(settings, run_dir, home, model, cost, argv, environment, notes, files)


def machine_home(run_dir: Path, launch: LaunchSettings) -> Path:
    """A machine's own folder: storage is shared, and a supervisor must not take another's lock, state and log."""
    rank = launch.machines.rank if launch.machines else 0
    return run_dir / f"{MACHINE}{rank}" if rank else run_dir


def _with_places(settings: Settings, run_dir: Path) -> Settings:
    """Caches lie beside the run directories, so that the next run finds them."""
    data = settings.training.data
    if data.cache_dir:
        return settings
    data = replace(data, cache_dir=str(run_dir.parent / "cache"))
    return replace(settings, training=replace(settings.training, data=data))


def _argv(launch: LaunchSettings, run_dir: Path) -> tuple[str, ...]:
    training = ("-m", "launcher.train", str(run_dir))
    if launch.use_cpu and launch.num_processes > 1 and not launch.deepspeed:
        # Without mpirun `accelerate launch` starts one process only, however many CPU processes its file names.
        several = ("--standalone", "--nproc_per_node", str(launch.num_processes))
        return (sys.executable, "-m", "torch.distributed.run", *several, *training)
    options = ["--config_file", "accelerate.yaml"]
    if launch.machines is None:
        options += ["--main_process_port", "0"]  # a free one, so that two runs can share a machine
    elif not launch.machines.over_ssh:
        options += ["--rdzv_backend", launch.machines.rdzv_backend]  # from its file accelerate takes neither
        options += ["--same_network"] if launch.machines.same_network else []
    if launch.cpu_affinity:
        options.append("--enable_cpu_affinity")  # from its file accelerate does not take it
    return (sys.executable, "-m", "accelerate.commands.launch", *options, *training)


def speed_here(settings: Settings) -> Bandwidths | None:
    """How fast this machine is with the threads of these settings; None where nobody measured it.

    What was measured of another drive than theirs is left out.
    """
    found = known(_hardware_of(settings))
    if found and found.drive and {found.drive.path} != _on_nvme(settings):
        return replace(found, drive=None)
    return found


def to_measure(settings: Settings, model: ModelFacts) -> ToMeasure | None:
    """What would have to be measured here for the seconds of a step; None where that is known or would not tell them.

    Whether there is a GPU is for the caller to know.

    Args:
        settings: of a run.
        model: its sizes.
    """
    drives, found = _on_nvme(settings), speed_here(settings)
    if len(drives) > 1 or why_unpredicted(settings, model, None):
        return None
    if found and (found.drive or not drives):
        return None
    return ToMeasure(_hardware_of(settings), next(iter(drives), ""))


def _hardware_of(settings: Settings) -> Hardware:
    """This machine, with the threads of these settings."""
    threads = _told_threads(settings) * settings.launch.processes_here
    return _hardware(threads or read_host().cores)


@cache
def _hardware(threads: int) -> Hardware:
    return this_hardware(threads)


def _on_nvme(settings: Settings) -> set[str]:
    """The folders on NVMe that these settings swap to."""
    paths = (getattr(settings.deepspeed, f"{part}_nvme_path") for part in settings.deepspeed.nvme_parts)
    return {str(Path(path).absolute()) for path in paths}


def _told_threads(settings: Settings) -> int:
    """OpenMP's threads of each process as answered, else as this shell's OMP_NUM_THREADS says; 0 where neither does."""
    shells = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # a list says the first for the outermost
    return settings.training.runtime.cpu_threads or (int(shells) if shells.isascii() and shells.isdigit() else 0)


def _share_of_cores(settings: Settings, host: Host) -> int:
    """Of each process. Physical ones: host memory bounds the update, and a core's second thread does not widen it.

    Nothing is bound to them (OMP_PROC_BIND): OpenMP would bind the main thread to the first, and all that it begins
    later, threads and processes, would share that core.
    """
    return max(1, host.cores // settings.launch.processes_here)


def _environment(settings: Settings, host: Host) -> dict[str, str]:
    environment = {
        # torch elastic sets 1 where nothing is set, which starves the optimizer on the CPU.
        "OMP_NUM_THREADS": str(_told_threads(settings) or _share_of_cores(settings, host)),
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TORCH_EXTENSIONS_DIR": str(extensions_folder()),
    }
    if settings.launch.use_cpu:
        environment |= {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
        return environment
    # CUDA puts the fastest first unless it is told otherwise; the driver, by which GPUs are shown and chosen, does not.
    environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    if not {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"} & set(os.environ):
        environment["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"
    if has_few_channels(settings):
        environment |= {name: value for name, value in FEW_CHANNELS.items() if name not in os.environ}
    return environment


def _notes(settings: Settings, host: Host, toolchain: Toolchain) -> tuple[str, ...]:
    return (*_few_threads(settings, host), *_own_channels(settings), *_not_compiled(settings, toolchain))


def _few_threads(settings: Settings, host: Host) -> Iterator[str]:
    """A shell that was told to spare its cores, as some clusters do, makes the update on the CPU slow."""
    on_cpu = settings.launch.deepspeed and settings.deepspeed.offloads
    told, share = _told_threads(settings), _share_of_cores(settings, host)
    if on_cpu and not settings.training.runtime.cpu_threads and 0 < told < share:
        yield (
            f"OMP_NUM_THREADS of this shell gives the optimizer on the CPU {told} of {share} cores; unset it, or "
            "answer training.cpu_threads"
        )


def _own_channels(settings: Settings) -> Iterator[str]:
    """Of what a shell says of NCCL nobody knows what it takes."""
    said = [name for name in NCCL_SIZES if name in os.environ]
    if said and has_few_channels(settings):
        yield f"this shell sets {', '.join(said)}; the estimate counts two channels of 1 MiB between GPUs"


def _not_compiled(settings: Settings, toolchain: Toolchain) -> tuple[str, ...]:
    ds = settings.deepspeed
    if settings.launch.deepspeed and not toolchain.complete and ds.optimizer_type in ("Adam", "AdamW"):
        packages = " ".join(toolchain.missing_packages)
        name = "CPU Adam" if ds.offloads else "fused Adam"
        return (
            f"DeepSpeed's {name} cannot be compiled here; torch's fused AdamW does the same update instead "
            f"(to compile it: apt install {packages})",
        )
    return ()


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
