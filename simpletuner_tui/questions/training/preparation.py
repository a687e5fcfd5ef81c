"""How it is asked how pictures are cropped and shared out into buckets."""

from simpletuner_tui.questions.conditions import Is
from simpletuner_tui.questions.training.topic import Topic

BUCKETS = Is("training.crop", False)

PREPARATION = Topic(
    section="Pictures",
    texts={
        "crop": "Crop every picture to a square, instead of aspect buckets?",
        "resolution_type": "What is the resolution of a bucket?",
        "aspect_bucket_alignment": "What should the sides of buckets be multiples of?",
        "minimum_image_size": "Below which shorter side should pictures be left out?",
        "maximum_aspect_ratio": "Beyond which aspect should pictures be left out?",
        "allow_dataset_oversubscription": "May a step take a picture more than once, where a bucket has too few?",
    },
    conditions={
        "resolution_type": BUCKETS,
        "aspect_bucket_alignment": BUCKETS,
    },
    gate="Change how pictures are cropped and shared out into aspect buckets?",
    gate_help="Without a change each picture is scaled to the bucket nearest to its own aspect, with sides that are "
    "multiples of 64, and one step trains on pictures of one bucket.",
    unchanged="aspect buckets at their defaults",
)
