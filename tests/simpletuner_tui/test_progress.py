"""What is shown of a phase under way."""

import io

import pytest

from simpletuner_tui.follow import _Lines
from simpletuner_tui.progress import Progress


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ({"done": 500, "total": 20000, "seconds_left": 5400.0}, "500/20000 1 h 30 min left"),
        ({"done": 1, "total": 20000, "seconds_left": None}, "1/20000"),
        ({"done": 20000, "total": 20000, "seconds_left": 0.0}, "20000/20000"),
    ],
)
def test_a_phase_under_way_says_how_long_it_will_take(told, shown):
    progress, out = Progress(), Terminal()
    progress.take({"event": "phase", "phase": "latents", "state": "start"})
    progress.take({"event": "phase", "phase": "latents", "state": "progress", **told})
    _Lines(out, progress).refresh()
    line = out.getvalue()
    assert line.startswith("  latents ")
    assert line.endswith(shown)
