"""What the dashboard of a run says, in lines of any width: pure functions of its history."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from textwrap import wrap

from textual.content import Content

from launcher.runs.directory import RunDirectory
from launcher.runs.state import RunStatus, Status
from simpletuner_tui.event_lines import TITLES
from simpletuner_tui.history import PARTS, History
from simpletuner_tui.series import Bin, smoothed
from simpletuner_tui.text import bar, duration, size
from simpletuner_tui.tui.glyphs import ASCII, Glyphs
from simpletuner_tui.tui.widgets.chart import Chart, Curve, Limit, dots_across, draw, nice

SMOOTH = 0.8
"""Weight of the columns before in the smoothed loss."""
LATEST_STEPS, LATEST_SECONDS = 100, 120.0
"""What a chart of the latest shows."""
LABELS = 7
"""Columns of the labels at a chart's vertical axis."""
LEAST = 5
"""Rows from which on a curve is worth drawing beside bars."""
LOST_AFTER = 5.0
"""Seconds without a figure of a GPU, while there are some of others."""
SEVERAL = 3
"""GPUs from which on each is a bar and no curve."""
SIGNS = {"data": ("·", "."), "forward": ("▒", "="), "backward": ("█", "#"), "optimizer": ("▓", "+"), "ema": ("▞", "*")}
"""Of the parts of a step, no two alike; other is a gap."""
STYLES = {"data": "$text-muted", "forward": "$success", "backward": "$primary", "optimizer": "$accent"}


@dataclass(frozen=True, slots=True)
class Predicted:
    """Of a run's plan; 0 or None where nothing is known."""

    gpu_mib: int = 0
    host_mib: int = 0
    step_seconds: float | None = None


STATES = {
    Status.PREPARED: ("ahead", "not started"),
    Status.RUNNING: ("here", "running"),
    Status.STOPPING: ("here", "stopping"),
    Status.COMPLETED: ("done", "completed"),
    Status.STOPPED: ("done", "stopped"),
    Status.FAILED: ("fault", "failed"),
    Status.LOST: ("fault", "dead: its supervisor was killed"),
}


def headline(name: str, now: RunStatus | None, paused: bool, width: int, glyphs: Glyphs) -> Content:
    """The run and what it is now.

    Args:
        name: of the run.
        now: its status; None where it cannot be read.
        paused: whether the view stands still.
        width: columns there are.
        glyphs: signs this terminal can show.
    """
    sign, said = (glyphs.fault, "disconnected") if now is None else _state(now, glyphs)
    style = "bold $text-error" if sign == glyphs.fault else "bold"
    text = Content.assemble((f"{sign} {name}", "bold"), f" {glyphs.between} ", (said, style))
    if paused:
        mark = "view paused"
        room = width - text.cell_length - len(mark)
        text = text + Content(" " * max(1, room)) + Content.styled(mark, "reverse")
    return text


def _state(now: RunStatus, glyphs: Glyphs) -> tuple[str, str]:
    sign, said = STATES[now.status]
    if now.orphans:
        said = f"{said}, its training goes on"
    code = now.state.get("exit_code")
    if now.status is Status.FAILED and code is not None:
        said = f"{said}, exit code {code}"
    return getattr(glyphs, sign), said


