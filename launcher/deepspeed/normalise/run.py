"""What the run says unless the configuration does: the batch, accumulation and clipping."""

from launcher.deepspeed.normalise.sheet import Sheet
from launcher.deepspeed.run_facts import RunFacts
from launcher.deepspeed.view import ABSENT

TOTAL = "train_batch_size"
MICRO = "train_micro_batch_size_per_gpu"
STEPS = "gradient_accumulation_steps"
CLIPPING = "gradient_clipping"


def settle_batch(sheet: Sheet, run: RunFacts) -> None:
    """Two of the three batch sizes at least, agreeing where they can; where they cannot, a rule says so."""
    total, micro = sheet.number(TOTAL), sheet.number(MICRO)
    if sheet.missing(STEPS):
        derived = _exact(total, micro, run.world_size) if micro is not None else None
        if derived is not None:
            sheet.set(STEPS, derived, f"what {TOTAL} and {MICRO} amount to")
        else:
            sheet.set(STEPS, run.gradient_accumulation_steps, "the run's gradient_accumulation_steps")
    if sheet.missing(MICRO):
        steps = sheet.number(STEPS)
        derived = _exact(total, steps, run.world_size) if steps is not None else None
        if derived is not None:
            sheet.set(MICRO, derived, f"what {TOTAL} and {STEPS} amount to")
        elif sheet.missing(TOTAL):
            sheet.set(MICRO, run.train_batch_size, "the run's train_batch_size")
    if sheet.raw(TOTAL) == "auto":
        sheet.remove(TOTAL, f"{MICRO} and {STEPS} say it")


def _exact(total: float | None, part: float | None, world_size: int) -> int | None:
    if total is None or not part or part < 1 or total % (part * world_size) or total < 1:
        return None
    return int(total // (part * world_size))


def settle_precision(sheet: Sheet, run: RunFacts) -> None:
    """The run's number format, where no section of the configuration speaks of one."""
    sections = ("bf16", "fp16", "torch_autocast")
    if run.mixed_precision in sections and all(sheet.raw(section) is ABSENT for section in sections):
        reason = "the run's mixed_precision; without it all is fp32"
        sheet.set(run.mixed_precision, {"enabled": True}, reason)


def settle_clipping(sheet: Sheet, run: RunFacts) -> None:
    """Clipping: left out it would be 1.0, whatever the run says."""
    if sheet.missing(CLIPPING) or sheet.raw(CLIPPING) is None:
        reason = "the run's gradient_clipping"
        if sheet.raw(CLIPPING) is not ABSENT:
            reason += f"; DeepSpeed stops at {'auto' if sheet.raw(CLIPPING) else 'null'}"
        sheet.set(CLIPPING, run.gradient_clipping, reason)
