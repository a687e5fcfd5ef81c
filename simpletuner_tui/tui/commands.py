"""The command palette: every question that is asked, by its words or its id."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider

if TYPE_CHECKING:
    from simpletuner_tui.tui.app import WizardApp

MEASURE = ("Measure this machine", "how fast it moves and computes, for the seconds of a step", "measure")
"""In the builder too."""
OF_SCREENS = (
    ("Begin anew", "with nothing answered", "new"),
    ("Clone", "the answers of what is chosen, into a new walk", "clone"),
    ("Resume", "the chosen run, from its newest checkpoint", "resume"),
    ("Delete", "what is chosen, for good", "delete"),
    ("Review", "every answer, the files, the command line", "review"),
    ("DeepSpeed builder", "every field of its JSON", "build"),
    ("Recommend", "what is fastest on a card: offload, batch and more", "recommend"),
    ("Take back", "what was recommended", "take_back"),
    MEASURE,
    ("Home", "set-ups, drafts, runs", "home"),
)
"""What some screens do, by their action."""


class QuestionCommands(Provider):
    """Jumps to questions."""

    @property
    def _wizard(self) -> "WizardApp":
        return cast("WizardApp", self.app)

    @property
    def _elsewhere(self) -> bool:
        """Whether the screen is about something else and has commands of its own."""
        return bool(self.screen.COMMANDS)

    async def discover(self) -> Hits:
        if self._elsewhere:
            return
        for title, help_text, action in self._actions():
            yield DiscoveryHit(title, action, help=help_text)

    async def search(self, query: str) -> Hits:
        if self._elsewhere:
            return
        matcher = self.matcher(query)
        for title, help_text, action in self._actions():
            if (score := matcher.match(title)) > 0:
                yield Hit(score, matcher.highlight(title), action, help=help_text)
        if not self._wizard.walking:
            return
        resolved, wanted = self._wizard.setup.session.resolved, query.strip().lower()
        for question in resolved.asked:
            text = question.text_in(resolved.context).strip()
            # By what is there, in the id first: a fuzzy match finds too much in a hundred sentences.
            score = 1.0 if wanted in question.id.lower() else 0.5 if wanted in text.lower() else 0.0
            if question.asks and score:
                yield Hit(score, f"{question.id}  {text}", partial(self._wizard.jump, question.id))

    def _actions(self) -> Sequence[tuple[str, str, Callable[[], Any]]]:
        app, screen = self._wizard, self.screen
        return (
            *(
                (title, help_text, partial(screen.run_action, action))
                for title, help_text, action in OF_SCREENS
                if hasattr(screen, f"action_{action}") and screen.check_action(action, ())
            ),
            *(
                [("Card", "another one to hold the cost against", partial(self.screen.run_action, "card"))]
                if hasattr(self.screen, "action_card") and self.screen.check_action("card", ())
                else []
            ),
            *([("Save", "the answers, to be replayed", app.action_save)] if app.walking else []),
            ("Quit", "what is not saved is kept as a draft; runs go on", app.action_leave),
        )
