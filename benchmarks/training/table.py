"""``python -m benchmarks.training.table OUT [--write README.md]``: Markdown of what was measured.

OUT is a folder that ``python -m benchmarks.training`` measured in, or its JSON. ``--write`` replaces what stands between
``<!-- benchmarks: begin -->`` and ``<!-- benchmarks: end -->`` in a file.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.reading import BEFORE, BETWEEN, WARM_UP
from benchmarks.training.rows import PEERS, ROWS, Row, Setting, tiny

MEASURED = Path(__file__).parent / "measured.json"
"""What the README's table is made of."""
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
MOST_OVERHEAD = 0.02
"""Of the launcher's loop over its engine alone."""
UNKNOWN = "-"
Measured = Mapping[str, Any]


def markdown(content: Measured) -> str:
    """All tables, each with what it needs to be read.

    Args:
        content: the JSON, as ``results`` writes it.
    """
    rows = [tiny(row) for row in ROWS.values()] if content.get("tiny") else list(ROWS.values())
    parts = (
        [_machine(machine) for machine in content["machines"].values()],
        _beside_stock(content, rows),
        _two_gpus(content, rows),
        _bare(content, rows),
        _peers(content),
    )
    return "\n\n".join("\n".join(part) for part in map(list, parts) if part) + "\n"


def figure(measured: Measured | None) -> int | None:
    """MiB on the GPU: the process's own, or where NVML does not tell that what the used memory grew by."""
    if not measured:
        return None
    own = measured["process_mib"]
    return measured["device_mib"] if own is None else own


def seconds(measured: Measured | None, phase: str = "total") -> float | None:
    """Of a step, the median after the warm-up."""
    return measured["step_seconds"][phase] if measured and measured["step_seconds"] else None


def apart(one: Measured | None, other: Measured | None) -> float | None:
    """The largest relative difference of two measurements' losses, step by step."""
    if not one or not other or not one["losses"] or len(one["losses"]) != len(other["losses"]):
        return None
    return max(abs(a - b) / abs(b) for a, b in zip(one["losses"], other["losses"], strict=True))


def _of(content: Measured, kind: str, name: str) -> Measured | None:
    """A measurement that came to its end."""
    found = content.get(kind, {}).get(name)
    return found if found and found["code"] == 0 else None


def _machine(machine: Measured) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    speeds = machine["bandwidths"]
    gpu = f"{machine['gpus']} x {machine['gpu']} (driver {machine['driver']}), " if machine["gpus"] else "no GPU, "
    pcie = speeds["gpu"] and f"PCIe {speeds['gpu']['up_gb_s']:.1f} GB/s up and {speeds['gpu']['down_gb_s']:.1f} down, "
    adam = f"CPU Adam {speeds['host']['adam_elements_s'] / 1e6:,.0f} million elements/s"
    return (
        f"On {gpu}{machine['cpu']}, {machine['cores']} cores, {machine['ram_gib']} GiB; {versions}; {pcie or ''}"
        f"host memory {speeds['host']['copy_gb_s']:.0f} GB/s, {adam}."
    )


def _beside_stock(content: Measured, rows: Sequence[Row]) -> Iterator[str]:
    shown = [row for row in rows if row.name in content.get("ours", {})]
    if not shown:
        return
    yield from _head(
        "", "process, MiB", "stock", "may be", "", "peak in",
        "a step, s", "stock", "ratio", "may be", "", "host, GiB", "stock", "losses apart",
    )  # fmt: skip
    for row in shown:
        ours, stock = _of(content, "ours", row.name), _of(content, "stock", row.setting.name)
        taken, ratio = figure(ours), _ratio(seconds(ours), seconds(stock))
        foreign = ours and stock and not _of_one_machine(ours, stock)
        yield _line(
            row.name + (" (stock on another machine)" if foreign else ""),
            _whole(taken), _whole(figure(stock)), _whole(row.most_mib), _within(taken, row.most_mib), _peak(ours),
            _two(seconds(ours)), _two(seconds(stock)), _two(ratio), _two(row.most_times),
            _within(ratio and round(ratio, 2), row.most_times),
            _host(ours, row.most_host_gib), _host(stock), _small(apart(ours, stock)),
        )  # fmt: skip


def _two_gpus(content: Measured, rows: Sequence[Row]) -> Iterator[str]:
    lines = [line for row in rows if row.setting.gpus > 1 for line in _scaling(content, row)]
    if lines:
        yield from _head("scaling", "a step on two, s", "on one", "pictures a second, times one GPU's", "stock's")
        yield from lines


def _scaling(content: Measured, row: Row) -> Iterator[str]:
    """A row of two GPUs, where its machine was measured with one, too."""
    alone = replace(row, setting=replace(row.setting, gpus=1))
    two, one = _of(content, "ours", row.name), _of(content, "ours", alone.name)
    stock, of_one = (_of(content, "stock", setting.name) for setting in (row.setting, alone.setting))
    faster, of_stock = _faster(one, two, row.setting), _faster(of_one, stock, row.setting)
    if faster:
        yield _line(alone.name, _two(seconds(two)), _two(seconds(one)), _two(faster), _two(of_stock))