def progress_line(history: History, now: RunStatus | None, unwell: str, width: int, glyphs: Glyphs) -> Content:
    """Where it is in its phase, and how long that takes still; where something is wrong with it, what.

    Args:
        history: of the run.
        now: its status; None where it cannot be read.
        unwell: what is wrong with it although it runs, or why it cannot be read.
        width: columns there are.
        glyphs: signs this terminal can show.
    """
    progress = history.progress
    if unwell:
        return Content.styled(f"  {glyphs.fault} {unwell}", "bold $text-error")
    if now is not None and not now.going:
        took = duration(progress.latest - progress.started) if progress.started else ""
        step = progress.step.get("step")
        whole = progress.step.get("max_steps")
        reached = f"step {step:,} of {whole:,}" if step is not None else ""
        return Content(f"  {', '.join(filter(None, (reached, f'after {took}' if took else '')))}")
    if not progress.phase:
        return Content(f"  {'starting' if not progress.step else 'between two phases'}{glyphs.ellipsis}")
    title = TITLES.get(progress.phase, progress.phase)
    if not progress.total:
        return Content(f"  {title}{glyphs.ellipsis}")
    left = progress.seconds_left
    if progress.phase == "train" and progress.steps_per_second:
        left = (progress.total - progress.done) / progress.steps_per_second
    amount = f"{progress.done:,.0f}/{progress.total:,.0f}"
    if progress.total >= 10 * 2**20:  # bytes of a download
        amount = f"{size(progress.done / 2**20)} of {size(progress.total / 2**20)}"
    said = f"{amount}  {progress.done / progress.total:.0%}"
    if left is not None:
        said += f"  {_rough(left)} left"
    room = width - len(title) - len(said) - 6
    drawn = bar(progress.done, progress.total, max(4, room), ascii_only=glyphs is ASCII)
    return Content.assemble(f"  {title} ", (drawn, "$primary"), f"  {said}")


def _rough(seconds: float) -> str:
    """A span of time that does not change with every step."""
    return duration(seconds) if seconds < 600 else duration(round(seconds / 60) * 60)


def step_lines(history: History, predicted: Predicted, width: int, glyphs: Glyphs) -> list[Content]:
    """Loss, rate, norm; the seconds of a step and where they go."""
    step = history.progress.step
    if not step:
        return [Content.styled("no step yet", "$text-muted")]
    norm = history.gradient_norm.latest
    figures = [
        f"loss {history.loss.latest:.4f}" if not math.isnan(history.loss.latest) else f"loss {step.get('loss')}",
        f"lr {history.learning_rate.latest:.2e}",
        "" if math.isnan(norm) else f"grad norm {norm:.3g}",
        f"{history.skipped:,} skipped" if history.skipped else "",
    ]
    total = history.parts.get("total", 0.0)
    speed = [f"{total:.3g} s/step", f"{history.samples_per_second:.3g} samples/s"]
    if predicted.step_seconds:
        speed.append(f"predicted {predicted.step_seconds:.3g} s/step")
    other = max(0.0, total - sum(history.parts.get(part, 0.0) for part in PARTS))
    parts = {part: history.parts.get(part, 0.0) for part in PARTS if part != "ema" or history.parts.get("ema")}
    shares = "  ".join(f"{part} {seconds:.2f}" for part, seconds in (*parts.items(), ("other", other)))
    lines = [_joined(figures + speed, width)]
    lines.append(_parts_bar(parts, total, max(10, width - len(shares) - 2), glyphs) + Content(f"  {shares}"))
    return lines


def _joined(figures: Sequence[str], width: int) -> Content:
    figures = [figure for figure in figures if figure]
    while figures and len("   ".join(figures)) > width:
        figures = figures[:-1]
    return Content("   ".join(figures))


def _parts_bar(parts: dict[str, float], total: float, width: int, glyphs: Glyphs) -> Content:
    """A step from left to right; what is no part of it is a gap at the end."""
    drawn, used = list[tuple[str, str]](), 0
    for part, seconds in parts.items():
        cells = min(width - used, round(width * seconds / total)) if total else 0
        drawn.append((SIGNS[part][glyphs is ASCII] * cells, STYLES.get(part, "")))
        used += cells
    return Content.assemble(*drawn, " " * (width - used))


def loss_lines(history: History, latest: bool, width: int, height: int, glyphs: Glyphs) -> list[Content]:
    """The loss over steps, each as it was and smoothed."""
    series = history.loss
    if not series:
        return [Content.styled("no step yet", "$text-muted")]
    begin, end = series.first, max(series.last, series.first + 10)
    if latest:
        begin = max(begin, end - LATEST_STEPS)
    else:
        end = max(end, min(nice(end), float(history.progress.step.get("max_steps") or math.inf)))
    columns = series.columns(dots_across(width, LABELS, glyphs), begin, end)
    raw = Curve([each.mean if each else None for each in columns], "$text-muted", ".", joined=False)
    curve = Curve(smoothed(columns, SMOOTH), "bold $primary", "*")
    axis = f"{begin:,.0f}", f"step {end:,.0f}"
    return draw(Chart((raw, curve), _loss, *axis), width, height, LABELS, glyphs)


