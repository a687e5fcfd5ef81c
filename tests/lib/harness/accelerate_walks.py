"""The same answers through our registry and through the installed accelerate."""

import json
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from simpletuner_tui.questions.accelerate import ACCELERATE
from simpletuner_tui.questions.accelerate.common import PREFIX
from simpletuner_tui.questions.accelerate.file import accelerate_file, file_bytes
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Question, Typed
from simpletuner_tui.session import Session

PROBES = (
    *("mps", "npu", "mlu", "sdaa", "musa", "xpu", "hpu", "neuron", "deepspeed", "transformers"),
    *("fp8", "transformer_engine", "msamp", "torchao", "boto3", "sagemaker_role"),
)
DEFAULTS_OF_OURS = {"ds_json": "none", "tpu_sudo": False, "sm_key": None, "sm_secret": None}
"""accelerate's own default, where ours differs: what it saves then is useless, or nothing."""

NUMBERS = ("1", "2", "3", " 2 ", "+3", "0", "-1", "８", "1_000", "29500", "100000000")
FLOATS = ("1", "0.5", "1e-3", " 2.5 ", "0", "1_0", "-1", "3.0")
TEXTS = (
    *("a", "x,y", " spaced ", "Ünï cödé", "no", "NO", "1e3", "0123", "null", "true", "'quoted'", '"', "# a: b", "{}"),
    *("[a]", "-", "- a", "2001-01-01", "🤗", "a\u2028b", "a\u0085b", "0,1", " 0,1", "0", "yes", "~", "=", "&a", "*a"),
    *("word " * 40, "é" * 100, "x" * 200, "A B\\C", "0x1F", "1_000", "12:30:45", "!!str x", "%", "@", "`", "|", "> x"),
)
PATHS = ("hosts.txt", "~/Data/X.TSV", "/a/b", "./none", "x,y", " padded ", "~", "/A/B c/ü", "s3://Bucket/Key")


@dataclass
class Walked:
    """One walk of ours."""

    session: Session
    probes: frozenset[str]
    shown: list = field(default_factory=list)
    """What a person saw, as accelerate shows it."""
    typed: list = field(default_factory=list)
    """What accelerate is to be given."""

    @property
    def files(self) -> dict[str, str]:
        content = accelerate_file(self.session.resolved)
        return {name: file_bytes(content, name).decode() for name in ("x.yaml", "x.json")}


def walk(answers: "Mapping[str, object] | random.Random", probes: frozenset[str]) -> Walked:
    """Walks our registry with what is typed by question, or at random.

    Everything else is left at its default, and what has none gets something.
    """
    session = Session(ACCELERATE, {}, {name: name in probes for name in PROBES})
    walked = Walked(session, probes)
    while (question := session.current) is not None:
        context = session.resolved.context
        text, name = question.text_in(context), question.id.removeprefix(PREFIX)
        if question.kind is Kind.STOP:
            break
        if question.kind is Kind.NOTE:
            walked.shown.append({"note": text})
            session.next()
            continue
        given = _random(question, answers, context) if isinstance(answers, random.Random) else answers.get(name, "")
        if given == "" and question.default_in(context) is None:
            given = "29500" if question.kind is Kind.INT else "something"
        default = DEFAULTS_OF_OURS.get(name, question.default_in(context))
        if question.kind is Kind.REPEAT:
            _repeat(walked, text, question, [given] if isinstance(given, str) else list(given))
            continue
        shown = {"text": text, "kind": "text" if question.kind is Kind.PATH else str(question.kind), "default": default}
        if question.kind is Kind.MENU:
            rows = question.choices_in(context)
            shown |= {"labels": [row.label for row in rows]}
            shown["default"] = next(row.label for row in rows if row.value == default)
        walked.shown.append(shown)
        if given == "":
            session.accept_default()
            walked.typed.append("")
            continue
        session.answer(Typed(given))
        value = session.resolved.values[question.id]
        walked.typed.append(
            next(row.label for row in question.choices_in(context) if row.value == value)
            if question.kind is Kind.MENU
            else given
        )
    return walked


def _repeat(walked: Walked, text: str, question: Question, items: Sequence[str]) -> None:
    for number, item in enumerate(items, start=1):
        more = "yes" if number < len(items) else "no"
        walked.shown.append({"text": text, "kind": "text", "default": None})
        walked.shown.append({"text": question.more, "kind": "yes-no", "default": False})
        walked.typed += [item, more]
    walked.session.answer(list(items))


def _random(question: Question, dice: random.Random, context) -> object:
    """Something that may be typed; Enter now and then."""
    if question.kind is Kind.REPEAT:
        return [dice.choice(TEXTS) for _ in range(dice.randint(1, 3))]
    if question.kind is Kind.MENU:
        typed = [row.label for row in question.choices_in(context)]
    elif question.kind is Kind.YES_NO:
        typed = ["yes", "yes", "YES", "no", "No"]
    else:
        typed = {Kind.INT: NUMBERS, Kind.FLOAT: FLOATS, Kind.PATH: PATHS}.get(question.kind, TEXTS)
        typed = [text for text in typed if _parses(question, text, context)]
    if question.id == f"{PREFIX}num_machines":
        typed = ["1", "2", "3"]
    if question.default_in(context) is not None and dice.random() < 0.3:
        return ""
    return dice.choice(typed)


def _parses(question: Question, text: str, context) -> bool:
    try:
        question.parse(text, context)
    except ValueError:
        return False
    return True


def random_walk(seed: int) -> Walked:
    """One walk with everything left to a seed, this machine's packages and devices included."""
    dice = random.Random(seed)
    # Mostly installed: what is missing ends a walk.
    likely = {"deepspeed": 0.9, "transformers": 0.8, "fp8": 0.9, "transformer_engine": 0.8, "msamp": 0.8}
    likely |= {"torchao": 0.8, "boto3": 0.7, "mps": 0.1}
    probes = frozenset(name for name in PROBES if dice.random() < likely.get(name, 0.2))
    return walk(dice, probes)


def accelerate_walks(walks: Sequence[Walked], *, trace: bool = False) -> dict:
    """The same walks through the installed accelerate."""
    job = {"walks": [{"typed": walked.typed, "probes": sorted(walked.probes)} for walked in walks], "trace": trace}
    done = subprocess.run(
        [sys.executable, "-m", "harness.accelerate_driver"],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def difference(ours: Walked, theirs: Mapping) -> str:
    """What our walk shows, asks or saves otherwise than accelerate; empty when nothing."""
    for number, (one, other) in enumerate(zip(ours.shown, theirs["shown"], strict=False), start=1):
        if one != other:
            return f"prompt {number}: ours {one}, theirs {other}"
    if len(ours.shown) != len(theirs["shown"]):
        return f"ours shows {ours.shown[len(theirs['shown']) :]}, theirs {theirs['shown'][len(ours.shown) :]}"
    if theirs["left"] or theirs.get("asks on"):
        return f"typed but not asked for: {theirs['left']}"
    stop = ours.session.resolved.stop
    if stop is not None or "stop" in theirs:
        said = stop and stop.text_in(ours.session.resolved.context)
        return (
            "" if said == theirs.get("stop", [None, None])[1] else f"ours stops: {said}, theirs: {theirs.get('stop')}"
        )
    return "".join(
        f"{name}: ours {text!r}, theirs {theirs[name]!r}" for name, text in ours.files.items() if text != theirs[name]
    )
