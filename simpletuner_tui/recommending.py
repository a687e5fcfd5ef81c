"""A recommendation on a walk's answers: what it is made from, and which answers it amounts to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.config.deepspeed import JSON_PATHS
from launcher.config.settings import Settings
from launcher.errors import InvalidInputError
from launcher.machine.host import MIB
from launcher.plan import speed_here
from launcher.preflight import Machine
from launcher.recommend import TUNED, Budget, Miss, Option, Recommendation, deficit, recommend
from simpletuner_tui.answers import read_resolved
from simpletuner_tui.builder.plan import answers_of, of_file
from simpletuner_tui.preview import facts_of_run
from simpletuner_tui.questions.model import Question
from simpletuner_tui.questions.resolving import Resolved, resolve
from simpletuner_tui.text import size, table

OF_TRAINING = ("train_batch_size", "gradient_checkpointing", "gradient_checkpointing_granularity")
"""Keys of the training that a recommendation decides."""

DECIDED = frozenset(
    {
        *(f"training.{key}" for key in OF_TRAINING),
        "accelerate.use_deepspeed",
        "accelerate.zero_stage",
        "accelerate.offload_optimizer",
        "accelerate.offload_param",
        "deepspeed.zero_optimization.offload_optimizer.pin_memory",
        "deepspeed.zero_optimization.offload_param.pin_memory",
        *(f"deepspeed.{JSON_PATHS[key]}" for key in TUNED),
    }
)
"""Ids of all that it decides, whether it is at its default or not; what no question asks is ``deepspeed.extra``."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A recommendation on answers, before anybody has taken it."""

    lines: tuple[str, ...]
    """What it is, costs and changes, and why nothing faster fits."""
    answers: Mapping[str, object]
    """What would be taken; nothing where nothing fits, or where the answers say it already."""