def _loss(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.3g}"


def memory_lines(
    history: History, predicted: Predicted, latest: bool, width: int, height: int, glyphs: Glyphs
) -> list[Content]:
    """What the run's GPUs hold: over time where there are few, else a bar for each; now, peak, predicted, limit."""
    header = history.header
    if header is None or not header.gpus:
        return [*_told_memory(history, predicted), *_host_lines(history, predicted)][:height]
    told = [*_gpu_figures(history, predicted), *_host_lines(history, predicted)]
    bars: list[Content] = []
    if len(header.gpus) >= SEVERAL:
        bars = _gpu_bars(history, predicted, width, max(1, height - len(told)), glyphs)
        if height - len(bars) - len(told) < LEAST:
            return [*bars, *told][:height]
    used = [history.readings[f"gpu.{place}.used_mib"] for place in range(len(header.gpus))]
    highest = max([predicted.gpu_mib, *(each.highest for each in used if each)])
    total = max(gpu.total_mib for gpu in header.gpus)
    top = axis_top(highest, total)
    reached = max((each.last for each in used if each), default=0.0)
    begin, end = (max(0.0, reached - LATEST_SECONDS), reached) if latest else (0.0, whole_minutes(reached))
    count = dots_across(width, LABELS, glyphs)
    columns = [highs(each.columns(count, begin, max(end, begin + 1))) for each in used]
    if bars:  # one curve of the GPU that holds most at each moment
        columns = [[max((v for v in those if v is not None), default=None) for those in zip(*columns, strict=True)]]
    curves = [
        Curve(values, f"bold {style}", sign)
        for values, style, sign in zip(columns, ("$primary", "$accent"), "*o", strict=False)
    ]
    limits = [Limit(predicted.gpu_mib, "$text-warning", "╌", "=")] if predicted.gpu_mib else []
    chart = Chart(curves, gib, "0" if not begin else f"-{duration(end - begin)}", duration(end), limits, 0.0, top)
    return [*draw(chart, width, height - len(bars) - len(told), LABELS, glyphs), *bars, *told]


def axis_top(highest: float, total: float) -> float:
    """Up to where a memory axis goes: a run that takes a tenth of its card would be a line at the bottom of all of it.

    Args:
        highest: MiB that are shown.
        total: of the card.
    """
    return total if 2 * highest > total or not highest else math.ceil(1.25 * highest / 4096) * 4096


def whole_minutes(seconds: float) -> float:
    """The end of a time axis: whole minutes, then whole hours, rounded up."""
    steps = (120, 300, 600, 1800, 3600)
    return float(next((step for step in steps if seconds <= step), math.ceil(seconds / 7200) * 7200))


def highs(columns: Sequence[Bin | None]) -> list[float | None]:
    """The highest of each column."""
    return [each.high if each else None for each in columns]


def gib(mib: float) -> str:
    """Memory at the axis of a chart."""
    return f"{mib / 1024:.1f}G" if mib >= 1024 else f"{mib:.0f}M"


def _gpu_figures(history: History, predicted: Predicted) -> list[Content]:
    """Now and at the most, of the GPU that holds most; and what was predicted of what there is."""
    assert history.header is not None
    used = [history.readings[f"gpu.{place}.used_mib"] for place in range(len(history.header.gpus))]
    known = [each for each in used if each]
    total = max(gpu.total_mib for gpu in history.header.gpus)
    now, peak = (max((getattr(each, name) for each in known), default=0.0) for name in ("latest", "highest"))
    peak = max(peak, history.peak.get("process", 0))
    return [
        Content(f"now {now:,.0f}, peak {peak:,.0f}" if known else "no reading yet"),
        Content(f"{_of(predicted.gpu_mib)}of {total:,.0f} MiB"),
    ]


def _of(mib: int) -> str:
    return f"predicted {mib:,} " if mib else ""


