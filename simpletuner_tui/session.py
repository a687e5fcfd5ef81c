"""A walk through the registry: forward, back, and what holds so far."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from launcher.machine.availability import Availability
from simpletuner_tui.questions.conditions import Answer, answers_named
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Choice, Question
from simpletuner_tui.questions.resolving import Resolved, resolve

_ABSENT = object()
YES_AND_NO = (Choice("yes", True), Choice("no", False))


@lru_cache(maxsize=1)
def probe_machine() -> Mapping[str, bool]:
    """What conditions ask of this machine, by the name of the probe; each is looked for once, when it is asked for."""
    return Availability()


class Session:
    """One walk. A front end shows :attr:`current`, answers it or goes back; it never knows a question by name.

    Answers of questions that are no longer asked are kept: whoever changes back finds them again.
    """

    def __init__(
        self, registry: Sequence[Question], answers: Mapping[str, object], probes: Mapping[str, bool] | None = None
    ) -> None:
        """Starts at the first question.

        Args:
            registry: what is asked.
            answers: given beforehand, by id.
            probes: facts of this machine; read from it when None.
        """
        self._registry = registry
        self._beforehand = dict(answers)
        self._answers = dict(answers)
        self._probes = probe_machine() if probes is None else probes
        self._position = 0
        self._visited: set[str] = set()
        self._sources: dict[str, str] = {}
        self._before_trial: dict[str, tuple[object, str]] = {}
        self.resolved: Resolved = resolve(registry, self._answers, self._probes)

    def anew(self) -> "Session":
        """Another walk that begins as this one did."""
        return Session(self._registry, self._beforehand, self._probes)

    @property
    def answers(self) -> dict[str, object]:
        """Everything given so far, by id."""
        return dict(self._answers)

    @property
    def current(self) -> Question | None:
        """The question, note or stop to show now; None when the walk is over."""
        asked = self.resolved.asked
        return asked[self._position] if self._position < len(asked) else None

    @property
    def kept_answers(self) -> dict[str, object]:
        """Everything given so far that may be written to a disk: no secrets."""
        secret = {question.id for question in self._registry if question.secret}
        return {key: value for key, value in self._answers.items() if key not in secret}

    @property
    def visited(self) -> frozenset[str]:
        """Ids of questions that were answered or left at their default in this walk."""
        return frozenset(self._visited)

    def source_of(self, question: Question) -> str:
        """The file that an answer in force was taken from; empty for a default and for what a person answered."""
        return self._sources.get(question.id, "")

    def origin(self, question: Question) -> str:
        """Where what is in force for a question comes from, in words that follow "Enter takes"."""
        if question.id not in self._answers:
            return "the default here" if callable(question.default) else "the default"
        source = self.source_of(question)
        return f"the answer in {source}" if source else "your answer"

    @property
    def place(self) -> tuple[int, int]:
        """Where the walk is, from 1, and how many questions it has as far as is known now."""
        asking = [question for question in self.resolved.asked if question.asks]
        before = sum(question.asks for question in self.resolved.asked[: self._position])
        return before + 1, len(asking)

    def answer(self, given: object) -> None:
        """Answers the current question and moves on.

        Args:
            given: ``Typed`` by a person, or a value.

        Raises:
            ValueError: with a sentence for the person; nothing has changed then.
        """
        question = self._asking()
        self._give(question, given)
        self._visited.add(question.id)
        self._position += 1

    def keep(self, given: object) -> None:
        """Answers the current question and stays at it.

        Args:
            given: ``Typed`` by a person, or a value.

        Raises:
            ValueError: with a sentence for the person; nothing has changed then.
        """
        self._give(self._asking(), given)

    def clear(self) -> None:
        """Forgets the answer to the current question: its default is in force again."""
        question = self._asking()
        self._answers.pop(question.id, None)
        self._sources.pop(question.id, None)
        self._resolve()

    def accept_default(self) -> None:
        """Leaves the current question at its answer so far, or its default, and moves on.

        Raises:
            ValueError: it has neither, or its answer so far is no longer valid.
        """
        question = self._asking()
        if question.id in self.resolved.faults:
            raise ValueError("an answer is needed here")
        self._visited.add(question.id)
        self._position += 1

    def next(self) -> None:
        """Moves past a note."""
        if self.current is not None and self.current.kind is Kind.NOTE:
            self._position += 1

    def back(self) -> bool:
        """Moves to the question before; False at the first one."""
        asked = self.resolved.asked
        earlier = [index for index in range(min(self._position, len(asked))) if asked[index].asks]
        if not earlier:
            return False
        self._position = earlier[-1]
        return True

    def go_to(self, question_id: str) -> None:
        """Moves to a question that is asked."""
        self._position = [question.id for question in self.resolved.asked].index(question_id)

    def take(self, answers: Mapping[str, object], source: str = "") -> None:
        """Takes answers that were given elsewhere, and stays at the open question as long as it is asked.

        Args:
            answers: by id; those of questions there are no more are left out.
            source: the file they stand in, named beside each until it is answered otherwise; empty where they are the
                person's own.
        """
        known = {question.id for question in self._registry if question.asks}
        taken = {key: value for key, value in answers.items() if key in known}
        self._answers.update(taken)
        self._sources.update(dict.fromkeys(taken, source))
        here = self.current
        self._resolve()
        if here is not None and here in self.resolved.asked:
            self._position = self.resolved.asked.index(here)

    def take_on_trial(self, answers: Mapping[str, object]) -> None:
        """Takes answers so that :meth:`take_back` puts in force again what was there before them."""
        self._before_trial = {key: (self._answers.get(key, _ABSENT), self._sources.get(key, "")) for key in answers}
        self.take(answers)

    @property
    def on_trial(self) -> bool:
        """Whether there is something to take back."""
        return bool(self._before_trial)

    def take_back(self) -> None:
        """Undoes :meth:`take_on_trial`; what else was answered since stays."""
        before, self._before_trial = self._before_trial, {}
        for key, (answer, source) in before.items():
            self._answers.pop(key, None)
            if answer is not _ABSENT:
                self._answers[key] = answer
            self._sources[key] = source
        self.take({})

    def restore(self, answers: Mapping[str, object], place: str) -> None:
        """Takes up a walk that was left.

        Args:
            answers: by id, as they were given.
            place: id of the question that was open; the walk goes to where it can, if that is not asked any more.
        """
        self.take(answers)
        self._position = 0
        while (question := self.current) is not None and question.id != place:
            if question.kind is Kind.STOP or question.id in self.resolved.faults:
                return
            self._visited.add(question.id)
            self._position += 1

    def go_to_first(self) -> None:
        """Moves to the first question; those that were visited stay so."""
        self._position = 0

    def skip_to_open_question(self) -> None:
        """Takes answers so far and defaults up to the next question that has neither, a stop, or the end."""
        while (question := self.current) is not None:
            if question.kind is Kind.STOP or question.id in self.resolved.faults:
                return
            self._visited.add(question.id)
            self._position += 1

    def default_text(self) -> str | None:
        """What an empty answer to the current question means, as a person would type it; None without one."""
        question = self._asking()
        value = None if question.id in self.resolved.faults else self.resolved.values.get(question.id)
        return None if value is None else question.show(value, self.resolved.context)

    def choices(self) -> tuple[Choice, ...]:
        """Rows of the current question, yes and no among them, each with the reason why it does not work here."""
        question = self._asking()
        rows = question.choices_in(self.resolved.context) or (YES_AND_NO if question.kind is Kind.YES_NO else ())
        stops = [asked for asked in self._registry if asked.kind is Kind.STOP]
        if not any(named.question == question.id for stop in stops for named in answers_named(stop.when)):
            return rows
        return tuple(replace(row, unavailable=self._refusal(question, row.value) or row.unavailable) for row in rows)

    def _refusal(self, question: Question, answer: Answer) -> str:
        """What accelerate would say if it went no further after an answer."""
        tried = resolve(self._registry, {**self._answers, question.id: answer}, self._probes)
        after = tried.asked[tried.asked.index(question) + 1 :]
        following = next((asked for asked in after if asked.kind is not Kind.NOTE), None)
        if following is None or following.kind is not Kind.STOP:
            return ""
        return following.help or following.text_in(tried.context).strip()

    def _give(self, question: Question, given: object) -> None:
        value = question.accept(given, self.resolved.context)
        if value != self._answers.get(question.id):  # one that is only confirmed still comes from where it did
            self._sources.pop(question.id, None)
        self._answers[question.id] = value
        self._resolve()

    def _asking(self) -> Question:
        question = self.current
        if question is None or not question.asks:
            raise LookupError("no question is open")
        return question

    def _resolve(self) -> None:
        self.resolved = resolve(self._registry, self._answers, self._probes)
