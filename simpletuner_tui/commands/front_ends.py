"""Which front end asks; the one that is drawn is loaded with nothing it does not need, as a person waits for it."""

import gc
import os
import sys
from argparse import Namespace
from typing import TextIO

from launcher.errors import ExitCode
from simpletuner_tui.messages import tell
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.session import Session


def wizard(arguments: Namespace) -> ExitCode:
    """Asks every question in the way this terminal can: full screen, prompts, or lines.

    Raises:
        InvalidInputError: the input ends too early.
    """
    accessible = arguments.accessible or os.environ.get("ACCESSIBLE", "") not in ("", "0")
    terminal = _is_terminal(sys.stdin) and _is_terminal(sys.stdout)
    dumb = os.environ.get("TERM", "dumb") == "dumb"
    if terminal and not (accessible or dumb or arguments.plain):
        return full_screen_wizard()
    from simpletuner_tui.commands.wizard import accessible_wizard, plain_wizard  # noqa: PLC0415 - not to wait for it

    if terminal and not accessible and dumb:
        tell("note: this terminal cannot be drawn on (TERM=dumb), so the questions come as lines")
    return plain_wizard() if terminal and not (accessible or dumb) else accessible_wizard()


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def full_screen_wizard() -> ExitCode:
    """The full-screen app; a run that it started is named once more when it is left."""
    gc.disable()
    from simpletuner_tui.tui.app import WizardApp  # noqa: PLC0415 - Textual is loaded only to be drawn with
    from simpletuner_tui.tui.driver import TolerantDriver  # noqa: PLC0415
    from simpletuner_tui.tui.setup import set_up  # noqa: PLC0415

    app = WizardApp(set_up(Session(REGISTRY, {})), driver_class=TolerantDriver)
    # What is loaded lives as long as the process: looking through it again and again would cost a third of every step.
    gc.freeze()
    gc.enable()
    run = app.run()
    if app.return_code == ExitCode.HANGUP:
        os._exit(ExitCode.HANGUP)  # what is left to be written has nowhere to go, and Python would complain of it
    if run is not None:
        tell(f"{run.name} trains by itself: simpletuner-tui attach {run.name} · stop {run.name} · logs {run.name}")
    return ExitCode(app.return_code or 0)
