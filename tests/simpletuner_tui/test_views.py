"""What a dashboard's log and pictures show once a run has told more than is kept."""

import asyncio
from collections import deque

from textual.app import App, ComposeResult

from simpletuner_tui.history import Picture
from simpletuner_tui.tui.glyphs import ASCII
from simpletuner_tui.tui.widgets.drawn import Drawn
from simpletuner_tui.tui.widgets.log_view import KEPT, LogView
from simpletuner_tui.tui.widgets.picture_view import PictureView


class Shows(App[None]):
    """One view alone."""

    def __init__(self, view: Drawn) -> None:
        super().__init__()
        self._view = view

    def compose(self) -> ComposeResult:
        yield self._view


def shown(view: Drawn) -> list[str]:
    return [line.plain for line in view._lines]


def picture(step: int) -> Picture:
    return Picture(step, f"/gone/{step}.png", f"/gone/{step}.png", "a cat", 0)


def test_the_newest_picture_shows_where_older_ones_are_kept_no_more():
    async def run() -> None:
        view, kept = PictureView(ASCII), deque(map(picture, range(4)), maxlen=4)
        async with Shows(view).run_test():
            view.offer(kept)
            kept.append(picture(4))
            view.offer(kept)
            assert "step 4, seed 0" in shown(view)
            view.action_go(-1)
            kept.extend([picture(5), picture(6)])
            view.offer(kept)
            assert "step 3, seed 0" in shown(view), "what one went back to stays"
            kept.append(picture(7))
            view.offer(kept)
            assert "step 4, seed 0" in shown(view), "else the oldest there is"

    asyncio.run(run())


def test_a_log_that_is_scrolled_back_ends_at_the_oldest_line_that_is_kept():
    async def run() -> None:
        view = LogView()
        async with Shows(view).run_test():
            view.add([f"old {number}" for number in range(100)])
            view.redraw()
            assert view.search("old 50")
            view.add([f"new {number}" for number in range(2 * KEPT)])
            view.redraw()
            assert shown(view)[0] == f"new {KEPT}"
            view.action_next()
            assert shown(view)[0] == f"new {KEPT}", "what was found is kept no more"
            view.action_scroll(-1)
            assert shown(view)[0] == f"new {KEPT + 1}"

    asyncio.run(run())
