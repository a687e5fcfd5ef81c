"""What a walk can start from: a draft, saved answers, accelerate's file that is there already, a preset, or nothing."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.errors import InvalidInputError
from simpletuner_tui.documents import Document
from simpletuner_tui.drafts import Draft, Drafts
from simpletuner_tui.paths import answers_rebased
from simpletuner_tui.questions.accelerate.file import read_file
from simpletuner_tui.questions.accelerate.recover import answers_in, deepspeed_answers_in
from simpletuner_tui.questions.model import Question
from simpletuner_tui.session import Session, probe_machine

if TYPE_CHECKING:
    from simpletuner_tui.presets import Preset

WHERE = "Where should it start from?"
"""What is asked before the first question, where there is a choice."""


PRESETS = "settings that fit a card of 8, 12, 16 or 24 GB, two cards, 32 GB of host RAM; the fastest; pixel art"


@dataclass(frozen=True, slots=True)
class Start:
    """One way to begin."""

    title: str
    details: str
    begin: Callable[[Session], Sequence[str]] = lambda _: ()
    """Puts a session there; returns what a person should be told about it."""
    unsaved: bool = False
    """Whether the answers it begins with stand in no file."""
    further: "Callable[[], Sequence[Start]] | None" = None
    """What is offered next, where this alone begins nothing; its last leads back here."""


def starts(document: Document, drafts: Drafts, base: Path) -> tuple[Start, ...]:
    """The ways there are, the likeliest first; none where there is no choice.

    Args:
        document: what the walk makes.
        drafts: where the draft is.
        base: the folder that relative paths count from.
    """
    found = []
    if (draft := drafts.read()) is not None:
        found.append(_of_draft(draft, base, document.registry))
    for path in document.sources:
        with suppress(InvalidInputError):  # what cannot be read is no help; whoever names it is told
            found.append(of_file(path, document.registry))
            break
    anew = start_anew("; the first answer replaces the draft" if draft else "")
    if not document.presets:
        return (*found, anew) if found else ()
    preset = Start("Start from a preset", PRESETS, further=lambda: _presets(document, drafts, base))
    return (*found, preset, anew) if found else (anew, preset)


def start_anew(remark: str = "") -> Start:
    """With nothing answered."""
    return Start("Start anew", f"from every question's own default{remark}")


def _presets(document: Document, drafts: Drafts, base: Path) -> tuple[Start, ...]:
    from simpletuner_tui.presets import presets  # noqa: PLC0415 - read once somebody wants one

    back = Start("Back", "to what else it can start from", further=lambda: starts(document, drafts, base))
    return (*(of_preset(preset) for preset in presets()), back)


def of_preset(preset: "Preset") -> Start:
    """A preset as a source of defaults."""

    def begin(session: Session) -> Sequence[str]:
        session.take(preset.answers, preset.source)
        return preset.remarks

    return Start(preset.name, f"{preset.description} {preset.figures}", begin)


def _of_draft(draft: Draft, base: Path, registry: Sequence[Question]) -> Start:
    when = f"{draft.when}, " if draft.when else ""

    def begin(session: Session) -> Sequence[str]:
        session.restore(answers_rebased(draft.answers, draft.base, base, registry), draft.place)
        return ()

    return Start("Continue the draft", f"{when}{len(draft.answers)} answers, in {draft.base}", begin, unsaved=True)


def of_answers(path: Path, base: Path, registry: Sequence[Question]) -> Start:
    """Saved answers, a set-up's or a run's. The walk begins at its first question, with all that they answer visited.

    Args:
        path: answers.json; relative paths in it count from its folder.
        base: the folder that they count from in the walk.
        registry: what is asked.

    Raises:
        InvalidInputError: it cannot be read, or holds no answers.
    """
    from simpletuner_tui.answers import read_answers  # noqa: PLC0415 - not before somebody takes some up

    try:
        read = read_answers(path.read_bytes(), path.parent, str(path))
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}") from error
    answers = answers_rebased(read.values, read.base, base, registry)
    gone = sorted(answers.keys() - {question.id for question in registry if question.asks})

    def begin(session: Session) -> Sequence[str]:
        session.take(answers, path.name)
        session.skip_to_open_question()
        session.go_to_first()
        return [f"{path.name} answers what nobody asks any more: {', '.join(gone)}."] if gone else []

    return Start(path.name, f"{len(answers)} answers, in {path.parent}", begin)


def of_file(path: Path, registry: Sequence[Question]) -> Start:
    """A file of accelerate's as a source of defaults.

    Args:
        path: YAML or JSON.
        registry: what is asked.

    Raises:
        InvalidInputError: it cannot be read.
    """
    answers, remarks = _answers(read_file(path), path, registry)

    def begin(session: Session) -> Sequence[str]:
        session.take(answers, path.name)
        return remarks

    return Start("Start from accelerate's file", f"{len(answers)} answers, in {path}", begin)


def _answers(
    content: Mapping[str, Any], path: Path, registry: Sequence[Question]
) -> tuple[dict[str, object], Sequence[str]]:
    """Answers of a file, and what of it is left out, in sentences."""
    probes = probe_machine()
    answers: dict[str, object] = dict(answers_in(content, probes))
    by_hand, others = deepspeed_answers_in(content)
    if not {question.id for question in registry} & set(by_hand):
        remark = f"{path.name} says more about DeepSpeed's optimizer or scheduler than accelerate asks: it is left out."
        return answers, [remark] if by_hand or others else []
    session = Session(registry, answers, probes)
    session.take(by_hand)
    refused = {key: fault for key, fault in session.resolved.faults.items() if key in by_hand}
    remarks = [f"{key} is not taken over from {path.name}: it {fault}." for key, fault in refused.items()]
    remarks += [f"{key} is not taken over from {path.name}: nothing asks about it here." for key in others]
    return answers | {key: value for key, value in by_hand.items() if key not in refused}, remarks