def budget_of(vram_mib: int, machine: Machine, folder: Path) -> Budget:
    """The budget of a card in a machine, with the memory and the disk that are free now.

    Args:
        vram_mib: of the card, for the run.
        machine: it is in.
        folder: on the disk that is written.
    """
    return Budget(vram_mib, machine.host().available_mib, machine.free_bytes(folder) // MIB)


def propose(
    given: Mapping[str, object], resolved: Resolved, base: Path, registry: Sequence[Question], budget: Budget
) -> Proposal:
    """The fastest setting for what was answered so far.

    NVMe offload is allowed where it was answered, to the folder that was answered.

    Args:
        given: answers by id.
        resolved: the same, in force.
        base: the folder that relative paths count from.
        registry: every question.
        budget: what there is for the run.

    Raises:
        InvalidInputError: there is nothing to choose.
    """
    settings = base_of(resolved, base)
    model, data = facts_of_run(settings)
    nvme = settings.deepspeed.offload_optimizer_nvme_path if settings.deepspeed.nvme_parts else ""
    found = recommend(settings, model, budget, nvme=nvme, data=data, speed=speed_here(settings))
    if found.chosen is None:
        return Proposal(tuple(told_lines(found, budget)), {})
    answers = answers_for(found.chosen, given, resolved, base, registry)
    after = resolve(registry, {**given, **answers}, resolved.probes)
    changes = changed_lines(answers, resolved, after) or ["nothing: the answers say this already"]
    return Proposal(tuple(told_lines(found, budget, changes)), answers)


def base_of(resolved: Resolved, base: Path) -> Settings:
    """What a recommendation leaves as it is, from answers so far.

    Args:
        resolved: answers in force; faulty and missing ones are left out.
        base: the folder that relative paths count from.

    Raises:
        InvalidInputError: there is nothing to choose.
    """
    if of_file(resolved):
        raise InvalidInputError("a file says everything about DeepSpeed: answer no to accelerate.ds_use_json first")
    settings = read_resolved(resolved, base).settings
    if settings.launch.use_cpu:
        raise InvalidInputError("training on the CPU was chosen: nothing is to be fitted to a GPU")
    return settings


def answers_for(
    option: Option, given: Mapping[str, object], resolved: Resolved, base: Path, registry: Sequence[Question]
) -> dict[str, object]:
    """The answers that differ when a walk is to train as recommended.

    Args:
        option: what was recommended, from settings of these answers.
        given: answers by id.
        resolved: the same, in force.
        base: the folder that relative paths count from.
        registry: every question.
    """
    chosen = option.settings
    wanted: dict[str, object] = {
        f"training.{key}": getattr(chosen.training.optimization, key)
        for key in OF_TRAINING
        if key != OF_TRAINING[-1] or chosen.training.optimization.gradient_checkpointing
    }
    wanted["accelerate.use_deepspeed"] = chosen.launch.deepspeed
    if not chosen.launch.deepspeed:
        wanted["deepspeed.gradient_accumulation_steps"] = chosen.deepspeed.gradient_accumulation_steps
        wanted["deepspeed.gradient_clipping"] = chosen.deepspeed.gradient_clipping
    answers = {key: value for key, value in wanted.items() if resolved.values.get(key) != value}
    if chosen.launch.deepspeed:
        met = resolve(registry, {**given, **answers}, resolved.probes)
        answers |= answers_of(chosen.deepspeed_json(), {**given, **answers}, met, base, registry)
    return answers


def changed_lines(answers: Mapping[str, object], before: Resolved, after: Resolved) -> list[str]:
    """What answers change, a line each.

    Args:
        answers: taken between the two, by id.
        before: answers in force.
        after: the same then.
    """
    return table(
        (question.id, f"{_shown(question, before)} → {_shown(question, after)}")
        for question in after.asked
        if question.id in answers and before.values.get(question.id) != after.values.get(question.id)
    )


def _shown(question: Question, resolved: Resolved) -> str:
    value = resolved.values.get(question.id)
    return "not asked" if value is None else question.show(value, resolved.context) or "nothing"


def told_lines(recommendation: Recommendation, budget: Budget, changes: Sequence[str] = ()) -> list[str]:
    """A recommendation in words: what it is, costs and changes, and why nothing faster is.

    Args:
        recommendation: what fits, or what comes nearest.
        budget: what it was made for.
        changes: what it would change, a line each.
    """
    there = (
        f"Of {size(budget.vram_mib)} of VRAM, {size(budget.ram_mib)} of host RAM and {size(budget.disk_mib)} of disk:"
    )
    if recommendation.chosen is None:
        return [there, *_nothing_fits(recommendation)]
    lines = [there, f"  {recommendation.chosen}", *_cost_lines(recommendation.chosen)]
    if changes:
        lines += ["", "What it changes:", *(f"  {change}" for change in changes)]
    if recommendation.refused or recommendation.ruled_out:
        lines += ["", "Why nothing faster:", *_refused_lines(recommendation)]
    return lines


def _nothing_fits(recommendation: Recommendation) -> list[str]:
    lines = ["  nothing fits."]
    if (nearest := recommendation.nearest) is not None:
        lines += ["", "The smallest that works:", f"  {nearest.title}", *_deficits(nearest.missed)]
    if recommendation.instead is not None:
        option, how = recommendation.instead
        lines += ["", f"What would fit, {how}:", f"  {option}", *_cost_lines(option)]
    return [*lines, "", "What was tried:", *_refused_lines(recommendation)]


def _cost_lines(option: Option) -> list[str]:
    cost = option.cost
    at_start, training = cost.phase("init"), cost.phase("step")
    lines = [
        f"  each GPU: {size(training.process_mib)} while training, {size(at_start.least_mib)} at the start "
        f"(up to {size(at_start.process_mib)} where there is room)",
        f"  host RAM: {size(cost.host_mib)}   disk: {size(cost.disk_mib)}",
    ]
    if cost.step_time is not None:
        lines.append(f"  {cost.step_time.total:.2f} s a step on this machine's {cost.step_time.gpu}")
    return lines + [f"  {note}" for note in cost.notes]


def _refused_lines(recommendation: Recommendation) -> list[str]:
    lines = []
    for refusal in recommendation.refused:
        lines += [f"  {refusal.title}", *_deficits(refusal.missed)]
    for name, message in recommendation.ruled_out:
        lines += [f"  {name}", f"    {message}"]
    return lines


def _deficits(missed: Sequence[Miss]) -> list[str]:
    return [f"    {deficit(miss)}" for miss in missed]
