"""Choosing the card that a cost is held against."""

from typing import Any

from textual.app import App

from launcher.estimate import verdict
from launcher.machine.cards import CARDS, usable_mib
from simpletuner_tui.tui.screens.dialogs import ChooseScreen, Row
from simpletuner_tui.tui.setup import CardChoice
from simpletuner_tui.tui.widgets.cost_pane import CostPane

HERE = "here"
"""The row of this machine's own card."""


async def choose_card(app: App[Any], choice: CardChoice, pane: CostPane) -> None:
    """Lists this machine's card and those that are sold, each with whether the plan fits; prices for the one chosen."""
    priced = pane.priced
    own = "this machine's GPU, as it is now" if priced and priced.gpus.gpus else "the smallest that it fits"
    rows = [Row(HERE, f"  {own}")]
    for gigabytes in CARDS:
        fits = f"   {verdict(priced.now, usable_mib(gigabytes))}" if priced else ""
        rows.append(Row(str(gigabytes), f"{gigabytes:>5} GB{fits}"))
    here = HERE if choice.gigabytes is None else str(choice.gigabytes)
    chosen = await app.push_screen_wait(ChooseScreen("Which card should the cost be held against?", rows, here))
    if chosen is not None:
        choice.gigabytes = None if chosen == HERE else int(chosen)
        pane.price_again()
