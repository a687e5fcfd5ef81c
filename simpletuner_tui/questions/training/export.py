"""How it is asked what is left at the end."""

from simpletuner_tui.questions.conditions import AllOf, Is, MoreThan
from simpletuner_tui.questions.training.topic import Topic

EXPORTED = Is("training.export_pipeline", True)
DRAWN = AllOf(EXPORTED, MoreThan("training.num_validation_images", 0))

EXPORT = Topic(
    section="Export",
    texts={
        "export_pipeline": "Write a diffusers pipeline, or the LoRA's files, at the end?",
        "export_dtype": "In which number format should it be exported?",
        "num_validation_images": "How many sample pictures should be drawn at the end?",
        "validation_prompt": "With which prompt?",
        "validation_num_inference_steps": "With how many denoising steps?",
        "validation_guidance": "With which guidance?",
    },
    conditions={
        "export_dtype": EXPORTED,
        "num_validation_images": EXPORTED,
        "validation_prompt": DRAWN,
        "validation_num_inference_steps": DRAWN,
        "validation_guidance": DRAWN,
    },
)
