"""The few signs that carry meaning, and what stands for them where a terminal has ASCII only."""

import os
import sys
from dataclasses import dataclass

from simpletuner_tui.serving.inside import in_a_browser


@dataclass(frozen=True, slots=True)
class Glyphs:
    """Signs one column wide; each is always beside a word that says the same."""

    done: str = "✓"
    here: str = "▶"
    fault: str = "✗"
    ahead: str = "·"
    changed: str = "●"
    full: str = "█"
    empty: str = "░"
    ellipsis: str = "…"
    between: str = "·"


UNICODE = Glyphs()
ASCII = Glyphs(done="+", here=">", fault="x", ahead=".", changed="*", full="#", empty=".", ellipsis="~", between="-")


def glyphs_here() -> Glyphs:
    """ASCII where the encoding has no more, on the Linux console with its small font, or where it is asked for."""
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    plain = not in_a_browser() and (not encoding.startswith("utf") or os.environ.get("TERM") == "linux")
    return ASCII if plain or os.environ.get("SIMPLETUNER_ASCII") else UNICODE
