"""What each schedule cannot do without, and what it overrides."""

from launcher.config.setting import Level
from launcher.deepspeed.fields.scheduler import PARAMETERS, REQUIRED
from launcher.deepspeed.rules.rule import Rule
from launcher.deepspeed.view import View

_P = "scheduler.params"
_O = "optimizer.params"
_HIGHEST = f"{_P}.warmup_max_lr"
_WARMUP = f"{_P}.warmup_num_steps"
_TOTAL = f"{_P}.total_num_steps"
_DECAYS = ("WarmupDecayLR", "WarmupCosineLR")


def _lacking(view: View) -> list[str]:
    return [key for key in REQUIRED.get(view.scheduler, ()) if view.raw(f"{_P}.{key}") is None or _absent(view, key)]


def _absent(view: View, key: str) -> bool:
    return not view.has(f"{_P}.{key}")


def _untaken(view: View) -> list[str]:
    known, params = PARAMETERS.get(view.scheduler), view.raw(_P)
    return [] if known is None or not isinstance(params, dict) else [key for key in params if key not in known]


def highest_rate(view: View) -> float | None:
    """The learning rate a schedule reaches; None where it is the optimizer's or has no end."""
    if view.scheduler == "WarmupDecayLR" and _absent(view, "warmup_max_lr"):
        return 0.001
    path = {"WarmupLR": _HIGHEST, "WarmupDecayLR": _HIGHEST, "OneCycle": f"{_P}.cycle_max_lr"}.get(view.scheduler)
    rate = view.get(path) if path else None
    return None if rate is None else float(rate)


def _overridden(view: View) -> dict[str, float]:
    """The optimizer's learning rates that the schedule replaces by another, by name."""
    rate = highest_rate(view)
    of_muon = [name for name in ("muon_lr", "adam_lr") if view.optimizer == "muon" and view.has(f"{_O}.{name}")]
    names = of_muon if len(of_muon) == 2 else ["lr", *of_muon]
    rates = {name: float(view.get(f"{_O}.{name}")) for name in names}
    return {} if rate is None else {name: own for name, own in rates.items() if own != rate}


SCHEDULER = (
    Rule(
        "schedule-without-parameters",
        (_P, "scheduler.type"),
        lambda view, _: bool(view.scheduler) and not isinstance(view.raw(_P), dict),
        "DeepSpeed wants params, even empty ones",
        "add an empty object",
        "run: TypeError, argument after ** must be a mapping, not NoneType",
    ),
    Rule(
        "schedule-lacks",
        (_P, "scheduler.type"),
        lambda view, _: isinstance(view.raw(_P), dict) and bool(_lacking(view)),
        lambda view, _: f"{view.scheduler} cannot do without {' and '.join(_lacking(view))}",
        "set it",
        "run: TypeError, missing required positional argument",
    ),
    Rule(
        "schedule-parameter",
        (_P,),
        lambda view, _: bool(_untaken(view)),
        lambda view, _: f"{view.scheduler} does not take {', '.join(_untaken(view))}",
        "take it out",
        "run: TypeError, got an unexpected keyword argument",
    ),
    Rule(
        "warmup-longer-than-run",
        (_WARMUP,),
        lambda view, run: view.scheduler.startswith("Warmup") and view.get(_WARMUP) > run.max_train_steps,
        lambda view, run: (
            f"warm-up takes {view.get(_WARMUP)} steps and the run {run.max_train_steps}: the learning rate never "
            "reaches its value"
        ),
        "warm up for fewer",
        "code: deepspeed/runtime/lr_schedules.py",
        Level.WARNING,
    ),
    Rule(
        "schedule-ends-early",
        (_TOTAL,),
        lambda view, run: view.scheduler in _DECAYS and (view.get(_TOTAL) or run.max_train_steps) < run.max_train_steps,
        lambda view, run: (
            f"the schedule ends after {view.get(_TOTAL)} steps and the run after {run.max_train_steps}: the rest "
            "learns nothing, or next to it"
        ),
        "set it to the run's steps",
        "run: the learning rate stayed at its end",
        Level.WARNING,
    ),
    Rule(
        "schedule-overrides-rate",
        (_HIGHEST, f"{_P}.cycle_max_lr", "scheduler.type"),
        lambda view, _: bool(_overridden(view)),
        lambda view, _: (
            f"{view.scheduler} goes up to {highest_rate(view):g} and overrides the optimizer's learning rate, "
            f"{' and '.join(f'{rate:g}' for rate in _overridden(view).values())}"
        ),
        "say the same in both",
        "run: the rates of four steps",
        Level.WARNING,
    ),
    Rule(
        "range-test",
        ("scheduler.type",),
        lambda view, _: view.scheduler == "LRRangeTest",
        "LRRangeTest raises the learning rate until training breaks, whatever the optimizer's is: it is a test",
        "choose WarmupLR to train",
        "run: the rates of four steps",
        Level.WARNING,
    ),
    Rule(
        "cycle-overrides-betas",
        (f"{_P}.cycle_momentum", "scheduler.type"),
        lambda view, _: (
            view.scheduler == "OneCycle" and view.get(f"{_P}.cycle_momentum") and view.optimizer != "adagrad"
        ),
        "OneCycle moves the first beta between cycle_min_mom and cycle_max_mom and sets the second to 0.99",
        f"turn {_P}.cycle_momentum off to keep the optimizer's",
        "run: betas of 0.8 and 0.99 after four steps",
        Level.WARNING,
    ),
)
