"""Whatever is typed, in whatever bytes, ends in no traceback; going back and forth changes nothing."""

import io
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textual import events

from harness.wizard import KINDS, Wizard, in_loop
from launcher.errors import InvalidInputError
from simpletuner_tui.frontends.accessible import Lines, QuitWalkError, walk
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Typed
from simpletuner_tui.session import Session

NASTY = [
    "x" * 50_000,
    "9" * 5_000,
    "a\0b",
    "\x1b[31m\x07\x08\r",
    "\u202eevil\u2066",
    "\u05d0\u05d1 \u0627\u0644",
    "\ud800",
    "\N{REPLACEMENT CHARACTER}",
    "[bold]{0}%s$(id)[/",
    "e\u0301" * 40 + "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "~nobody/..//",
    "nan",
    "1e999",
]
LINED = [
    question
    for question in KINDS
    if question.asks and question.when is None and question.kind not in (Kind.MENU, Kind.YES_NO, Kind.FLOAT)
]


@pytest.mark.parametrize("question", LINED, ids=lambda question: question.id)
@in_loop
async def test_any_text_in_any_field(folder, question):
    async with Wizard((question, KINDS[0])) as wizard:
        for text in NASTY:
            wizard.session.go_to(question.id)
            await wizard.screen.show()
            wizard.field.value = ""
            wizard.field.post_message(events.Paste(text))
            await wizard.press()
            wizard.field.value = text
            await wizard.press("enter")
            if wizard.where == "colour":
                await wizard.press("f2")
        await wizard.press("ctrl+u", "f4")
        assert wizard.app._exception is None
        assert wizard.app.export_screenshot()


text = st.text() | st.sampled_from([*NASTY, "", "back", "rest", "?", "yes", "no", "1", "2", "green", "black"])


@given(typed=st.lists(text, max_size=30))
@settings(max_examples=60, deadline=None)
def test_any_lines(typed):
    session, said = Session(KINDS, {}, {}), io.StringIO()
    with suppress(QuitWalkError, InvalidInputError):
        walk(Lines(io.StringIO("\n".join(typed)), said), session)
    said.getvalue().encode()


moves = st.lists(
    st.sampled_from(["back", "default", "rest", "next"]) | text.map(Typed) | st.booleans() | st.integers(0, 20),
    max_size=25,
)


@given(moves=moves, steps=st.integers(1, 10))
@settings(max_examples=100, deadline=None)
def test_back_and_forth_changes_nothing(moves, steps):
    session = Session(KINDS, {}, {})
    for move in moves:
        if session.current is None or not session.current.asks:
            session.next() if move == "next" else session.back()
        elif move == "back":
            session.back()
        elif move == "rest":
            session.skip_to_open_question()
        else:
            with suppress(ValueError):
                session.accept_default() if move == "default" else session.answer(move)
    answers, resolved, here = session.answers, session.resolved, session.current
    gone = sum(session.back() for _ in range(steps))
    while session.current is not here and session.current is not None:
        if not session.current.asks:
            session.next()
            continue
        try:
            session.accept_default()
        except ValueError:
            break  # what was jumped over still has no answer
    assert gone == 0 or session.current is here or session.current.id in resolved.faults
    assert (session.answers, session.resolved) == (answers, resolved)