def _bare(content: Measured, rows: Sequence[Row]) -> Iterator[str]:
    shown = [row for row in rows if row.name in content.get("bare", {})]
    if not shown:
        return
    # Of two runs' times differences of a few per cent are chance; what is not in the engine's calls is told by one run.
    yield from _head(
        "loop over its engine", "a step, s", "engine alone", "more", "may be", "",
        "outside the engine's calls, ms", "losses apart",
    )  # fmt: skip
    for row in shown:
        ours, bare = _of(content, "ours", row.name), _of(content, "bare", row.name)
        alone = seconds(bare) if _of_one_machine(ours, bare) else None
        ratio = _ratio(seconds(ours), alone)
        more = None if ratio is None else ratio - 1
        yield _line(
            row.name, _two(seconds(ours), 3), _two(alone, 3), _percent(more), _percent(MOST_OVERHEAD),
            _within(more and round(more, 3), MOST_OVERHEAD), _two(_outside(ours), 1), _small(apart(ours, bare)),
        )  # fmt: skip


def _peers(content: Measured) -> Iterator[str]:
    shown = [peer for name, peer in PEERS.items() if name in content.get("peers", {})]
    if not shown:
        return
    yield from _head("peers", "", "process, MiB", "a step, s", "host, GiB", "not exact in", "losses apart from stock's")
    for peer in shown:
        found = content["peers"][peer.name]
        measured = _of(content, "peers", peer.name)
        note = f"{found['missing']} is not installed" if "missing" in found else ("" if measured else "failed")
        yield _line(
            peer.name, note or peer.setting.name, _whole(figure(measured)), _two(seconds(measured)), _host(measured),
            peer.not_exact, _small(apart(measured, _of(content, "stock", peer.setting.name))),
        )  # fmt: skip


def _outside(measured: Measured | None) -> float | None:
    """Milliseconds of a step, the median after the warm-up: data, what is told, and what waits for neither."""
    if not measured or not measured["step_seconds"]:
        return None
    engine = ("forward", "backward", "optimizer")
    return 1000 * median(step["total"] - sum(step[name] for name in engine) for step in measured["steps"][WARM_UP:])


def _head(*names: str) -> Iterator[str]:
    yield _line(*names)
    yield "|" + " --- |" * len(names)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one and other else None


def _faster(one: Measured | None, several: Measured | None, setting: Setting) -> float | None:
    """Each GPU has the batch that one has alone; None where they are two machines'."""
    if not _of_one_machine(one, several):
        return None
    ratio = _ratio(seconds(one), seconds(several))
    return ratio and ratio * setting.gpus


def _of_one_machine(one: Measured | None, other: Measured | None) -> bool:
    return bool(one and other and one["machine"] == other["machine"])


def _peak(measured: Measured | None) -> str:
    """The phase in which the GPU held the most; of those that held as much the outermost, which ends last."""
    if not measured or not figure(measured):
        return UNKNOWN
    phases = measured["phases"]
    outermost_first = [name for name in reversed(phases) if name not in (BEFORE, BETWEEN)]
    return max((*outermost_first, *phases), key=lambda name: figure(phases[name]) or 0)


def _within(value: float | None, most: float) -> str:
    return UNKNOWN if value is None else "yes" if value <= most else "**no**"


def _host(measured: Measured | None, most: float | None = None) -> str:
    if not measured:
        return UNKNOWN
    gib = measured["host_mib"] / 1024
    return f"{gib:.1f}" + ("" if most is None else f", may be {most:g}: {_within(round(gib, 1), most)}")


def _whole(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def _two(value: float | None, digits: int = 2) -> str:
    return UNKNOWN if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return UNKNOWN if value is None else f"{100 * value:.1f} %"


def _small(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.1e}"


def written(page: str, table: str) -> str:
    """A page with the table between its two marks.

    Raises:
        ValueError: it has not both marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"put {BEGIN} and {END} where the table belongs")
    return f"{before}{BEGIN}\n{table}{END}{after}"


def main() -> None:
    made = argparse.ArgumentParser(prog="python -m benchmarks.training.table", description=__doc__)
    made.add_argument("out", type=Path, nargs="?", default=MEASURED, help=f"{MEASURED} by default")
    made.add_argument("--write", type=Path, metavar="FILE")
    chosen = made.parse_args()
    file = chosen.out / "measured.json" if chosen.out.is_dir() else chosen.out
    table = markdown(json.loads(file.read_bytes()))
    if chosen.write is None:
        sys.stdout.write(table)
        return
    try:
        chosen.write.write_text(written(chosen.write.read_text(), table))
    except ValueError as error:
        sys.exit(f"{chosen.write}: {error}")


if __name__ == "__main__":
    main()
