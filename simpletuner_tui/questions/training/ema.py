"""How it is asked whether the weights are averaged."""

from simpletuner_tui.questions.conditions import Is
from simpletuner_tui.questions.training.topic import Topic

AVERAGED = Is("training.use_ema", True)

EMA = Topic(
    section="Training",
    texts={
        "use_ema": "Keep a moving average of the weights (EMA)?",
        "ema_decay": "With which decay?",
        "ema_update_interval": "Every how many steps should the average be updated?",
        "ema_device": "Where should the average be kept?",
    },
    conditions={
        "ema_decay": AVERAGED,
        "ema_update_interval": AVERAGED,
        "ema_device": AVERAGED,
    },
)
