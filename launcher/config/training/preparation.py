"""How pictures are cropped and shared out into buckets."""

from dataclasses import dataclass

from launcher.config.setting import setting


@dataclass(frozen=True, slots=True)
class PreparationSettings:
    """How pictures are cropped and shared out into buckets."""

    crop: bool = setting(
        False,
        "Take the middle square of each picture. No: aspect buckets, each picture in the one nearest to its aspect.",
    )
    resolution_type: str = setting(
        "pixel_area",
        "What the resolution is of a bucket. pixel_area: the side of a square of about the same area. "
        "pixel: its shorter side, so that elongated buckets are larger.",
        choices=("pixel_area", "pixel"),
    )
    aspect_bucket_alignment: int = setting(
        64,
        "What the sides of buckets are multiples of. At a resolution below it there is one bucket, a square.",
        unit="px",
        minimum=8,
        maximum=512,
    )
    minimum_image_size: int = setting(
        0,
        "Pictures whose shorter side is below this are left out, and others enlarged to fill their bucket. "
        "0: a picture that does not fill its bucket is refused.",
        unit="px",
        minimum=0,
        maximum=4096,
    )
    maximum_aspect_ratio: float = setting(
        0.0,
        "Pictures more elongated than this, longer side to shorter, are left out. "
        "0: those more elongated than 4 to 1, which is the last bucket, are refused.",
        minimum=0,
        maximum=64,
    )
    allow_dataset_oversubscription: bool = setting(
        True,
        "Where a bucket has fewer pictures than one step takes, a step takes some of them more than once. "
        "No: such a bucket is refused.",
    )
