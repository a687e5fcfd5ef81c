"""The checks, all at once; those of the data, of disks and of NVMe offload have files of their own."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from launcher.config.setting import Level
from launcher.errors import ExitCode, InvalidInputError, RefusedToOverwriteError
from launcher.estimate import Verdict, verdict
from launcher.machine.gpus import Gpus, visible_to
from launcher.machine.host import Host
from launcher.machine.toolchain import Toolchain
from launcher.model_files import (
    check_components,
    check_whole,
    component_config,
    is_file,
    is_folder,
    read_weights,
    resolution_step,
    weight_files,
)
from launcher.noise_schedule import remarks
from launcher.plan import Plan
from launcher.preflight.adapter import adapter
from launcher.preflight.data import data, resolution
from launcher.preflight.disks import disks, folders, of_others, places
from launcher.preflight.finding import About, Finding, size
from launcher.preflight.machine import Machine
from launcher.preflight.machines import machines
from launcher.preflight.nvme import nvme
from launcher.runs.checkpoints import identity, to_resume, whole, why_not_resumed
from launcher.runs.directory import MACHINE, RunDirectory
from launcher.runs.state import refuse_taken

MODEL = "training.pretrained_model_name_or_path"


def preflight(plan: Plan, machine: Machine | None = None) -> list[Finding]:
    """Every reason why this plan cannot run here, and every warning."""
    machine = machine or Machine()
    gpus = Gpus(())
    launch = plan.settings.launch
    if not launch.use_cpu:
        gpus = visible_to(machine.gpus(), launch.gpu_ids)
        if not gpus.gpus and machine.amd_is_idle():
            gpus = replace(gpus, reason=f"{gpus.reason}; the GPU of AMD's is not trained on, only NVIDIA's are")
    of_model = list(_model(plan))
    findings = [*_named_beside(plan), *_taken(plan), *_resume(plan), *_saves(plan), *disks(plan), *of_others(plan)]
    findings += [
        *_platform(plan, machine),
        *_gpus(plan, gpus, machine),
        *_host(plan, machine.host()),
        *_toolchain(plan, machine.toolchain()),
    ]
    findings += [*nvme(plan, machine, on_gpu=bool(gpus.gpus)), *_trackers(plan, machine), *machines(plan, machine)]
    if plan.model.assumed and any(finding.field == MODEL for finding in of_model):
        # There is no model; what an estimate of SDXL says would be of another one than is meant.
        findings = [each for each in findings if each.level is Level.ERROR and not each.forceable]
    return [*of_model, *findings]


def named(plan: Plan) -> list[Finding]:
    """What is wrong with the model, the pictures and the folders that settings name, whatever else is."""
    return [*_model(plan), *_named_beside(plan)]


def _named_beside(plan: Plan) -> Iterator[Finding]:
    """The same without the model."""
    yield from (*_vae(plan), *adapter(plan), *data(plan), *folders(plan))


def _model(plan: Plan) -> Iterator[Finding]:
    path = Path(plan.settings.training.model.pretrained_model_name_or_path)
    step = 32  # SDXL's own, where the model is not here or is one file
    try:
        if is_folder(path):
            check_components(path)
            read_weights(path / "unet")
            step = resolution_step(path)
            for remark in remarks(component_config(path, "scheduler"), plan.settings.training.objective):
                yield Finding(remark.field, remark.message, Level.ERROR if remark.refused else Level.WARNING)
        elif is_file(path):
            _check_single_file(path)
            yield from _absent(plan, "pretrained_model_config")
        elif path.is_absolute():
            raise InvalidInputError(f"{path} does not exist; give a diffusers folder, a file or a hub id")
    except InvalidInputError as error:
        yield Finding(MODEL, str(error))
    else:
        yield from resolution(plan, step)


def _check_single_file(path: Path) -> None:
    if path.suffix != ".safetensors":
        raise InvalidInputError(f"{path} is not a .safetensors file")
    check_whole(path)


def _vae(plan: Plan) -> Iterator[Finding]:
    key = "pretrained_vae_model_name_or_path"
    name = plan.settings.training.model.pretrained_vae_model_name_or_path
    yield from _absent(plan, key)
    path = Path(name)
    if name and is_folder(path) and not (is_file(path / "config.json") and weight_files(path)):
        message = f"{path} is not a diffusers VAE: it has no config.json with weights beside it"
        yield Finding(f"training.{key}", message)


def _absent(plan: Plan, key: str) -> Iterator[Finding]:
    """What should be a folder here and is none; hub ids are not looked for."""
    name: str = getattr(plan.settings.training.model, key)
    if Path(name).is_absolute() and not is_folder(Path(name)):
        yield Finding(f"training.{key}", f"{name} is no folder; give a diffusers folder or a hub id")


def _taken(plan: Plan) -> Iterator[Finding]:
    """A run directory that is something else, or is being written."""
    run, code = RunDirectory(plan.home), ExitCode.REFUSED_TO_OVERWRITE
    try:
        held = os.listdir(plan.home)  # noqa: PTH208 - Path.iterdir raises where os.listdir does, later
        if all(name.startswith(MACHINE) for name in held):  # later machines may be started before the first
            return
    except OSError:  # not there, or told as a folder that cannot be written
        return
    if not run.plan_json.exists():
        yield Finding("--run-dir", f"{run.path} is there already and is no run; choose another", exit_code=code)
        return
    try:
        refuse_taken(run)
    except RefusedToOverwriteError as error:
        yield Finding("--run-dir", str(error), exit_code=code)


def _resume(plan: Plan) -> Iterator[Finding]:
    """A checkpoint that this run could not continue, before its own answers are replaced by ones that cannot."""
    training, field = plan.settings.training, "training.resume_from_checkpoint"
    output, wanted = places(plan)["training.output_dir"], training.checkpoints.resume_from_checkpoint
    if wanted == "no":
        there = whole(output / "checkpoints")
        held = there[-1].path if there else plan.home
        if there or RunDirectory(plan.home).plan_json.exists():
            message = f"{held} is there already; answer `latest` to continue it, or train into another folder"
            yield Finding(field, message, exit_code=ExitCode.REFUSED_TO_OVERWRITE)
        return
    try:
        found = to_resume(output, wanted)
    except InvalidInputError as error:
        yield Finding(field, str(error))
        return
    launch = plan.settings.launch
    mine = identity(
        plan.settings.deepspeed_json(),
        training,
        deepspeed=launch.deepspeed,
        world_size=launch.num_processes,
        pictures=(),  # they are no reason to refuse
    )
    if found and (reason := why_not_resumed(found, mine)):
        yield Finding(field, reason)


def _saves(plan: Plan) -> Iterator[Finding]:
    if plan.settings.training.checkpoints.checkpoint_contents == "weights":
        message = "checkpoints of weights alone: a run that ends early, or is stopped, cannot be continued"
        yield Finding("training.checkpoint_contents", message, level=Level.WARNING)


PACKAGES_OF = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",)}
"""Which packages accelerate writes with for a tracker, the usual one first."""


def _trackers(plan: Plan, machine: Machine) -> Iterator[Finding]:
    for name in plan.settings.training.tracking.trackers:
        if not any(machine.has_package(package) for package in PACKAGES_OF[name]):
            message = f"{name} is not installed; pip install {PACKAGES_OF[name][0]}, or leave it out"
            yield Finding("training.report_to", message, exit_code=ExitCode.CANNOT_RUN_HERE, about=About.TRACKER)


def _platform(plan: Plan, machine: Machine) -> Iterator[Finding]:
    if not plan.settings.launch.use_cpu and (reason := machine.why_not_cuda()):
        yield Finding("accelerate.use_cpu", reason, exit_code=ExitCode.CANNOT_RUN_HERE, about=About.GPU)


def _gpus(plan: Plan, gpus: Gpus, machine: Machine) -> Iterator[Finding]:
    launch, cost = plan.settings.launch, plan.estimate
    if launch.use_cpu or not gpus.gpus:
        if plan.model.is_sdxl:
            why = "training on the CPU was chosen" if launch.use_cpu else f"no GPU: {gpus.reason}"
            message = f"{why}; SDXL takes hours a step on a CPU"
            yield Finding("accelerate.use_cpu", message, level=Level.WARNING, about=About.GPU)
        return
    if launch.processes_here > len(gpus.gpus):
        yield Finding(
            "accelerate.num_processes",
            f"{launch.processes_here} processes want a GPU each, and there are {len(gpus.gpus)}",
            exit_code=ExitCode.CANNOT_RUN_HERE,
            about=About.GPU,
        )
    for gpu in gpus.gpus[: launch.processes_here]:
        name = f"GPU {gpu.index} ({gpu.name})"
        needs = f"needs {size(cost.gpu_least_mib)}"
        usable = gpu.free_mib + gpu.used_mib  # without what the driver keeps for itself
        if verdict(cost, usable) is Verdict.DOES_NOT_FIT:
            message = f"{needs} and {name} has {size(usable)}; offload more or lower the batch"
            code = ExitCode.CANNOT_RUN_HERE
            yield Finding("training.train_batch_size", message, exit_code=code, forceable=True, about=About.GPU_MEMORY)
        elif (now := verdict(cost, gpu.free_mib)) is Verdict.DOES_NOT_FIT:
            known = [f"{each.name} (pid {each.pid})" for each in machine.gpu_processes(gpu.uuid) if each.name]
            holders = ", ".join(known[:2]) or "another process"
            message = f"{needs}, and {size(gpu.free_mib)} of {name} are free now: {holders} must end first"
            code = ExitCode.CANNOT_RUN_HERE
            yield Finding("training.train_batch_size", message, exit_code=code, forceable=True, about=About.GPU_MEMORY)
        elif now is Verdict.TIGHT:
            message = (
                f"tight: torch would take {size(cost.gpu_mib)}, and {size(gpu.free_mib)} of {name} are free; it can do "
                f"with {size(cost.gpu_least_mib)}, and gives back what it holds between tensors, which takes time"
            )
            yield Finding("training.train_batch_size", message, level=Level.WARNING, about=About.GPU_MEMORY)


def _host(plan: Plan, host: Host) -> Iterator[Finding]:
    needed = plan.estimate.host_mib
    pinned = plan.settings.deepspeed.offload_optimizer_pin_memory
    advice = "; turning off pinned memory saves what pinning rounds up" if pinned else ""
    if plan.model.is_sdxl and needed > host.total_mib:
        yield Finding(
            "deepspeed.zero_optimization.offload_optimizer.pin_memory",
            f"the run needs {size(needed)} of host RAM, and this machine has {size(host.total_mib)}{advice}",
            exit_code=ExitCode.CANNOT_RUN_HERE,
            forceable=True,
            about=About.HOST_MEMORY,
        )
    elif plan.model.is_sdxl and needed > host.available_mib:
        message = f"the run needs {size(needed)} of host RAM, and {size(host.available_mib)} are available now"
        yield Finding(
            "deepspeed.zero_optimization.offload_optimizer.pin_memory", message, Level.WARNING, about=About.HOST_MEMORY
        )


def _toolchain(plan: Plan, toolchain: Toolchain) -> Iterator[Finding]:
    ds = plan.settings.deepspeed
    if toolchain.complete or ds.optimizer_type in ("Adam", "AdamW"):
        return  # torch's fused AdamW stands in for Adam
    if ds.optimizer_type == "Adagrad" and not ds.offloads:
        return  # torch's own
    yield Finding(
        "deepspeed.optimizer.type",
        f"{ds.optimizer_type} needs an extension of DeepSpeed's that cannot be compiled here; install "
        f"{' '.join(toolchain.missing_packages)} (apt install …), or choose AdamW, which needs none",
        exit_code=ExitCode.CANNOT_RUN_HERE,
        about=About.EXTENSION,
    )
