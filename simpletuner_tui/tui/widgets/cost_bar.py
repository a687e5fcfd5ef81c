"""The bar of the cost pane: what the peak takes of a card, share by share, and what others hold of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

from textual.content import Content

from launcher.estimate import Phase
from launcher.estimate.shares import Share, by_share
from simpletuner_tui.costs import UNNOTICED_MIB
from simpletuner_tui.pricing import Card
from simpletuner_tui.tui.glyphs import ASCII, Glyphs

OTHERS, FREE, END = "others", "free", "end of the card"
GAP = "  "
"""Between the columns of the legend."""


@dataclass(frozen=True, slots=True)
class Fill:
    """How a share is drawn: no two by the same sign, since a terminal may have no colours."""

    sign: str
    ascii: str
    style: str


FILLS: Mapping[str, Fill] = {
    OTHERS: Fill("╱", "/", "$text-error"),
    Share.CONTEXT: Fill("▚", "%", "$foreground"),
    Share.WEIGHTS: Fill("█", "#", "$primary"),
    Share.OPTIMIZER: Fill("▄", "=", "$accent"),
    Share.GRADIENTS: Fill("▓", "+", "$text-warning"),
    Share.ACTIVATIONS: Fill("▒", "*", "$success"),
    Share.OTHER: Fill("▞", "@", "$text-muted"),
    Share.UNUSED: Fill("░", ".", "$text-muted"),
    FREE: Fill(" ", " ", ""),
    END: Fill("│", "|", "bold"),
}
"""In the order of the bar."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of the bar."""

    name: str
    mib: int


def segments(peak: Phase, card: Card | None) -> list[Segment]:
    """What lies on a card at the peak: others', then this run's."""
    run = [Segment(share, mib) for share, mib in by_share(peak.parts).items()]
    held = card.held_mib if card else 0
    return [Segment(OTHERS, held), *run] if held >= UNNOTICED_MIB else run


def bar(shown: Sequence[Segment], card: Card | None, width: int, glyphs: Glyphs) -> Content:
    """The bar in one line; what does not fit goes on beyond the end of the card.

    Args:
        shown: what lies on the card.
        card: where the bar ends; None: at what is shown.
        width: columns there are.
        glyphs: signs this terminal can show.
    """
    whole = sum(segment.mib for segment in shown)
    if card is None:
        return _drawn(_cells(shown, whole, width), glyphs)
    end = card.free_mib + sum(segment.mib for segment in shown if segment.name == OTHERS)
    scale = max(whole, end)
    cells = _cells([*shown, Segment(FREE, scale - whole)], scale, width - 1)
    at = round((width - 1) * end / scale)
    return _drawn([*cells[:at], END, *cells[at:]], glyphs)


def _cells(shown: Sequence[Segment], scale: int, width: int) -> list[str]:
    """The segment that each column belongs to; one of less than half a column may have none."""
    cells: list[str] = []
    ends = accumulate(segment.mib for segment in shown)
    for segment, end in zip(shown, ends, strict=True):
        cells += [segment.name] * (round(width * end / scale) - len(cells))
    return cells


def _drawn(cells: Sequence[str], glyphs: Glyphs) -> Content:
    runs = ((name, len(list(same))) for name, same in groupby(cells))
    return Content.assemble(*(_sign(name, glyphs, times) for name, times in runs))


def legend(shown: Sequence[Segment], width: int, glyphs: Glyphs) -> list[Content]:
    """Each segment's sign, name and size: in two columns where there is room, without the unit where that makes it."""
    names = max(len(segment.name) for segment in shown)
    sizes = max(len(f"{segment.mib:,}") for segment in shown)
    two_columns = [unit for unit in (" MiB", "") if 2 * (2 + names + 1 + sizes + len(unit)) + len(GAP) <= width]
    entries = [
        Content.assemble(
            _sign(segment.name, glyphs),
            f" {segment.name:<{names}} {segment.mib:>{sizes},}{two_columns[0] if two_columns else ' MiB'}",
        )
        for segment in shown
    ]
    each = 2 if two_columns else 1
    return [Content(GAP).join(entries[row : row + each]) for row in range(0, len(entries), each)]


def _sign(name: str, glyphs: Glyphs, times: int = 1) -> tuple[str, str]:
    fill = FILLS[name]
    return (fill.ascii if glyphs is ASCII else fill.sign) * times, fill.style
