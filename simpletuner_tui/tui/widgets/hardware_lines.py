"""What the hardware screen says, in lines of any width: pure functions of what was sampled."""

from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap

from textual.content import Content

from launcher.machine.gpus import is_part
from launcher.machine.sample import DiskSample, Figure, GpuSample, HostSample, Sample, Unknown
from launcher.machine.sampler import KEPT
from simpletuner_tui.hardware import Expected
from simpletuner_tui.history import History
from simpletuner_tui.text import bar, duration, printable, size
from simpletuner_tui.tui.glyphs import ASCII, Glyphs
from simpletuner_tui.tui.home_rows import from_home
from simpletuner_tui.tui.widgets.chart import Chart, Curve, Limit, dots_across, draw
from simpletuner_tui.tui.widgets.run_lines import LABELS, axis_top, gib, highs, whole_minutes

FIGURES = 38
"""Columns of a GPU's sign and figures, about."""
NAME = 10
"""Columns from which on there is room for what a GPU is called."""
LEAST_BAR = 10
STALE = 5.0
"""Seconds without a look from which on what is shown is said to be old."""
HOLDS = 3.0
"""Seconds for which a reading stands in a graph where the next one is late."""
UNSAID = {
    "utilisation": "utilisation",
    "temperature": "temperature",
    "power_w": "power",
    "power_limit_w": "power limit",
    "clock_mhz": "clock",
    "memory_clock_mhz": "memory clock",
    "throttled": "throttling",
    "ecc_errors": "ECC errors",
    "received_mib_s": "PCIe in",
    "sent_mib_s": "PCIe out",
    "processes": "processes",
    "reserved_mib": "reserved memory",
}
"""Figures that may be unknown, as they are named where it is said why."""


def state_line(sample: Sample | None, age: float, fault: str) -> str:
    """What keeps the figures from being those of now; empty where nothing does."""
    if sample is None:
        return fault or ("the first look is under way" if age < STALE else _silent(age))
    if fault:
        return f"the last look failed: {fault}"
    return _silent(age) if age >= STALE else ""


def _silent(age: float) -> str:
    return f"nothing was heard for {duration(age)}: the driver, or a disk, does not answer"


