"""The full-screen wizard under a test's fingers: a small registry, keys, and what is on the screen."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from pathlib import Path

from textual.widgets import Input, OptionList, Static

from harness.screens import MACHINE, settle, short_waits
from simpletuner_tui.documents import run_document
from simpletuner_tui.drafts import Drafts
from simpletuner_tui.questions.conditions import Is
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Choice, Question
from simpletuner_tui.session import Session
from simpletuner_tui.tui.app import WizardApp
from simpletuner_tui.tui.glyphs import UNICODE
from simpletuner_tui.tui.screens.review import ReviewScreen
from simpletuner_tui.tui.setup import SetUp
from simpletuner_tui.tui.widgets.cost_pane import CostView
from simpletuner_tui.tui.widgets.steps import StepList


def ask(name: str, kind: Kind, section: str = "First", **rest) -> Question:
    """A question of a small registry; its text says its name."""
    return Question(f"test.{name}", kind, f"Which {name}?", section, **rest)


COLOURS = tuple(Choice(name, name) for name in ("red", "green", "blue", "black"))
MANY = tuple(Choice(f"row {number:02}", number) for number in range(12))
KINDS = (
    ask("colour", Kind.MENU, choices=COLOURS, default="blue", help="Colours are seen."),
    ask("remark", Kind.NOTE, when=Is("test.colour", "green")),
    ask("end", Kind.STOP, when=Is("test.colour", "black"), help="black absorbs everything"),
    ask("sure", Kind.YES_NO, default=False),
    ask("reason", Kind.TEXT, default="none", when=Is("test.sure", True)),
    ask("count", Kind.INT, "Numbers", default=3),
    ask("rate", Kind.FLOAT, "Numbers", default=0.5),
    ask("betas", Kind.LIST, "Numbers", default=[0.9, 0.999]),
    ask("row", Kind.MENU, "Numbers", choices=MANY, default=0),
    ask("words", Kind.TEXT, "Texts", default=""),
    ask("place", Kind.PATH, "Texts"),
    ask("names", Kind.REPEAT, "Texts", default=[], more="Another?"),
    ask("key", Kind.TEXT, "Texts", default="", secret=True),
)
"""One question of every kind."""

SDXL = {
    "training.pretrained_model_name_or_path": "./m",
    "training.instance_data_dir": "./nowhere",
    "accelerate.use_deepspeed": True,
}
"""The least that the real registry wants to know."""


def only(kind: Kind, **rest) -> tuple[Question, Question]:
    """A registry of one question, and one after it."""
    return ask("it", kind, **rest), ask("after", Kind.YES_NO, default=True)


def in_loop(test):
    """Lets a test be a coroutine, with Textual's waits short."""

    @wraps(test)
    def run(*arguments, **keywords):
        with short_waits():
            asyncio.run(test(*arguments, **keywords))

    return run


class Wizard:
    """The application, its keys and its screen."""

    def __init__(
        self,
        registry: Sequence[Question] = KINDS,
        answers: Mapping[str, object] | None = None,
        *,
        size: tuple[int, int] = (80, 24),
        presets: bool = False,
        **setup,
    ) -> None:
        parts = {
            "session": Session(registry, answers or {}, {"deepspeed": True}),
            "document": replace(run_document(), name="test", registry=registry, sources=(), presets=presets),
            "drafts": Drafts(Path("draft.json")),
            "gpus": MACHINE.gpus,
            "machine": lambda: MACHINE,
            "base": Path.cwd(),
            "run_dir": lambda: Path("runs/test"),
            "glyphs": UNICODE,
        }
        self.app = WizardApp(SetUp(**{**parts, **setup}))
        self._running = self.app.run_test(size=size)

    async def __aenter__(self) -> "Wizard":
        self.pilot = await self._running.__aenter__()
        await settle(self.app, self.pilot)
        return self

    async def __aexit__(self, *error) -> None:
        await self._running.__aexit__(*error)

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.pilot.press(key)
        await settle(self.app, self.pilot)

    async def until(self, holds: Callable[[], bool], seconds: float = 10) -> None:
        """Waits for what Textual puts off to a later refresh, such as scrolling."""
        async with asyncio.timeout(seconds):
            while not holds():
                await self.pilot.pause(0.05)

    async def type(self, text: str, *keys: str) -> None:
        """A text, then keys."""
        await self.press(*text, *keys)

    async def clear(self) -> None:
        """Empties the field that has the focus."""
        await self.press("end", "ctrl+u")

    async def answer_everything(self) -> None:
        """Goes to the review."""
        self.session.go_to("test.place")
        self.session.answer("here")
        self.session.go_to(self.session.resolved.asked[0].id)
        await self.press("f4")

    @property
    def screen(self):
        return self.app.screen

    @property
    def session(self) -> Session:
        """Of the walk that is under way."""
        return self.app.setup.session

    @property
    def where(self) -> str | None:
        """Id of the question that is shown, without its namespace."""
        current = self.session.current
        return current and current.id.removeprefix("test.")

    @property
    def values(self) -> dict[str, object]:
        return {key.removeprefix("test."): value for key, value in self.session.resolved.values.items()}

    def text(self, selector: str) -> str:
        """What a widget says."""
        return str(self.screen.query_one(selector, Static).content)

    @property
    def cost(self) -> str:
        """What the cost pane says."""
        return str(self.screen.query_one(CostView).render())

    @property
    def field(self) -> Input:
        return self.screen.query_one("TextField", Input)

    def rows(self, selector: str = "#rows") -> list[str]:
        """The rows of a list."""
        listed = self.screen.query_one(selector, OptionList)
        return [str(option.prompt) for option in listed.options]

    @property
    def steps(self) -> list[str]:
        listed = self.screen.query_one(StepList)
        return [str(option.prompt) for option in listed.options]

    @property
    def review(self) -> ReviewScreen:
        assert isinstance(self.screen, ReviewScreen)
        return self.screen

    @property
    def said(self) -> list[str]:
        """Notices, newest last."""
        return [f"{each.title} {each.message}".strip() for each in self.app._notifications]
