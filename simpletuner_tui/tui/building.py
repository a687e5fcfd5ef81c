"""The DeepSpeed builder opened from a walk: what it is opened with, and what becomes of its result."""

from typing import Any

from textual.app import App

from launcher.errors import InvalidInputError
from simpletuner_tui.answers import read_resolved
from simpletuner_tui.builder.plan import apply, builder_of, name_file, of_file
from simpletuner_tui.tui.screens.builder import BuilderScreen
from simpletuner_tui.tui.setup import CostBasis, SetUp


async def build(app: App[Any], setup: SetUp) -> str:
    """Shows the builder; answers become what is applied, or name the file that was saved.

    Returns:
        What came of it, in a sentence; empty where it was left without a result.
    """
    session = setup.session
    try:
        builder, path = builder_of(session.resolved, setup.base)
    except InvalidInputError as error:
        app.notify(str(error), severity="error", title="Not opened")
        return ""
    basis = CostBasis(read_resolved(session.resolved, setup.base).settings, setup.machine, setup.card)
    screen = BuilderScreen(builder, setup.glyphs, path, basis, applies=not of_file(session.resolved))
    config = await app.push_screen_wait(screen)
    if config is None:
        return ""
    if screen.saved is not None:
        return name_file(session, screen.saved)
    return apply(config, session, setup.base, setup.document.registry)
