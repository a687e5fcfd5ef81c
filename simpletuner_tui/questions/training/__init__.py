"""What is asked about a run beside accelerate and DeepSpeed: the settings of training.json, topic by topic."""

from itertools import groupby

from launcher.config.training import training_declarations
from simpletuner_tui.questions.model import Question
from simpletuner_tui.questions.training.adapter import ADAPTER
from simpletuner_tui.questions.training.captions import CAPTIONS
from simpletuner_tui.questions.training.checkpoints import CHECKPOINTS
from simpletuner_tui.questions.training.data import DATA
from simpletuner_tui.questions.training.ema import EMA
from simpletuner_tui.questions.training.export import EXPORT
from simpletuner_tui.questions.training.model import MODEL
from simpletuner_tui.questions.training.notification import NOTIFICATION
from simpletuner_tui.questions.training.objective import OBJECTIVE
from simpletuner_tui.questions.training.optimization import OPTIMIZATION
from simpletuner_tui.questions.training.preparation import PREPARATION
from simpletuner_tui.questions.training.runtime import RUNTIME
from simpletuner_tui.questions.training.sources import SOURCES
from simpletuner_tui.questions.training.topic import Topic
from simpletuner_tui.questions.training.tracking import TRACKING
from simpletuner_tui.questions.training.validation import VALIDATION

TOPICS: dict[str, Topic] = {
    "model": MODEL,
    "adapter": ADAPTER,
    "sources": SOURCES,
    "data": DATA,
    "captions": CAPTIONS,
    "preparation": PREPARATION,
    "objective": OBJECTIVE,
    "optimization": OPTIMIZATION,
    "ema": EMA,
    "checkpoints": CHECKPOINTS,
    "validation": VALIDATION,
    "export": EXPORT,
    "tracking": TRACKING,
    "notification": NOTIFICATION,
    "runtime": RUNTIME,
}
"""How each topic is asked, by its name; the order is that of the settings."""

TRAINING: tuple[Question, ...] = tuple(
    question
    for name, declared in groupby(training_declarations(), key=lambda pair: pair[0])
    for question in TOPICS[name].questions(name, [setting for _, setting in declared])
)
