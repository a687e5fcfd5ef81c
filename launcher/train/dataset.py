"""The data set of a run: found once, and the same on every rank."""

from launcher.config.training import TrainingSettings
from launcher.data.dataset import find, listed
from launcher.data.draws import buckets_of, oversubscribed, rows
from launcher.data.pictures import Picture
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
        report: gets the event ``buckets``, and a warning of what is left out or taken more than once in a step.

    Raises:
        LauncherError: what is wrong with them, on every rank.
    """
    found = world.on_main(lambda: find(training))
    if found.left_out:
        report.warning(f"{len(found.left_out)} pictures are left out:\n  {listed(list(found.left_out))}")
    buckets = buckets_of(found.pictures)
    if short := oversubscribed(buckets, global_batch_size):
        report.warning(f"{short}: a step takes some of those more than once")
    report.event("buckets", buckets=rows(buckets, global_batch_size))
    return found.pictures
