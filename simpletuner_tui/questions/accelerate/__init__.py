"""accelerate's questionnaire: its questions word for word, in its order, and the file it writes."""

from simpletuner_tui.questions.accelerate.deepspeed import DEEPSPEED_PLUGIN
from simpletuner_tui.questions.accelerate.fsdp import FSDP_PLUGIN
from simpletuner_tui.questions.accelerate.machine import DYNAMO_PLUGIN, ENVIRONMENT, MACHINE
from simpletuner_tui.questions.accelerate.megatron import MEGATRON_PLUGIN
from simpletuner_tui.questions.accelerate.parallelism import PARALLELISM
from simpletuner_tui.questions.accelerate.precision import PRECISION
from simpletuner_tui.questions.accelerate.processes import PROCESSES
from simpletuner_tui.questions.accelerate.sagemaker import INSTANCE, SAGEMAKER
from simpletuner_tui.questions.accelerate.tpu import TPU_PLUGIN

ACCELERATE = (
    *ENVIRONMENT,
    *SAGEMAKER,
    *MACHINE,
    *DYNAMO_PLUGIN,
    *INSTANCE,
    *DEEPSPEED_PLUGIN,
    *FSDP_PLUGIN,
    *PARALLELISM,
    *MEGATRON_PLUGIN,
    *PROCESSES,
    *TPU_PLUGIN,
    *PRECISION,
)
"""Everything ``accelerate config`` asks, in its order: either compute environment meets its own questions in a row."""
