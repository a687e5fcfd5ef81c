"""The schedule: one there is, with only the parameters it takes and all that it cannot do without."""

from launcher.deepspeed.fields.scheduler import PARAMETERS
from launcher.deepspeed.normalise.sheet import Sheet
from launcher.deepspeed.run_facts import RunFacts
from launcher.deepspeed.view import ABSENT

_TYPE = "scheduler.type"
_PARAMS = "scheduler.params"
_STEPS = f"{_PARAMS}.warmup_num_steps"
_HIGHEST = f"{_PARAMS}.warmup_max_lr"
_TOTAL = f"{_PARAMS}.total_num_steps"


def settle_scheduler(sheet: Sheet, run: RunFacts) -> None:
    """Name and parameters; the optimizer's learning rate is settled already."""
    rate = sheet.number("optimizer.params.lr")
    warmup = max(1, run.lr_warmup_steps)
    if sheet.raw("scheduler") is ABSENT:
        params = {"warmup_min_lr": 0.0, "warmup_max_lr": rate, "warmup_num_steps": warmup}
        if sheet.view.optimizer == "muon":
            del params["warmup_max_lr"]  # then each of its two parts goes up to its own
        if rate is not None:
            sheet.set(
                "scheduler", {"type": "WarmupLR", "params": params}, "no schedule: WarmupLR with the run's warm-up"
            )
        return
    if not isinstance(sheet.raw("scheduler"), dict):
        return
    if sheet.raw(_TYPE) in (ABSENT, None):
        sheet.set(_TYPE, "WarmupLR", "the schedule has no name")
    if sheet.raw(_PARAMS) in (ABSENT, None):
        sheet.set(_PARAMS, {}, "DeepSpeed wants an object, even an empty one")
    params = sheet.raw(_PARAMS)
    if not isinstance(params, dict):
        return
    _settle_warmup(sheet, warmup)
    known = PARAMETERS.get(sheet.view.scheduler)
    if known is None:
        return
    for key in [key for key in params if key not in known]:
        sheet.drop(_PARAMS, key, f"{sheet.view.scheduler} does not take it")
    if "total_num_steps" in known and sheet.missing(_TOTAL):
        sheet.set(_TOTAL, run.max_train_steps, "the run's max_train_steps")
    if "warmup_max_lr" in known and rate is not None and _left_to_default(sheet):
        sheet.set(_HIGHEST, rate, "the optimizer's learning rate")


def _settle_warmup(sheet: Sheet, warmup: int) -> None:
    steps = sheet.raw(_STEPS)
    if steps == "auto":
        sheet.set(_STEPS, warmup, "the run's lr_warmup_steps")
    elif steps == 0 and not isinstance(steps, bool):
        sheet.set(_STEPS, 1, "DeepSpeed refuses 0 steps of warm-up")


def _left_to_default(sheet: Sheet) -> bool:
    # WarmupLR takes the optimizer's rate where none stands; WarmupDecayLR takes 0.001.
    return sheet.raw(_HIGHEST) == "auto" or (sheet.raw(_HIGHEST) is ABSENT and sheet.view.scheduler == "WarmupDecayLR")
