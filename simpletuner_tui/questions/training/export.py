"""How it is asked what is left at the end."""

from simpletuner_tui.questions.conditions import Is
from simpletuner_tui.questions.training.topic import Topic

EXPORT = Topic(
    section="Export",
    texts={
        "export_pipeline": "Write a diffusers pipeline, or the LoRA's files, at the end?",
        "export_dtype": "In which number format should it be exported?",
    },
    conditions={"export_dtype": Is("training.export_pipeline", True)},
)
