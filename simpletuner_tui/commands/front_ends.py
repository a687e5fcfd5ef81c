"""Which front end asks; the one that is drawn is loaded with nothing it does not need, as a person waits for it."""

import gc
import os
import sys
from argparse import Namespace
from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING

from launcher.errors import ExitCode
from simpletuner_tui.documents import Document, run_document
from simpletuner_tui.messages import tell
from simpletuner_tui.questions.accelerate.deepspeed import OFFLOAD_PATH
from simpletuner_tui.serving.inside import in_a_browser
from simpletuner_tui.session import Session

if TYPE_CHECKING:
    from simpletuner_tui.tui.quiet_app import QuietApp


class FrontEnd(Enum):
    """How questions are asked."""

    FULL_SCREEN = auto()
    PROMPTS = auto()
    LINES = auto()


def wizard(arguments: Namespace) -> ExitCode:
    """Asks every question in the way this terminal can: full screen, prompts, or lines.

    Raises:
        InvalidInputError: the input ends too early.
    """
    front_end, document = front_end_for(arguments), run_document()
    brought = {} if arguments.offload_param_path is None else {OFFLOAD_PATH: arguments.offload_param_path}
    session = Session(document.registry, brought)
    if arguments.preset is not None:
        from simpletuner_tui.presets import find_preset  # noqa: PLC0415 - few want one

        preset = find_preset(arguments.preset)
        for remark in preset.remarks:
            tell(f"note: {remark}")
        session.take({key: value for key, value in preset.answers.items() if key not in brought}, preset.source)
    if front_end is FrontEnd.FULL_SCREEN:
        return full_screen(document, session)
    from simpletuner_tui.commands.wizard import wizard_in_lines  # noqa: PLC0415 - not to wait for it

    return wizard_in_lines(document, session, prompts=front_end is FrontEnd.PROMPTS)


def front_end_for(arguments: Namespace) -> FrontEnd:
    """What was asked for, as far as this terminal can do it.

    Args:
        arguments: with ``accessible`` and ``plain``.
    """
    if in_a_browser():
        return FrontEnd.FULL_SCREEN
    accessible = arguments.accessible or os.environ.get("ACCESSIBLE", "") not in ("", "0")
    if accessible or not at_a_terminal():
        return FrontEnd.LINES
    if not can_be_drawn_on():
        tell("note: this terminal cannot be drawn on (TERM=dumb), so the questions come as lines")
        return FrontEnd.LINES
    return FrontEnd.PROMPTS if arguments.plain else FrontEnd.FULL_SCREEN


def at_a_terminal() -> bool:
    """Whether a person reads and types; a stream may also be closed."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def can_be_drawn_on() -> bool:
    """Whether a terminal knows more than lines."""
    return os.environ.get("TERM", "dumb") != "dumb"


def full_screen(document: Document, session: Session) -> ExitCode:
    """The full-screen app; what came of it is said once more when it is left."""

    def wizard() -> "QuietApp":
        from simpletuner_tui.tui.app import WizardApp  # noqa: PLC0415 - Textual is loaded only to be drawn with
        from simpletuner_tui.tui.driver import driver_here  # noqa: PLC0415
        from simpletuner_tui.tui.setup import set_up  # noqa: PLC0415

        return WizardApp(set_up(document, session), driver_class=driver_here())

    return run_app(wizard)


def run_app(make: "Callable[[], QuietApp]") -> ExitCode:
    """Loads a full-screen application and runs it to its end.

    Args:
        make: imports what it is made of.
    """
    gc.disable()
    app = make()
    # What is loaded lives as long as the process: looking through it again and again would cost a third of every step.
    gc.freeze()
    gc.enable()
    return app.run_and_tell()
