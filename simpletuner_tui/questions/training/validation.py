"""How it is asked which pictures are drawn to look at."""

from simpletuner_tui.questions.conditions import MoreThan
from simpletuner_tui.questions.training.topic import Topic

DRAWN = MoreThan("training.num_validation_images", 0)
KEYS = (
    "validation_prompt",
    "validation_prompts",
    "validation_negative_prompt",
    "validation_seed",
    "validation_num_inference_steps",
    "validation_guidance",
    "validation_resolution",
)

VALIDATION = Topic(
    section="Validation",
    texts={
        "validation_steps": "Every how many steps should pictures be drawn?",
        "num_validation_images": "How many pictures of each prompt?",
        "validation_prompt": "With which prompt?",
        "validation_prompts": "With which further prompt?",
        "validation_negative_prompt": "With which negative prompt?",
        "validation_seed": "From which seed on?",
        "validation_num_inference_steps": "With how many denoising steps?",
        "validation_guidance": "With which guidance?",
        "validation_resolution": "At which resolution?",
    },
    conditions=dict.fromkeys(KEYS, DRAWN),
    gate="Choose which pictures are drawn, and when?",
    gate_help="No: four captions of the data set, when training ends.",
)
