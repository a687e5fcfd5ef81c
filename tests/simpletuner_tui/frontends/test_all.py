"""Front ends walk whatever the registry holds, and know no question by name."""

import io
import re
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from harness.wizard import KINDS, Wizard, in_loop
from simpletuner_tui.answers import Answers, judge_answers, read_answers, write_answers
from simpletuner_tui.frontends import plain
from simpletuner_tui.frontends.accessible import Lines, walk
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Question, Typed
from simpletuner_tui.questions.resolving import resolve
from simpletuner_tui.session import Session

PACKAGE = Path(__file__).parents[3] / "simpletuner_tui"
WALKERS = sorted(
    [
        *(PACKAGE / "frontends").rglob("*.py"),
        *(PACKAGE / "tui").rglob("*.py"),
        *(PACKAGE / name for name in ("session.py", "steps.py", "review.py", "drafts.py", "saving.py")),
        PACKAGE / "commands/wizard.py",
        PACKAGE / "commands/front_ends.py",
    ]
)
NEW = Question("added.yesterday", Kind.INT, "How new is it?", "News", default=1)
WITH_NEW = (*KINDS[5:6], NEW)
"""One that was there, and one that nobody has heard of."""


@pytest.mark.parametrize("path", WALKERS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_front_end_holds_the_name_of_a_question(path):
    text = path.read_text()
    assert [question.id for question in REGISTRY if question.id in text] == []
    leaves = {question.id.rsplit(".", 1)[-1] for question in REGISTRY}
    words = set(re.findall(r"[\"']([a-z0-9_]+)[\"']", text))
    # Words that are names of other things too.
    assert words & leaves <= {"machine", "name", "key", "seed"}


@pytest.mark.usefixtures("monkeypatch")
@in_loop
async def test_a_new_question_is_in_the_full_screen_wizard(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with Wizard(WITH_NEW) as wizard:
        await wizard.press("enter")
        assert wizard.text("#text") == NEW.text
        assert any("News" in step for step in wizard.steps)
        await wizard.type("5", "enter")
        assert any("yesterday: 5" in row for row in wizard.rows("#answers"))


def test_a_new_question_is_among_the_prompts():
    session = Session(WITH_NEW, {}, {})
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        keys.send_text("\r5\r")
        plain.walk(session)
    assert session.answers == {NEW.id: 5}


def test_a_new_question_is_among_the_lines():
    session, said = Session(WITH_NEW, {}, {}), io.StringIO()
    walk(Lines(io.StringIO("\n5\n"), said), session)
    assert NEW.text in said.getvalue()
    assert session.answers == {NEW.id: 5}


def test_a_new_question_is_replayed(tmp_path):
    resolved = resolve(WITH_NEW, {NEW.id: 5})
    again = read_answers(write_answers(resolved, tmp_path, tmp_path), tmp_path, "answers")
    assert again.values[NEW.id] == 5
    judged = judge_answers(again.values, resolve(WITH_NEW, again.values), tmp_path, WITH_NEW)
    assert NEW.id not in {problem.field for problem in judged.problems}
    assert Answers({}, tmp_path).with_typed({NEW.id: "6"}, tmp_path, WITH_NEW).values == {NEW.id: Typed("6")}
    wrong = judge_answers({NEW.id: "x"}, resolve(WITH_NEW, {NEW.id: "x"}), tmp_path, WITH_NEW)
    assert [problem.field for problem in wrong.problems] == [NEW.id]
