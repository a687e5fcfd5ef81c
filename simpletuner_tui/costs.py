"""An estimate in words and numbers: for the cost pane, ``estimate`` and the front ends of lines."""

from collections.abc import Iterator, Mapping, Sequence

from launcher.estimate import Estimate, Part, Phase, Verdict, verdict
from launcher.estimate.parts import MIB
from launcher.estimate.step_time import StepTime
from launcher.estimate.traffic import Traffic
from launcher.machine.gpu_processes import GpuProcess
from launcher.machine.host import Host
from simpletuner_tui.pricing import Card, Priced
from simpletuner_tui.text import printable, size, table

PHASES: Mapping[str, str] = {
    "load": "loading",
    "caching": "caching",
    "init": "engine start",
    "step": "training step",
    "validation": "validation",
    "save": "saving",
}
"""What people call a phase."""

MEASURING = "measuring this machine, some 25 s"
"""Said while its probe is under way."""

LARGEST = 3
"""How many shares of a step's time are named."""

HEADS = ("allocated", "reserved", "process")
"""What torch's tensors take, what torch holds for them, and what nvidia-smi shows."""

UNNOTICED_MIB = 64
"""What no process need hold: a card without any shows a few MiB as used."""

SPOKEN_OF = 2
"""How many processes a sentence names; a list names them all."""


def judged(cost: Estimate, card: Card) -> tuple[Verdict, str]:
    """Whether a plan fits a card, and why in a sentence."""
    now, takes, needs = verdict(cost, card.free_mib), f"{cost.gpu_mib:,}", f"{cost.gpu_least_mib:,} MiB"
    there = f"{card.free_mib:,} MiB {'free on' if card.model else 'of'} {card.name}"
    if now is Verdict.FITS:
        return now, f"Fits: {takes} of {there}."
    if now is Verdict.TIGHT:
        return now, f"Tight: {there} for {takes}; torch can do with {cost.gpu_least_mib:,}, and is slower then."
    if verdict(cost, card.usable_mib) is now:
        return now, f"Does not fit: needs {needs}, {card.name} has {card.usable_mib:,}."
    needs = f"{cost.gpu_least_mib:,} needed"
    return now, f"Does not fit now: {there}, {needs}; others hold {card.held_mib:,}."


def change(before: Estimate, now: Estimate) -> str:
    """What became of the cost: ``+1,912 MiB, -0.4 s/step``, and of host RAM and disk; empty where nothing did."""
    gpu = now.gpu_mib - before.gpu_mib
    parts = [f"{gpu:+,} MiB"] if gpu else []
    if before.step_seconds is not None and now.step_seconds is not None:
        seconds = round(now.step_seconds, 1) - round(before.step_seconds, 1)
        parts += [f"{seconds:+.1f} s/step"] if abs(seconds) >= 0.05 else []
    for name, more in (("RAM", now.host_mib - before.host_mib), ("disk", now.disk_mib - before.disk_mib)):
        parts += [f"{name} {'+' if more > 0 else '-'}{size(abs(more))}"] if more else []
    return ", ".join(parts)


def peak_line(phase: Phase) -> str:
    """The phase that takes most, and its three numbers."""
    numbers = zip(HEADS, three_numbers(phase), strict=True)
    return f"Peak at {called(phase)}: {', '.join(f'{head} {number:,}' for head, number in numbers)} MiB."


def three_numbers(phase: Phase) -> tuple[int, int, int]:
    """In the order of :data:`HEADS`, in MiB."""
    return phase.allocated_mib, phase.reserved_mib, phase.process_mib


def called(phase: Phase) -> str:
    """What people call it."""
    return PHASES.get(phase.name, phase.name)


def phase_table(cost: Estimate) -> list[str]:
    """Each phase with its three numbers."""
    rows = [(f"{called(phase)}", *(f"{number:,}" for number in three_numbers(phase))) for phase in cost.gpu]
    widths = [max(len(row[column]) for row in [("", *HEADS), *rows]) for column in range(1, 4)]
    first = max(len(name) for name, *_ in rows)
    return [
        f"{name:<{first}} {' '.join(f'{cell:>{width}}' for cell, width in zip(cells, widths, strict=True))}"
        for name, *cells in (("MiB", *HEADS), *rows)
    ]


def beside_gpu(cost: Estimate, host: Host | None) -> list[str]:
    """Host RAM, disk, and what a step takes.

    Args:
        cost: of the plan.
        host: what host RAM is held against; None: nothing.
    """
    pinned = cost.host_pinned_mib
    of_it = f" ({size(pinned).removesuffix(' GiB')} pinned)" if pinned else ""
    rows = [("Host RAM", size(cost.host_mib) + of_it, _on_host(cost.host_mib, host) if host else "")]
    rows.append(("Disk", size(cost.disk_mib), ""))
    if cost.step_time is not None:
        rows.append(("A step", f"{cost.step_time.total:.1f} s", f"on this machine's {cost.step_time.gpu}"))
    return table(rows)


