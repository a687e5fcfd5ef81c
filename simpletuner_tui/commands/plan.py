"""``plan``: the fastest setting that fits a budget, and why no faster one does."""

import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from launcher.config.settings import Settings
from launcher.data.extent import NOTHING, Extent, extent
from launcher.errors import ExitCode, InvalidInputError, RefusedToOverwriteError
from launcher.estimate import SDXL, read_model_facts
from launcher.machine.disk import free_bytes
from launcher.machine.gpus import Gpus, read_nvml, visible
from launcher.machine.host import read_host
from launcher.plan import speed_here
from launcher.recommend import Budget, Miss, Option, Recommendation, Refusal, deficit, recommend
from launcher.recommend.placements import CHECKPOINTING, recomputing
from simpletuner_tui.answers import Answers, write_answers
from simpletuner_tui.commands.deepspeed_check import print_json
from simpletuner_tui.commands.replay import typed
from simpletuner_tui.launching import wait_for_trace
from simpletuner_tui.messages import tell
from simpletuner_tui.paths import typed_path
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.questions.resolving import Resolved, resolve
from simpletuner_tui.recommending import DECIDED, answers_for, base_of, told_lines
from simpletuner_tui.saving import saving
from simpletuner_tui.session import probe_machine
from simpletuner_tui.setups import remember

BEGUN_WITH: dict[str, object] = {
    "training.checkpoints_total_limit": 1,
    "accelerate.use_deepspeed": True,
    "accelerate.use_clip": True,
    "accelerate.mixed_precision": "bf16",
}
"""What a plan begins with where ``--set`` says nothing else."""


def plan(arguments: Namespace) -> ExitCode:
    """Chooses, tells and, where it is wanted, writes the answers.

    Raises:
        InvalidInputError: an option means nothing, or there is no GPU to take a budget from.
        RefusedToOverwriteError: another file is there.
    """
    gpus = visible(read_nvml(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    budget = _budget(arguments, gpus)
    answers = _begun(arguments, gpus)
    resolved = _resolved(answers)
    base = base_of(resolved, answers.base)
    model = base.training.model.pretrained_model_name_or_path
    for granularity in CHECKPOINTING:
        wait_for_trace(recomputing(base, granularity))
    found = recommend(
        base,
        read_model_facts(model) if model else SDXL,
        budget,
        batch=arguments.batch,
        nvme=str(typed_path(arguments.nvme).absolute()) if arguments.nvme else "",
        data=_data(base),
        speed=speed_here(base),
    )
    after = resolved
    if found.chosen is not None:
        chosen = answers_for(found.chosen, answers.values, resolved, answers.base, REGISTRY)
        after = _resolved(Answers({**answers.values, **chosen}, answers.base))
    if arguments.json:
        print_json(_told(found, budget, after))
    else:
        print("\n".join(told_lines(found, budget)))  # noqa: T201
    if found.chosen is None:
        tell("error: nothing fits this budget")
        return ExitCode.CANNOT_RUN_HERE
    if arguments.output:
        _write(arguments, after, answers.base)
    return ExitCode.OK


def _data(base: Settings) -> Extent:
    training = base.training
    named = training.data.instance_data_dir or training.sources.data_backend_config
    return extent(training) if named else NOTHING


def _budget(arguments: Namespace, gpus: Gpus) -> Budget:
    """What was given, and of the rest what is free here now."""
    if arguments.vram is None and not gpus.gpus:
        raise InvalidInputError(f"--vram is needed, such as --vram 12GiB: there is no GPU here ({gpus.reason})")
    return Budget(
        arguments.vram or min(gpu.free_mib for gpu in gpus.gpus),
        arguments.ram or read_host().available_mib,
        arguments.disk or free_bytes(Path.cwd()) // 2**20,
    )


def _begun(arguments: Namespace, gpus: Gpus) -> Answers:
    """The answers a plan begins with: what was asked for, and what is usual."""
    ranks = arguments.gpus or (len(gpus.gpus) if arguments.vram is None else 1)
    begun = BEGUN_WITH | {"training.resolution": arguments.resolution, "accelerate.gas": arguments.accumulation}
    if ranks > 1:
        begun |= {"accelerate.machine": "MULTI_GPU", "accelerate.num_processes": ranks}
    return Answers(begun).with_typed(typed(arguments), Path.cwd(), REGISTRY)


def _resolved(answers: Answers) -> Resolved:
    resolved = resolve(REGISTRY, answers.values, probe_machine())
    if wrong := [f"{key}: {fault}" for key, fault in resolved.faults.items() if key in answers.values]:
        raise InvalidInputError("\n".join(wrong))
    return resolved


def _said(resolved: Resolved) -> set[str]:
    """Ids of the answers that are written: what was answered, and all that was decided."""
    return {*resolved.answered, *DECIDED}


def _write(arguments: Namespace, resolved: Resolved, base: Path) -> None:
    path = typed_path(arguments.output)
    planned = saving(path, write_answers(resolved, base, path.absolute().parent, only=_said(resolved)))
    if planned.before is not None and not planned.changes_nothing and not arguments.force:
        raise RefusedToOverwriteError(
            f"{path} is there already; --force replaces it, and keeps it as {planned.backup.name}"
        )
    planned.write()
    remember(path)
    needed = " ".join(f"--set {key}=…" for key in resolved.faults)
    tell(f"written to {path}: simpletuner-tui --replay {path} {needed}".rstrip() + " starts it")


def _told(found: Recommendation, budget: Budget, resolved: Resolved) -> dict[str, Any]:
    return {
        "budget": {"vram_mib": budget.vram_mib, "ram_mib": budget.ram_mib, "disk_mib": budget.disk_mib},
        "chosen": _option(found.chosen),
        "answers": {key: value for key, value in resolved.values.items() if key in _said(resolved)},
        "refused": [_refusal(each) for each in found.refused],
        "ruled_out": [{"setting": name, "message": message} for name, message in found.ruled_out],
        "nearest": _refusal(found.nearest) if found.nearest else None,
        "instead": {**(_option(found.instead[0]) or {}), "how": found.instead[1]} if found.instead else None,
    }


def _option(option: Option | None) -> dict[str, Any] | None:
    if option is None:
        return None
    variant = option.variant
    return {
        "setting": str(option),
        "deepspeed": variant.placement.deepspeed,
        "zero_stage": variant.placement.stage,
        "offload_optimizer": variant.placement.optimizer,
        "offload_param": variant.placement.parameters,
        "train_batch_size": variant.batch,
        "gradient_accumulation_steps": option.settings.deepspeed.gradient_accumulation_steps,
        "recomputed": variant.checkpointing,
        "estimate": option.cost.to_json(),
    }


def _refusal(refusal: Refusal) -> dict[str, Any]:
    return {
        "setting": str(refusal.option),
        "otherwise": "" if refusal.is_whole else refusal.title,
        "missed": [_miss(miss) for miss in refusal.missed],
    }


def _miss(miss: Miss) -> dict[str, Any]:
    return {
        "budget": miss.kind,
        "phase": miss.phase,
        "needed_mib": miss.needed_mib,
        "has_mib": miss.has_mib,
        "short_mib": miss.short_mib,
        "message": deficit(miss),
    }
