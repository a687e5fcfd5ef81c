"""The steps of the walk, as a list one can jump in."""

from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from simpletuner_tui.steps import Step, StepState
from simpletuner_tui.tui.glyphs import Glyphs


class JumpTo(Message):
    """The person wants to see a question."""

    def __init__(self, question_id: str) -> None:
        super().__init__()
        self.question_id = question_id


class StepList(OptionList):
    """Each step with a sign before its name; the border counts those with errors in words."""

    def __init__(self, glyphs: Glyphs) -> None:
        super().__init__(compact=True)
        self._signs = {
            StepState.DONE: glyphs.done,
            StepState.HERE: glyphs.here,
            StepState.FAULT: glyphs.fault,
            StepState.AHEAD: glyphs.ahead,
        }
        self._steps: tuple[Step, ...] = ()
        self.border_title = "Steps"

    def show(self, steps: tuple[Step, ...]) -> None:
        """Shows the steps, unless they are shown already."""
        if steps == self._steps:
            return
        self._steps = steps
        self.clear_options()
        self.add_options([Option(self._line(step), disabled=not self._reachable(step)) for step in steps])
        here = [index for index, step in enumerate(steps) if step.state is StepState.HERE]
        self.highlighted = here[0] if here else None
        faults = sum(step.state is StepState.FAULT for step in steps)
        self.border_subtitle = f"{faults} with errors" if faults else ""

    @staticmethod
    def _reachable(step: Step) -> bool:
        return step.visited or step.state is StepState.HERE

    def _line(self, step: Step) -> Content:
        # "accelerate, DeepSpeed" stands below "accelerate", set in.
        *above, title = step.title.split(", ")
        return Content(f"{self._signs[step.state]} {'  ' * len(above)}{title}")

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.post_message(JumpTo(self._steps[event.option_index].first))