def _told_memory(history: History, predicted: Predicted) -> list[Content]:
    """What the training told itself, where nothing was read beside it."""
    if not history.peak:
        return [Content.styled("no GPU memory was read", "$text-muted")]
    peak = history.peak.get("process") or history.peak["reserved"]
    return [Content(f"peak {peak:,} MiB{f', predicted {predicted.gpu_mib:,}' if predicted.gpu_mib else ''}")]


def _host_lines(history: History, predicted: Predicted) -> list[Content]:
    resident, pinned = (history.readings.get(f"run.{name}_mib") for name in ("resident", "pinned"))
    mib = resident.latest if resident else history.progress.step.get("rss_mib")
    if not mib:
        return []
    whole = f" of {history.header.host_total_mib / 1024:.0f}" if history.header else ""
    said = f"RAM {mib / 1024:.1f}{whole} GiB"
    if predicted.host_mib:
        said += f", predicted {predicted.host_mib / 1024:.1f}"
    lines = [Content(said)]
    if pinned and pinned.latest:
        lines.append(Content(f"of it pinned {pinned.latest / 1024:.1f} GiB"))
    return lines


def _gpu_bars(history: History, predicted: Predicted, width: int, height: int, glyphs: Glyphs) -> list[Content]:
    """Each GPU's bar against its total, with a sign where the prediction is; in columns where rows do not suffice."""
    assert history.header is not None
    gpus = history.header.gpus
    columns = math.ceil(len(gpus) / height)
    each = (width - 2 * (columns - 1)) // columns
    used = [history.readings[f"gpu.{place}.used_mib"] for place in range(len(gpus))]
    newest = max((series.last for series in used if series), default=0.0)
    lost = [not series or newest - series.last > LOST_AFTER for series in used]
    shown = [
        _gpu_bar(gpu.index, math.nan if gone else series.latest, gpu.total_mib, predicted, each, glyphs)
        for gpu, series, gone in zip(gpus, used, lost, strict=True)
    ]
    rows = math.ceil(len(gpus) / columns)
    return [Content("  ").join(shown[row::rows]) for row in range(rows)]


def _gpu_bar(index: int, used: float, total: float, predicted: Predicted, width: int, glyphs: Glyphs) -> Content:
    if math.isnan(used):
        return Content.styled(f"{index:>2} {glyphs.fault} lost".ljust(width), "$text-error")
    figure = f"{used / 1024:5.1f}G"
    room = max(3, width - len(figure) - 4)
    cells = list(bar(used, total, room, ascii_only=glyphs is ASCII))
    styles = ["$primary"] * room
    if predicted.gpu_mib and predicted.gpu_mib <= total:
        at = min(room - 1, int(room * predicted.gpu_mib / total))
        cells[at], styles[at] = ("|" if glyphs is ASCII else "│"), "bold $text-warning"
    return Content.assemble(f"{index:>2} ", *zip(cells, styles, strict=True), f" {figure}")


def message_lines(history: History, run: RunDirectory, width: int, height: int, glyphs: Glyphs) -> list[Content]:
    """The newest messages, the newest last; warnings are marked. Before the first, how to come back to the run."""
    if not history.messages:
        return [
            Content("It goes on without this terminal."),
            Content(f"come back  simpletuner-tui attach {run.name}"),
            Content(f"stop it    simpletuner-tui stop {run.name}"),
            Content(f"its log    {run.log}"),
        ][:height]
    lines: list[Content] = []
    for message in reversed(history.messages):
        when = f"{datetime.fromtimestamp(message.time):%H:%M:%S} "
        text, style = message.text, ""
        if message.warning:
            text, style = f"{glyphs.fault} {message.text.removeprefix('warning: ')}", "$text-warning"
        rows = _wrapped(text, max(10, width - len(when)))
        head = [Content.assemble((when, "$text-muted"), (rows[0], style))]
        lines = [*head, *(Content.assemble(" " * len(when), (row, style)) for row in rows[1:]), *lines]
        if len(lines) >= height:
            break
    return lines[-height:]


def _wrapped(text: str, width: int) -> list[str]:
    return wrap(text, width) or [""]
