"""What a run that continues a checkpoint may do otherwise than the one that made it, and what comes of it."""

from collections.abc import Iterator, Mapping

from launcher.runs.checkpoints import Checkpoint, Identity

SHOULD_AGREE = {
    "model": ("model", "the checkpoint's U-Net is trained on, with this model's VAE and text encoders"),
    "resolution": ("resolution", "training goes on at the new one"),
    "seed": ("seed", "the data order changes from here on"),
    "global_batch_size": ("global batch size", "the data order changes from here on"),
    "prediction_type": ("prediction type", "what it learnt so far it unlearns"),
    "rescale_betas_zero_snr": ("zero terminal SNR", "it goes on with another noise schedule"),
    "pictures": ("number of pictures", "the data order changes from here on"),
}
"""What a run may change, and what comes of it."""
SHOWN = 6
"""Buckets that a message names before it counts the rest."""


def what_changes(checkpoint: Checkpoint, mine: Identity) -> list[str]:
    """What a run that continues a checkpoint does otherwise than the one that made it, in sentences."""
    here = mine.facts()
    told = [
        f"{checkpoint.path} was made with {name} {checkpoint.facts[key]}, now {here[key]}: {consequence}"
        for key, (name, consequence) in SHOULD_AGREE.items()
        if checkpoint.facts.get(key, here[key]) != here[key]
    ]
    return [*told, *_draws(checkpoint, mine)]


def _draws(checkpoint: Checkpoint, mine: Identity) -> Iterator[str]:
    """Buckets and order of the pictures; an earlier checkpoint does not say them."""
    there, order = checkpoint.facts.get("buckets"), checkpoint.facts.get("data_order")
    if there is None or order is None or mine.buckets is None:
        return
    as_many = checkpoint.facts.get("pictures") == mine.pictures
    other_order = order != mine.data_order
    if there.keys() != mine.buckets.keys() or (as_many and there != mine.buckets):
        comes_of_it = "pictures are cropped to other sizes" + (" and the data order changes" if other_order else "")
        told = _told(there, mine.buckets)
        yield f"{checkpoint.path} was made with other buckets ({told}): {comes_of_it} from here on"
    elif other_order and as_many:
        yield (
            f"{checkpoint.path} was made with other pictures, or other repeats or probabilities of their sources: the "
            "data order changes from here on"
        )


def _told(there: Mapping[str, int], here: Mapping[str, int]) -> str:
    sizes = {size: (there.get(size, 0), here.get(size, 0)) for size in (*there, *here)}
    changed = sorted((size for size, (was, now) in sizes.items() if was != now), key=lambda size: -max(sizes[size]))
    named = [f"{size}: {sizes[size][0]} pictures then, {sizes[size][1]} now" for size in changed[:SHOWN]]
    return "; ".join([*named, *([f"and {len(changed) - SHOWN} more"] if len(changed) > SHOWN else [])])
