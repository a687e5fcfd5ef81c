"""The question registry: every question declared once, as data, and walked by every front end."""

from simpletuner_tui.questions.accelerate import ACCELERATE
from simpletuner_tui.questions.deepspeed import DEEPSPEED
from simpletuner_tui.questions.model import Question
from simpletuner_tui.questions.training import TRAINING

REGISTRY: tuple[Question, ...] = (*TRAINING, *ACCELERATE, *DEEPSPEED)
"""Every question, in the order it is asked."""
