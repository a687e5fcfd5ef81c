"""The data set of a run: found once, and the same on every rank."""

from collections.abc import Sequence

from transformers import CLIPTokenizer

from launcher.config.training import TrainingSettings
from launcher.data.dataset import find, listed
from launcher.data.draws import NOT_OVERSUBSCRIBED, OVERSUBSCRIBED, buckets_of, oversubscribed, rows
from launcher.data.pictures import Picture
from launcher.errors import InvalidInputError
from launcher.train.distributed import World
from launcher.train.report import Report


def find_pictures(
    training: TrainingSettings, global_batch_size: int, world: World, report: Report
) -> tuple[Picture, ...]:
    """The pictures, found by rank 0 and told to the others.

    Args:
        training: where they are and how they are cropped.
        global_batch_size: pictures a step takes.
        world: the ranks.
        report: gets the events ``buckets`` and ``rows_removed``, and a warning of what is left out or taken more
            than once in a step.

    Raises:
        LauncherError: what is wrong with them, on every rank; a bucket with fewer pictures than a step takes, where
            the settings do not allow that.
    """
    with report.phase("scan"):
        found = world.on_main(lambda: find(training, unpacked=True))
    for each in found.removed:
        report.event("rows_removed", path=str(each.path), bytes=each.bytes, source=each.source)
    if found.left_out and world.is_main:
        report.warning(f"{len(found.left_out)} of the pictures are left out:\n  {listed(found.left_out)}")
    buckets = buckets_of(found.pictures)
    if short := oversubscribed(buckets, global_batch_size):
        if not training.preparation.allow_dataset_oversubscription:
            raise InvalidInputError(f"{short}; {NOT_OVERSUBSCRIBED}")
        if world.is_main:
            report.warning(f"{short}: {OVERSUBSCRIBED}")
    report.event("buckets", buckets=rows(buckets, global_batch_size))
    return found.pictures


def tell_long_captions(captions: Sequence[str], tokenizer: CLIPTokenizer, report: Report) -> None:
    """Says once how many captions the text encoders do not read to their end."""
    limit = tokenizer.model_max_length
    tokens = {caption: len(ids) for caption, ids in zip(captions, _tokens(captions, tokenizer), strict=True)}
    long = [caption for caption, count in tokens.items() if count > limit]
    if long:
        longest = max(long, key=tokens.__getitem__)
        have = "captions has" if len(long) == 1 else "captions have"
        report.warning(
            f"{len(long)} of {len(captions)} {have} more than the {limit} tokens that the text encoders read: the "
            f"rest is not learnt. The longest has {tokens[longest]}: {longest[:60]!r}..."
        )


def _tokens(captions: Sequence[str], tokenizer: CLIPTokenizer) -> list[list[int]]:
    if not captions:
        return []
    ids: list[list[int]] = tokenizer(list(captions), verbose=False).input_ids
    return ids