def _on_host(needed: int, host: Host) -> str:
    if needed > host.total_mib:
        return f"does not fit in {size(host.total_mib)}"
    return (
        f"tight: {size(host.available_mib)} free" if needed > host.available_mib else f"fits in {size(host.total_mib)}"
    )


def holders(card: Card) -> str:
    """Who holds most of what others hold, in a sentence; empty where nobody is known."""
    named = [f"{printable(process.name) or 'pid'} ({process.pid}) {process.mib:,}" for process in card.holders]
    more = f" and {len(named) - SPOKEN_OF} more" if len(named) > SPOKEN_OF else ""
    return f"Others: {', '.join(named[:SPOKEN_OF])}{more}." if named else ""


def held_lines(card: Card) -> Iterator[str]:
    """Who else holds memory of the card: by name where that is known."""
    if card.held_mib < UNNOTICED_MIB:
        return
    yield f"Held by others on {card.name}: {card.held_mib:,} MiB"
    for process in card.holders:
        yield f"{process.mib:>9,} MiB  {_who(process)}"
    rest = card.held_mib - sum(process.mib for process in card.holders)
    if card.holders and rest >= UNNOTICED_MIB:
        yield f"{rest:>9,} MiB  not told by whom"


def _who(process: GpuProcess) -> str:
    return f"{printable(process.name) or 'a process'} (pid {process.pid})"


def part_lines(parts: Sequence[Part]) -> list[str]:
    """The parts of a cost, each with its size before its name."""
    return [f"  {line}" for line in table((f"{size(part.mib):>9}", part.name) for part in parts)]


def estimate_lines(cost: Estimate, card: Card | None) -> list[str]:
    """An estimate, part by part.

    Args:
        cost: of a plan.
        card: what it is held against; None: nothing.
    """
    lines = [f"GPU memory, each GPU: {size(cost.gpu_mib)}, {called(cost.gpu_peak)}"]
    lines += [f"  {line}" for line in phase_table(cost)]
    for phase in cost.gpu:
        lines += _titled(f"GPU memory, {called(phase)}", phase.parts)
    pinned = cost.host_pinned_mib
    lines += _titled("Host RAM", cost.host, f", {size(pinned)} of it pinned" if pinned else "")
    lines += _titled("Disk", cost.disk)
    lines += [*moved_lines(cost.traffic), *(step_lines(cost.step_time) if cost.step_time else [])]
    if card is not None:
        model = f" ({card.name} is a {card.model})" if card.model else ""
        lines += [f"{judged(cost, card)[1]}{model}", *held_lines(card)]
    return lines + [f"Note: {note}." for note in cost.notes]


def why_not_measured(priced: Priced) -> str:
    """Why this machine need not be measured for a plan."""
    step = priced.now.step_time
    if step is not None:
        return f"This machine is measured already: a step takes {step.total:.1f} s."
    if not priced.gpus.gpus:
        return f"There is no GPU to measure: {priced.gpus.reason}."
    return (
        "Measuring would not tell the seconds of a step: that is known of SDXL in half precision on GPUs, not compiled."
    )


def moved_lines(moved: Traffic) -> list[str]:
    """What a step moves, where it moves anything: PCIe and host memory, and NVMe."""
    lines = []
    if moved.up or moved.down or moved.host:
        lines.append(
            f"A step moves: {_bytes(moved.up)} up to each GPU, {_bytes(moved.down)} down, "
            f"{_bytes(moved.host)} in host memory"
        )
    if moved.nvme_read or moved.nvme_written:
        lines.append(f"  NVMe: {_bytes(moved.nvme_read)} read, {_bytes(moved.nvme_written)} written")
    return lines


def step_lines(step: StepTime) -> list[str]:
    """The seconds of a step, by phase and by what takes most of them."""
    by_phase = f"forward {step.forward:.1f}, backward {step.backward:.1f}, optimizer {step.optimizer:.1f}"
    lines = [f"A step: {step.total:.1f} s on this machine's {step.gpu}: {by_phase}"]
    largest = sorted(step.parts, key=lambda part: -part.seconds)[:LARGEST]
    if largest:
        lines.append(f"  most of it: {', '.join(f'{part.name} {part.seconds:.1f} s' for part in largest)}")
    return lines


def _bytes(number: float) -> str:
    return size(number / MIB)


def _titled(title: str, parts: Sequence[Part], more: str = "") -> list[str]:
    total = size(sum(part.mib for part in parts))
    return [f"{title}: {total}{more}", *part_lines(parts)]
