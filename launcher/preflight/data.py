"""What is said of pictures and buckets before a start."""

from collections.abc import Iterator

from launcher.config.setting import Level
from launcher.data.dataset import find, listed
from launcher.data.draws import NOT_OVERSUBSCRIBED, OVERSUBSCRIBED, buckets_of, oversubscribed, table
from launcher.data.extent import extent
from launcher.data.sources import bucketings
from launcher.errors import InvalidInputError
from launcher.plan import Plan
from launcher.preflight.finding import Finding


def resolution(plan: Plan, step: int) -> Iterator[Finding]:
    """Sides of buckets that the model's U-Net cannot halve as often as it does.

    Args:
        plan: what would be launched.
        step: what sides must be multiples of for this model, in pixels.
    """
    for bucketing in dict.fromkeys(bucketings(plan.settings.training)):
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
    where = "training.data_backend_config" if training.sources.data_backend_config else "training.instance_data_dir"
    try:
        dataset = find(training)
    except InvalidInputError as error:
        yield Finding(where, str(error))
        return
    if dataset.later:
        told = f"pictures of {', '.join(dataset.later)} lie in rows and are looked at when the run starts"
        if unknown := extent(training).unknown:
            told += f"; how much disk those of {', '.join(unknown)} take is not known before they are loaded"
        yield Finding(where, told, Level.NOTE)
    if empty := sum(not picture.caption for picture in dataset.pictures):
        verb = "is" if empty == 1 else "are"
        told = f"{empty} of {len(dataset.pictures)} captions {verb} empty, which trains what is drawn without a prompt"
        yield Finding("training.caption_strategy", told, Level.NOTE)
    if not dataset.pictures:
        return
    buckets = buckets_of(dataset.pictures)
    if dataset.left_out:
        message = f"{len(dataset.left_out)} of the pictures are left out:\n  {listed(dataset.left_out)}"
        yield Finding(where, message, Level.WARNING)
    if not dataset.later and batch > (most := sum(bucket.pictures for bucket in buckets)):
        yield Finding(
            "training.train_batch_size",
            f"one step takes {batch} pictures ({training.optimization.train_batch_size} a micro-batch "
            f"x {plan.settings.deepspeed.gradient_accumulation_steps} accumulation x "
            f"{plan.settings.launch.num_processes} processes), but there are only {most}; lower one of "
            "them or add pictures",
        )
    elif not dataset.later and (short := oversubscribed(buckets, batch)):
        if training.preparation.allow_dataset_oversubscription:
            yield Finding("training.train_batch_size", f"{short}: {OVERSUBSCRIBED}", Level.WARNING)
        else:
            yield Finding("training.train_batch_size", f"{short}; {NOT_OVERSUBSCRIBED}")
    if len(buckets) > 1 or len({picture.source for picture in dataset.pictures}) > 1:
        yield Finding(where, table(buckets, batch), Level.NOTE)
