"""What the cost pane says of a priced plan, line by line."""

from collections.abc import Iterator
from textwrap import wrap

from textual.content import Content

from launcher.estimate import Verdict
from simpletuner_tui.costs import (
    MEASURING,
    beside_gpu,
    called,
    change,
    held_lines,
    holders,
    judged,
    part_lines,
    peak_line,
    phase_table,
)
from simpletuner_tui.pricing import Priced
from simpletuner_tui.tui.glyphs import Glyphs
from simpletuner_tui.tui.widgets.cost_bar import bar, legend, segments

OFFERED = "F10: measure this machine, for seconds a step"
STYLES = {Verdict.FITS: "$text-success", Verdict.TIGHT: "$text-warning", Verdict.DOES_NOT_FIT: "$text-error"}


def cost_lines(priced: Priced, width: int, glyphs: Glyphs, told: str = "", *, measures: bool = False) -> list[Content]:
    """The lines of a plan.

    Args:
        priced: the plan.
        width: columns there are.
        glyphs: signs this terminal can show.
        told: what is said in place of its verdict.
        measures: whether this machine is being measured.
    """
    now = priced.now
    lines = _wrapped(told, width, "bold") if told else _verdict(priced, width, glyphs)
    if changed := change(priced.before, now):
        lines += _wrapped(changed, width)
    if priced.uses_gpu:
        shown = segments(now.gpu_peak, priced.card)
        lines += [bar(shown, priced.card, width, glyphs), *legend(shown, width, glyphs)]
        lines += _wrapped(holders(priced.card), width) if priced.card else []
        lines += _wrapped(peak_line(now.gpu_peak), width)
    for line in beside_gpu(now, priced.host):
        lines += _wrapped(line, width, indent=2)
    if priced.to_measure is not None:
        lines += _wrapped(f"{MEASURING}{glyphs.ellipsis}" if measures else OFFERED, width, "dim", indent=2)
    return lines + list(_details(priced, width))


def _verdict(priced: Priced, width: int, glyphs: Glyphs) -> list[Content]:
    if not priced.uses_gpu:
        return _wrapped("Trains on the CPU: no GPU is used.", width, "bold")
    if priced.card is None:
        needs = f"{glyphs.fault} Does not fit: needs {priced.now.gpu_least_mib:,} MiB, which no card here or sold has."
        return _wrapped(needs, width, "bold $text-error", indent=2)
    verdict, sentence = judged(priced.now, priced.card)
    sign = {Verdict.FITS: glyphs.done, Verdict.TIGHT: "!", Verdict.DOES_NOT_FIT: glyphs.fault}[verdict]
    return _wrapped(f"{sign} {sentence}", width, f"bold {STYLES[verdict]}", indent=2)


def _details(priced: Priced, width: int) -> Iterator[Content]:
    """What there is more to know; a pane that is short of rows scrolls to it."""
    now = priced.now
    for title, listed in (
        ("", list(held_lines(priced.card)) if priced.card else []),
        ("", phase_table(now) if priced.uses_gpu else []),
        (f"GPU, {called(now.gpu_peak)}", part_lines(now.gpu_peak.parts) if priced.uses_gpu else []),
        ("Host RAM", part_lines(now.host)),
        ("Disk", part_lines(now.disk)),
        ("", [f"Note: {note}." for note in now.notes]),
    ):
        if listed:
            yield Content("")
            for line in [title] * bool(title) + listed:
                yield from _wrapped(line, width, indent=2)


def _wrapped(text: str, width: int, style: str = "", indent: int = 0) -> list[Content]:
    return [Content.styled(line, style) for line in wrap(text, width, subsequent_indent=" " * indent)]
