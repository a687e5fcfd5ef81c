"""How it is asked which pictures it learns from."""

from simpletuner_tui.questions.conditions import Is
from simpletuner_tui.questions.training.topic import Topic

DATA = Topic(
    section="Pictures",
    texts={
        "instance_data_dir": "Which folder holds the pictures and their captions?",
        "resolution": "At which resolution should it train?",
        "cache_dir": "Where should latents and prompt embeddings be kept?",
    },
    conditions={"instance_data_dir": Is("ask.sources", False)},
)
