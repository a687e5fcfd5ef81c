"""accelerate's questionnaire: its questions word for word, in its order, and the file it writes."""

from simpletuner_tui.questions.accelerate.deepspeed import DEEPSPEED_PLUGIN
from simpletuner_tui.questions.accelerate.machine import MACHINE, PRECISION, PROCESSES

ACCELERATE = (*MACHINE, *DEEPSPEED_PLUGIN, *PROCESSES, *PRECISION)
"""The part of ``accelerate config`` that a DeepSpeed training on this machine needs, in its order."""
