"""``python -m launcher.train.demo OUT``: makes OUT/pictures and OUT/model, unless they are there."""

import shutil
import sys
from pathlib import Path

from launcher.train.demo.sprites import draw_sprites
from launcher.train.demo.tiny_sdxl import make_tiny_sdxl


def main() -> int:
    """Makes what is missing; each folder appears whole."""
    out = Path(sys.argv[1])
    for name in ("pictures", "model"):
        folder, unfinished = out / name, out / f".{name}.unfinished"
        if folder.exists():
            continue
        shutil.rmtree(unfinished, ignore_errors=True)
        if name == "pictures":
            print(f"drawing pictures into {folder}", flush=True)  # noqa: T201
            draw_sprites(unfinished)
        else:
            print(f"making a tiny SDXL in {folder} (its VAE learns the pictures for a moment)", flush=True)  # noqa: T201
            make_tiny_sdxl(unfinished)
        unfinished.rename(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
