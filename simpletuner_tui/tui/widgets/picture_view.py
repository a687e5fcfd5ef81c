"""Validation pictures as thumbnails, two pixels in each cell."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from textwrap import wrap

from textual.binding import Binding
from textual.content import Content

from simpletuner_tui.history import Picture
from simpletuner_tui.tui.glyphs import ASCII, Glyphs
from simpletuner_tui.tui.widgets.drawn import Drawn

TEXT = 30
"""Columns for what is said of a picture beside it."""


class PictureView(Drawn, can_focus=True):
    """One picture at a time with its path, size, prompt and seed; the newest until somebody goes back."""

    DEFAULT_CSS = "PictureView { height: 1fr; }"
    BINDINGS = [
        Binding("left,up", "go(-1)", "Older"),
        Binding("right,down", "go(1)", "Newer"),
        Binding("home", "go(-100000)", show=False),
        Binding("end", "go(100000)", show=False),
    ]

    def __init__(self, glyphs: Glyphs, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(self._drawn, id=id)
        self._glyphs = glyphs
        self._pictures: Sequence[Picture] = ()
        self._back = 0
        """How many are newer than the one that is shown."""

    def offer(self, pictures: Sequence[Picture]) -> None:
        """All that are kept, oldest first; the one that somebody went back to stays as long as it is among them."""
        offered = tuple(pictures)
        if offered == self._pictures:  # not by their number: no more than so many are kept
            return
        if self._back:
            shown = self._pictures[-1 - self._back]
            self._back = len(offered) - 1 - (offered.index(shown) if shown in offered else 0)
        self._pictures = offered
        self.redraw()

    def action_go(self, newer: int) -> None:
        self._back = max(0, min(self._back - newer, len(self._pictures) - 1))
        self.redraw()

    def _drawn(self, width: int, height: int) -> list[Content]:
        if not self._pictures:
            return [Content.styled("no picture yet; validation prompts are drawn every so many steps", "$text-muted")]
        picture = self._pictures[-1 - self._back]
        plain = self._glyphs is ASCII or self.app.no_color
        image = () if plain else thumbnail(picture.thumbnail, max(8, width - TEXT - 2), height)
        room = width - (image[0].cell_length + 2 if image else 0)
        said = self._said(picture, room)
        rows = max(len(image), min(len(said), height))
        left = [*image, *[Content(" " * (width - room - 2))] * (rows - len(image))] if image else [Content("")] * rows
        gap = "  " if image else ""
        return [left[row] + Content(gap) + (said[row] if row < len(said) else Content("")) for row in range(rows)]

    def _said(self, picture: Picture, width: int) -> list[Content]:
        place = len(self._pictures) - self._back
        size = picture_size(picture.path)
        figures = f"step {picture.step:,}, seed {picture.seed}"
        lines = [f"picture {place} of {len(self._pictures)}", figures, size, "", *wrap(picture.prompt, width), ""]
        return [Content(line) for line in (*lines, *wrap(picture.path, width, break_on_hyphens=False))]


@lru_cache(maxsize=8)
def thumbnail(path: str, columns: int, rows: int) -> Sequence[Content]:
    """A picture in half blocks: the upper pixel is the sign, the lower one lies behind it. Empty where there is none.

    Args:
        path: of the file.
        columns: how many there are at most.
        rows: as many, each of two pixels.
    """
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - nobody waits for it before there are pictures

    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (OSError, UnidentifiedImageError):
        return ()
    image.thumbnail((columns, 2 * rows))
    width, height = image.size
    data = image.tobytes()
    colours = [f"rgb({data[at]},{data[at + 1]},{data[at + 2]})" for at in range(0, len(data), 3)]
    lines = []
    for upper in range(0, height, 2):
        lower = min(upper + 1, height - 1)
        pairs = zip(*(colours[row * width : (row + 1) * width] for row in (upper, lower)), strict=True)
        lines.append(Content.assemble(*(("▀", f"{above} on {below}") for above, below in pairs)))
    return tuple(lines)


@lru_cache(maxsize=64)
def picture_size(path: str) -> str:
    """Pixels of a picture, or that it is gone."""
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415

    if not Path(path).exists():
        return "the file is gone"
    try:
        with Image.open(path) as image:
            return f"{image.width}x{image.height} px"
    except (OSError, UnidentifiedImageError):
        return "cannot be read"
