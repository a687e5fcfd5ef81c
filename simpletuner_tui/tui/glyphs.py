"""The few signs that carry meaning, and what stands for them where a terminal has ASCII only."""

from dataclasses import dataclass


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