def gpu_lines(
    sample: Sample, expected: Expected | None, chosen: int, width: int, height: int, glyphs: Glyphs
) -> list[Content]:
    """A line for each GPU and each part of one; those around the chosen one where rows do not suffice.

    Args:
        sample: of the machine.
        expected: what a plan or run takes.
        chosen: the place of the GPU that details are shown of.
        width: columns there are.
        height: rows there are.
        glyphs: signs this terminal can show.
    """
    if not sample.gpus:
        return [Content(line) for line in wrap(f"no GPU: {sample.no_gpus}", max(width, 20))]
    labels = list(names(sample.gpus))
    first = max(0, min(chosen - height // 2, len(labels) - height))
    widest = max(map(len, labels))
    remarks = [_remark(gpu) for gpu in sample.gpus]
    room = width - widest - FIGURES - LEAST_BAR
    columns = min(max(map(len, remarks)), room) if room >= NAME else 0
    return [
        _gpu_line(
            f"{glyphs.here if place == chosen and len(labels) > 1 else ' '} {labels[place]:<{widest}} ",
            gpu,
            expected,
            f"  {remarks[place]:<{columns}}"[: columns + 2] if columns else "",
            width,
            glyphs,
        )
        for place, gpu in list(enumerate(sample.gpus))[first : first + height]
    ]


def names(gpus: Sequence[GpuSample]) -> Iterator[str]:
    """What each is called: by its GPU's index, a part by its place in that too."""
    index, part = -1, 0
    for gpu in gpus:
        if not is_part(gpu):
            index, part = gpu.index, 0
            yield f"GPU {gpu.index}"
            continue
        part = part + 1 if gpu.index == index else 1
        index = gpu.index
        yield f"  {gpu.index}.{part}"


def _gpu_line(head: str, gpu: GpuSample, expected: Expected | None, remark: str, width: int, glyphs: Glyphs) -> Content:
    style = "bold" if head.startswith(glyphs.here) else ""
    if gpu.lost:
        return Content.assemble((head, style), (f"{glyphs.fault} lost: {gpu.lost}", "$text-error"))
    figures = ((gpu.utilisation, "%", 5), (gpu.temperature, "°C", 6), (gpu.power_w, "W", 6))
    told = f" {_gib(gpu.used_mib):>5}/{_gib(gpu.total_mib)} GiB "
    told += " ".join(f"{_figure(figure, unit):>{columns}}" for figure, unit, columns in figures)
    return Content.assemble(
        (head, style),
        *_bar(
            _known(gpu.used_mib),
            _known(gpu.total_mib),
            _reaching(gpu, expected),
            max(2, width - len(head) - len(told) - len(remark)),
            glyphs,
        ),
        told,
        (remark, "$text-warning" if _held_down(gpu) else "$text-muted"),
    )


def _remark(gpu: GpuSample) -> str:
    """Why it is held down, else what it is called; of a part, what part it is."""
    called = gpu.name.removeprefix("NVIDIA ")
    return printable(_held_down(gpu) or (called[called.find("MIG ") :] if is_part(gpu) else called))


def _held_down(gpu: GpuSample) -> str:
    return "" if isinstance(gpu.throttled, Unknown) else ", ".join(gpu.throttled)


def _reaching(gpu: GpuSample, expected: Expected | None) -> float | None:
    """Up to where what is expected fills a GPU."""
    if expected is None or not expected.gpu_mib or gpu.uuid not in expected.uuids:
        return None
    return expected.reaches(_known(gpu.used_mib) or 0.0, expected.gpu_mib)


def _bar(
    used: float | None, total: float | None, reaching: float | None, width: int, glyphs: Glyphs
) -> list[tuple[str, str]]:
    """What is used, with a sign up to where it is expected to go: at the end where there is not so much."""
    if used is None or not total:
        return [("?" * min(3, width) + " " * max(0, width - 3), "$text-muted")]
    cells = list(bar(used, total, width, ascii_only=glyphs is ASCII))
    if reaching is None or width < 2:
        return [("".join(cells), "$primary")]
    at = min(width - 1, int(width * reaching / total))
    sign = ("!" if reaching > total else "|") if glyphs is ASCII else ("╳" if reaching > total else "│")
    style = "bold $text-error" if reaching > total else "bold $text-warning"
    return [("".join(cells[:at]), "$primary"), (sign, style), ("".join(cells[at + 1 :]), "$primary")]


def gpu_details(gpu: GpuSample, subject: str, expected: Expected | None, width: int, height: int) -> list[Content]:
    """All there is to know of a GPU, and why the rest is not known.

    Args:
        gpu: as it was sampled.
        subject: what something is expected of.
        expected: of it.
        width: columns there are.
        height: rows there are.
    """
    if gpu.lost:
        lines = [f"It does not answer any more: {gpu.lost}.", "What trained on it has failed, or will."]
        return [Content(line) for each in lines for line in wrap(each, max(width, 20))][:height]
    lines = [_memory(gpu, subject, expected)]
    lines += ["   ".join(filter(None, parts)) for parts in (_power_and_clocks(gpu), _errors_and_rates(gpu))]
    if not isinstance(gpu.processes, Unknown):
        held = [f"{each.pid} {printable(each.name)} {each.mib:,} MiB" for each in gpu.processes]
        lines.append(f"held by {', '.join(held)}" if held else "held by nobody")
    lines += [f"N/A: {', '.join(what)} ({why})" for why, what in _unsaid(gpu).items()]
    wrapped = [line for each in filter(None, lines) for line in wrap(each, max(width, 20), subsequent_indent="  ")]
    return [Content(line) for line in wrapped[:height]]


def _memory(gpu: GpuSample, subject: str, expected: Expected | None) -> str:
    told = f"memory {_figure(gpu.used_mib, '')} of {_figure(gpu.total_mib, 'MiB')}"
    if not isinstance(gpu.reserved_mib, Unknown):
        told += f", the driver {gpu.reserved_mib:,.0f}"
    reaching = _reaching(gpu, expected)
    if reaching is None or expected is None:
        return told
    more = f"{expected.gpu_mib:,} more, " if expected.comes_on_top else ""
    total = _known(gpu.total_mib)
    beyond = ", which is not there" if total is not None and reaching > total else ""
    return f"{told}; {subject}: {more}{reaching:,.0f} at the peak{beyond}"


def _power_and_clocks(gpu: GpuSample) -> Iterator[str]:
    if _known(gpu.power_w) is not None:
        limit = "" if isinstance(gpu.power_limit_w, Unknown) else f" of {gpu.power_limit_w:,.0f}"
        yield f"power {_figure(gpu.power_w, '')}{limit} W"
    if _known(gpu.clock_mhz) is not None:
        memory = "" if isinstance(gpu.memory_clock_mhz, Unknown) else f", memory {gpu.memory_clock_mhz:,.0f}"
        yield f"clock {_figure(gpu.clock_mhz, '')}{memory} MHz"
    if not isinstance(gpu.throttled, Unknown):
        yield f"held down: {_held_down(gpu)}" if gpu.throttled else "not held down"


def _errors_and_rates(gpu: GpuSample) -> Iterator[str]:
    if _known(gpu.received_mib_s) is not None:
        yield f"PCIe in {_figure(gpu.received_mib_s, '')}, out {_figure(gpu.sent_mib_s, 'MiB/s')}"
    if _known(gpu.ecc_errors) is not None:
        yield f"{_figure(gpu.ecc_errors, '')} ECC errors"


def _unsaid(gpu: GpuSample) -> Mapping[str, list[str]]:
    """What is not known, by the reason."""
    reasons: dict[str, list[str]] = {}
    for field, name in UNSAID.items():
        value = getattr(gpu, field)
        if isinstance(value, Unknown):
            reasons.setdefault(value.reason, []).append(name)
    return reasons


def host_lines(
    sample: Sample, expected: Expected | None, history: History | None, width: int, glyphs: Glyphs
) -> list[Content]:
    """Host memory, then each disk that is of interest, with what is expected of them.

    Args:
        sample: of the machine.
        expected: what a plan or run takes.
        history: of the run.
        width: columns there are.
        glyphs: signs this terminal can show.
    """
    host = sample.host
    wanted = expected.host_mib if expected else 0
    rows = [("RAM", host.total_mib - host.available_mib, host.total_mib, wanted, [*_of_run(history), _load(host)])]
    for disk, mib in disks_told(sample.disks, expected):
        rates = f"in {_figure(disk.read_mib_s, '')} out {_figure(disk.written_mib_s, 'MiB/s')}"
        if isinstance(disk.read_mib_s, Unknown):
            rates = f"rates N/A: {disk.read_mib_s.reason}"
        beside = [rates, from_home(disk.folder)]
        rows.append(
            (printable(disk.folder.name)[:8] or "/", disk.total_mib - disk.free_mib, disk.total_mib, mib, beside)
        )
    names = max(len(name) for name, *_ in rows)
    room, arrow = max(LEAST_BAR, width // 6), ">" if glyphs is ASCII else "→"
    lines = []
    for name, used, total, mib, beside in rows:
        reaching = expected.reaches(used, mib) if expected and mib else None
        then = f" {arrow} {reaching / 1024:.1f}" if reaching is not None else ""
        told = f" {used / 1024:.1f}{then} of {total / 1024:.1f} GiB"
        drawn = _bar(used, total, reaching, room, glyphs)
        lines.append(Content.assemble(f"{name:<{names}} ", *drawn, _fitted(told, beside, width - room - names - 1)))
    return lines


def _load(host: HostSample) -> str:
    return f"load {host.load:.1f} on {host.cores} cores"


def _of_run(history: History | None) -> Iterator[str]:
    for name, words in (("run.resident_mib", "the run's"), ("run.pinned_mib", "pinned")):
        series = history.readings.get(name) if history else None
        if series:
            yield f"{words} {size(series.latest)}"


def _fitted(told: str, beside: Sequence[str], width: int) -> str:
    for part in filter(None, beside):
        if len(told) + 2 + len(part) <= width:
            told = f"{told}  {part}"
    return told


def disks_told(disks: Sequence[DiskSample], expected: Expected | None) -> list[tuple[DiskSample, int]]:
    """Each disk once, with the MiB expected below all its folders; the last folder names it.

    Args:
        disks: a sample for each folder that is of interest.
        expected: what a plan or run takes.
    """
    wanted = expected.disks if expected else {}
    found: dict[int, tuple[DiskSample, int]] = {}
    for disk in disks:
        _, before = found.get(disk.filesystem, (disk, 0))
        found[disk.filesystem] = disk, before + wanted.get(disk.folder, 0)
    return list(found.values())


def two_minutes(
    recent: Sequence[Sample], uuid: str, expected: Expected | None, width: int, height: int, glyphs: Glyphs
) -> list[Content]:
    """The memory of one GPU in the last two minutes.

    Args:
        recent: samples, the oldest first.
        uuid: of the GPU.
        expected: what a plan or run takes.
        width: columns there are.
        height: rows there are.
        glyphs: signs this terminal can show.
    """
    known = [
        (sample.time, used, _known(gpu.total_mib), _reaching(gpu, expected))
        for sample in recent
        for gpu in sample.gpus
        if gpu.uuid == uuid and (used := _known(gpu.used_mib)) is not None
    ]
    if not known:
        return [Content.styled("no reading yet", "$text-muted")]
    dots = dots_across(width, LABELS, glyphs)
    end = recent[-1].time
    values: list[float | None] = []
    for dot in range(dots):
        at = end - KEPT * (1 - (dot + 1) / dots)
        before = [used for time, used, *_ in known if at - HOLDS <= time <= at]
        values.append(before[-1] if before else None)
    _, _, total, reaching = known[-1]
    return _memory_chart(values, total, reaching, f"-{duration(KEPT)}", "now", width, height, glyphs)


def whole_run(
    history: History, uuid: str, expected: Expected | None, width: int, height: int, glyphs: Glyphs
) -> list[Content]:
    """The memory of one GPU since the run's readings began.

    Args:
        history: of the run.
        uuid: of the GPU.
        expected: what the run takes.
        width: columns there are.
        height: rows there are.
        glyphs: signs this terminal can show.
    """
    gpus = history.header.gpus if history.header else ()
    place = next((place for place, gpu in enumerate(gpus) if gpu.uuid == uuid), None)
    if place is None:
        return [Content.styled("the run does not use this GPU", "$text-muted")]
    series = history.readings[f"gpu.{place}.used_mib"]
    if not series:
        return [Content.styled("no reading yet", "$text-muted")]
    end = whole_minutes(series.last)
    values = highs(series.columns(dots_across(width, LABELS, glyphs), 0.0, end))
    limit = float(expected.gpu_mib) if expected and expected.gpu_mib else None
    return _memory_chart(values, gpus[place].total_mib, limit, "0", duration(end), width, height, glyphs)


def _memory_chart(
    values: Sequence[float | None],
    total: float | None,
    reaching: float | None,
    left: str,
    right: str,
    width: int,
    height: int,
    glyphs: Glyphs,
) -> list[Content]:
    limits = [Limit(reaching, "$text-warning", "╌", "=")] if reaching else []
    top = axis_top(max(filter(None, (*values, reaching)), default=0.0), total) if total else None
    chart = Chart([Curve(values, "bold $primary", "*")], gib, left, right, limits, 0.0, top)
    return draw(chart, width, height, LABELS, glyphs)


def _known(figure: Figure) -> float | None:
    return None if isinstance(figure, Unknown) else figure


def _figure(figure: Figure, unit: str) -> str:
    return "N/A" if isinstance(figure, Unknown) else f"{figure:,.0f} {unit}".rstrip()


def _gib(figure: Figure) -> str:
    return "N/A" if isinstance(figure, Unknown) else f"{figure / 1024:.1f}"
