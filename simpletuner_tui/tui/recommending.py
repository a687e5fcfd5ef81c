"""A recommendation asked for in the wizard: for which card, what it would change, and whether it is taken."""

import textwrap
from functools import partial
from typing import Any

from textual.app import App
from textual.content import Content
from textual.worker import WorkerFailed

from launcher.errors import InvalidInputError
from launcher.machine.cards import CARDS, usable_mib
from simpletuner_tui.recommending import budget_of, propose
from simpletuner_tui.text import size
from simpletuner_tui.tui.cards import HERE
from simpletuner_tui.tui.screens.dialogs import ChooseScreen, ConfirmScreen, Row
from simpletuner_tui.tui.screens.texts import TextScreen
from simpletuner_tui.tui.setup import SetUp

WIDTH = 64
"""Columns of what is told."""
FOR_WHICH = "Stage, offload, recomputing and batch are chosen for speed. For which card?"


async def recommend(app: App[Any], setup: SetUp) -> str:
    """Shows a recommendation; it becomes answers where the person says so.

    Returns:
        What came of it, in a sentence; empty where nothing did.
    """
    machine, session = setup.machine(), setup.session
    gpus = machine.gpus().gpus
    rows = [Row(str(card), f"a card of {card} GB", "in this machine") for card in CARDS]
    free = min((gpu.free_mib for gpu in gpus), default=0)
    if gpus:
        rows.insert(0, Row(HERE, f"this machine's {gpus[0].name}", f"{size(free)} are free now"))
    chosen = await app.push_screen_wait(ChooseScreen(FOR_WHICH, rows))
    if chosen is None:
        return ""
    vram = free if chosen == HERE else usable_mib(int(chosen))
    budget = budget_of(vram, machine, setup.base)
    resolved, answers = session.resolved, session.answers
    asked = partial(propose, answers, resolved, setup.base, setup.document.registry, budget)
    working = app.run_worker(asked, name="_propose", thread=True, exit_on_error=False)  # it takes a second or two
    try:
        proposal = await working.wait()
    except WorkerFailed as failed:
        if not isinstance(failed.error, InvalidInputError):
            raise
        app.notify(str(failed.error), severity="error", title="Nothing to recommend")
        return ""
    told = "\n".join(_wrapped(line) for line in proposal.lines)
    if not proposal.answers:
        await app.push_screen_wait(TextScreen("Recommendation", told))
        return ""
    screen = ConfirmScreen("The fastest setting that fits. Use it?", yes="Use it", no="Leave it", details=Content(told))
    if not await app.push_screen_wait(screen):
        return ""
    session.take_on_trial(proposal.answers)
    return f"Changed: {', '.join(proposal.answers)}. Ctrl+P, Take back undoes it."


def _wrapped(line: str) -> str:
    """A line in the width of the dialog, its rest a little to the right."""
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.fill(line, WIDTH, subsequent_indent=indent, break_on_hyphens=False)
