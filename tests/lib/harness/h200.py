"""What ``python -m launcher.probes.bandwidths`` wrote on H200s (``benchmarks/predictions``)."""

from pathlib import Path

from launcher.machine.bandwidths import Bandwidths

_FOLDER = Path(__file__).parents[3] / "benchmarks/predictions"
H200, H200_OF_TWO = (
    Bandwidths.from_bytes((_FOLDER / f"bandwidths-{cores}-cores.json").read_bytes()) for cores in (16, 32)
)
"""Of a machine with one, and of one with two."""
