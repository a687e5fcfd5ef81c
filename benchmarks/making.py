"""The true SDXL with random weights and square pictures, made once in a folder."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def make_sdxl(out: Path, copies: int) -> tuple[Path, Path]:
    """Returns the folders of the model and of the pictures.

    Args:
        out: gets what is missing.
        copies: of each of the eight square pictures, so that a step of so many is of one bucket and draws none twice.
    """
    subprocess.run([sys.executable, ROOT / "benchmarks/random_sdxl.py", out], check=True)
    square = out / "square"
    square.mkdir(exist_ok=True)
    for file in (out / "pictures").glob("0[0-7].*"):  # the first eight are square
        for copy in range(copies):
            shutil.copy(file, square / f"{copy}-{file.name}")
    return out / "model", square
