"""What is said of pictures and buckets before a start."""

from collections.abc import Iterator

from launcher.config.setting import Level
from launcher.data.dataset import find, fitting, listed
from launcher.data.draws import buckets_of, oversubscribed, table
from launcher.errors import InvalidInputError
from launcher.plan import Plan
from launcher.preflight.finding import Finding


def resolution(plan: Plan, step: int) -> Iterator[Finding]:
    """Sides of buckets that the model's U-Net cannot halve as often as it does.

    Args:
        plan: what would be launched.
        step: what sides must be multiples of for this model, in pixels.
    """
    bucketing = fitting(plan.settings.training).bucketing
    side, alignment = bucketing.resolution, bucketing.alignment
    if bucketing.one_square and side % step:
        yield Finding("training.resolution", _multiple(side, step))
    if not bucketing.one_square and alignment % step:
        yield Finding("training.aspect_bucket_alignment", _multiple(alignment, step))


def _multiple(side: int, step: int) -> str:
    below, above = side // step * step, (side // step + 1) * step
    nearest = f"{below} or {above}" if below else str(above)
    return f"must be a multiple of {step} for this model: {nearest}, not {side}"


def data(plan: Plan) -> Iterator[Finding]:
    """Faults of the data set, and how it falls into buckets."""
    training, batch = plan.settings.training, plan.settings.global_batch_size
    try:
        dataset = find(training)
    except InvalidInputError as error:
        yield Finding("training.instance_data_dir", str(error))
        return
    buckets = buckets_of(dataset.pictures)
    if dataset.left_out:
        message = f"{len(dataset.left_out)} pictures are left out:\n  {listed(list(dataset.left_out))}"
        yield Finding("training.instance_data_dir", message, Level.WARNING)
    if batch > (most := sum(bucket.pictures for bucket in buckets)):
        yield Finding(
            "training.train_batch_size",
            f"one step takes {batch} pictures ({training.optimization.train_batch_size} a micro-batch "
            f"x {plan.settings.deepspeed.gradient_accumulation_steps} accumulation x "
            f"{plan.settings.launch.num_processes} processes), but there are only {most}; lower one of "
            "them or add pictures",
        )
    elif short := oversubscribed(buckets, batch):
        if training.preparation.allow_dataset_oversubscription:
            told = (
                f"{short}: a step takes some of those more than once, and each is still drawn as often as every other"
            )
            yield Finding("training.train_batch_size", told, Level.WARNING)
        else:
            mend = "lower the batch, add pictures, take larger steps between buckets with "
            mend += "training.aspect_bucket_alignment, or allow it with training.allow_dataset_oversubscription"
            yield Finding("training.train_batch_size", f"{short}; {mend}")
    if len(buckets) > 1:
        yield Finding("training.instance_data_dir", table(buckets, batch), Level.NOTE)
