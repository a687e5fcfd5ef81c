"""The batch triangle, accumulation, and what the run says too."""

from collections.abc import Callable

from launcher.config.setting import Level, counted
from launcher.deepspeed.fields import shown
from launcher.deepspeed.rules.rule import Rule
from launcher.deepspeed.run_facts import RunFacts
from launcher.deepspeed.view import View

_TOTAL = "train_batch_size"
_MICRO = "train_micro_batch_size_per_gpu"
_STEPS = "gradient_accumulation_steps"


def _triangle(view: View, run: RunFacts) -> tuple[int, int, int] | None:
    """Total, micro-batch and accumulation as DeepSpeed works them out; None where it cannot."""
    total, micro, steps = (view.get(path) for path in (_TOTAL, _MICRO, _STEPS))
    world = run.world_size
    if total is None and micro is None:
        return None
    if total is None:
        steps = steps or 1
        return micro * steps * world, micro, steps
    if micro is None:
        steps = steps or 1
        return total, total // world // steps, steps
    return total, micro, steps or total // micro // world


def _does_not_divide(view: View, run: RunFacts) -> bool:
    sizes = _triangle(view, run)
    return sizes is not None and (0 in sizes or sizes[0] != sizes[1] * sizes[2] * run.world_size)


def _sizes(view: View, run: RunFacts) -> str:
    total, micro, steps = _triangle(view, run) or (0, 0, 0)
    return (
        f"{counted(str(total), 'pictures')} per step are not {micro} per GPU x {counted(str(steps), 'micro-batches')} "
        f"x {counted(str(run.world_size), 'GPUs')} = {micro * steps * run.world_size}"
    )


def _other_than_run(path: str, fact: str) -> Rule:
    def differs(view: View, run: RunFacts) -> bool:
        return fact in run.said and view.has(path) and view.get(path) != getattr(run, fact)

    def told(view: View, run: RunFacts) -> str:
        return (
            f"{shown(view.get(path))} stands here and {shown(getattr(run, fact))} in the run ({fact}): this one holds"
        )

    return Rule(
        f"not-the-runs-{fact.replace('_', '-')}",
        (path,),
        differs,
        told,
        "take it out here to follow the run",
        "DeepSpeed reads this file alone",
        Level.WARNING,
    )


def _is(path: str, value: object) -> Callable[[View, RunFacts], bool]:
    return lambda view, _: bool(view.get(path) == value)


BATCH = (
    Rule(
        "batch-missing",
        (_MICRO,),
        lambda view, _: view.get(_TOTAL) is None and view.get(_MICRO) is None,
        "without train_batch_size and train_micro_batch_size_per_gpu DeepSpeed does not start",
        f"set {_MICRO}",
        "run: AssertionError, Either train_batch_size or train_micro_batch_size_per_gpu needs to be provided",
    ),
    Rule(
        "batch-triangle",
        (_TOTAL, _MICRO, _STEPS),
        _does_not_divide,
        _sizes,
        f"change one, or take {_TOTAL} out and let it be computed",
        "run: AssertionError, Check batch related parameters",
    ),
    Rule(
        "accumulation-unmanaged",
        ("managed_gradient_accumulation",),
        lambda view, _: view.raw("managed_gradient_accumulation") is False,
        "every micro-batch would be an optimizer step: the training here leaves counting them to DeepSpeed",
        "take it out",
        "run: with 4 micro-batches to accumulate, 4 updates",
    ),
    Rule(
        "stage-1-moves-less",
        ("zero_optimization.stage", _STEPS),
        lambda view, _: view.stage == 2 and view.offloads and (view.get(_STEPS) or 1) > 1,
        lambda view, _: (
            f"stage 2 with CPU offload copies gradients at each of {view.get(_STEPS)} micro-batches, stage 1 once per "
            "step: a third of the traffic at 4, or less"
        ),
        "if 2 more bytes a parameter fit on the GPU, choose stage 1 in the builder or a JSON file (accelerate's own "
        "questions offload nothing there)",
        "run: bytes counted at stages 1 and 2",
        Level.WARNING,
    ),
    Rule(
        "sum-at-stage-3",
        ("gradient_allreduce_op",),
        lambda view, _: str(view.get("gradient_allreduce_op")).lower() == "sum" and view.stage == 3,
        "gradients cannot be summed at stage 3",
        "choose mean",
        "run: ValueError, gradient_allreduce_op='sum' is not supported with ZeRO stage 3",
    ),
    Rule(
        "sum-multiplies",
        ("gradient_allreduce_op",),
        lambda view, run: (
            str(view.get("gradient_allreduce_op")).lower() == "sum" and view.stage < 3 and run.world_size > 1
        ),
        lambda _, run: f"gradients are summed over {run.world_size} GPUs instead of averaged",
        "choose mean, or divide the learning rate",
        "run: of three processes the norm is three times the mean's",
        Level.WARNING,
    ),
    Rule(
        "prescaling-with-reduce-scatter",
        ("prescale_gradients", "gradient_predivide_factor"),
        lambda view, _: (
            view.stage >= 2
            and view.get("zero_optimization.reduce_scatter")
            and (view.get("prescale_gradients") or view.get("gradient_predivide_factor") != 1)
        ),
        "gradients cannot be divided before they are reduced at stages 2 and 3",
        "take both out, or turn zero_optimization.reduce_scatter off",
        "run: AssertionError, pre-scale gradients is not yet supported",
    ),
    Rule(
        "divided-by-nothing",
        ("gradient_predivide_factor",),
        lambda view, _: view.get("gradient_predivide_factor") == 0,
        "gradients cannot be divided by 0",
        "take it out",
        "run: ZeroDivisionError at stage 0",
    ),
    Rule(
        "nothing-learnt",
        ("optimizer.params.lr",),
        _is("optimizer.params.lr", 0),
        "at a learning rate of 0 nothing is learnt",
        "set one",
        "run: no weight moved",
        Level.WARNING,
    ),
    _other_than_run(_MICRO, "train_batch_size"),
    _other_than_run(_STEPS, "gradient_accumulation_steps"),
    _other_than_run("gradient_clipping", "gradient_clipping"),
    _other_than_run("optimizer.params.lr", "learning_rate"),
)
