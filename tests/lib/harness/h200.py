"""What ``python -m launcher.probes.bandwidths`` wrote on H200s (``benchmarks/predictions``)."""

from pathlib import Path

from launcher.machine.bandwidths import Bandwidths, bandwidths_file

_FOLDER = Path(__file__).parents[3] / "benchmarks/predictions"
H200, H200_OF_TWO = (
    Bandwidths.from_bytes((_FOLDER / f"bandwidths-{cores}-cores.json").read_bytes()) for cores in (16, 32)
)
"""Of a machine with one, and of one with two. What one pass of Adam takes was not measured on them: it is what three
take, by the 0.6 that ``benchmarks/cpu_adam.py`` told of another."""


def keep(measured: Bandwidths) -> None:
    """As if it had been measured here."""
    file = bandwidths_file(measured.hardware)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(measured.to_bytes())
