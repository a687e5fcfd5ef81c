"""``python -m launcher.train.demo OUT``: makes OUT/pictures and OUT/model, unless they are there."""

import os
import shutil
import sys
from pathlib import Path

from launcher.train.demo.sprites import draw_sprites

# Making the model takes a moment on the CPU; what the libraries say about missing extras concerns nobody here.
os.environ.update({"DS_ACCELERATOR": "cpu", "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"})


def main() -> int:
    """Makes what is missing; each folder appears whole."""
    if len(sys.argv) != 2:
        print("usage: python -m launcher.train.demo OUT", file=sys.stderr)  # noqa: T201
        return 2
    out = Path(sys.argv[1])
    for name, make in (("pictures", draw_sprites), ("model", _make_model)):
        folder, unfinished = out / name, out / f".{name}.unfinished"
        if folder.exists():
            continue
        print(f"making {folder}", flush=True)  # noqa: T201
        shutil.rmtree(unfinished, ignore_errors=True)
        make(unfinished)
        unfinished.rename(folder)
    return 0


def _make_model(folder: Path) -> None:
    """A tiny SDXL; its VAE learns the pictures for half a minute."""
    from launcher.train.demo.tiny_sdxl import make_tiny_sdxl  # noqa: PLC0415 - imports torch, seconds

    make_tiny_sdxl(folder)


if __name__ == "__main__":
    sys.exit(main())
