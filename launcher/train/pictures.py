"""From a picture file to what the VAE sees, and where that lies in the picture."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps

from launcher.data.pictures import Picture


@dataclass(frozen=True, slots=True)
class Geometry:
    """SDXL's size conditioning; each pair is (height, width) or (top, left), in pixels."""

    original_size: tuple[int, int]
    crop_top_left: tuple[int, int]
    target_size: tuple[int, int]

    def time_ids(self) -> torch.Tensor:
        """(6,) fp32, in the order of StableDiffusionXLPipeline's ``_get_add_time_ids``."""
        return torch.tensor([*self.original_size, *self.crop_top_left, *self.target_size], dtype=torch.float32)


def geometry(picture: Picture) -> Geometry:
    """Where the centre crop of a picture scaled to fill its bucket lies."""
    width, height = _scaled(picture)
    bucket = picture.bucket
    return Geometry(
        original_size=(picture.height, picture.width),
        crop_top_left=((height - bucket.height) // 2, (width - bucket.width) // 2),
        target_size=(bucket.height, bucket.width),
    )


def load_pixels(picture: Picture) -> torch.Tensor:
    """The middle of a picture, scaled to fill its bucket.

    Returns:
        (3, height, width) fp32 in [-1, 1], of the bucket's size. Transparency is laid on white.

    Raises:
        OSError: the file is truncated or damaged.
    """
    with Image.open(picture.path) as opened:
        opened.load()
        image = _to_rgb(ImageOps.exif_transpose(opened))
    width, height = _scaled(picture)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    top, left = geometry(picture).crop_top_left
    image = image.crop((left, top, left + picture.bucket.width, top + picture.bucket.height))
    pixels = torch.from_numpy(np.array(image, dtype=np.float32))
    return pixels.permute(2, 0, 1).contiguous() / 127.5 - 1.0


def _scaled(picture: Picture) -> tuple[int, int]:
    """(width, height) that just fills the bucket, in the picture's own aspect."""
    bucket = picture.bucket
    scale = max(bucket.width / picture.width, bucket.height / picture.height)
    return max(bucket.width, round(picture.width * scale)), max(bucket.height, round(picture.height * scale))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        # 16-bit grey: PIL's own conversion clips at 255 instead of scaling.
        image = Image.fromarray((np.asarray(image, dtype=np.float64) / 257).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")
