"""How it is asked whether the whole U-Net is trained, or a LoRA."""

from simpletuner_tui.questions.conditions import Is
from simpletuner_tui.questions.training.topic import Topic

LORA = Is("training.model_type", "lora")
OF_A_LORA = ("lora_rank", "lora_alpha", "lora_dropout", "lora_target_modules", "lora_init_type", "init_lora")

ADAPTER = Topic(
    section="Model",
    texts={
        "model_type": "What should be trained?",
        "lora_rank": "Which rank?",
        "lora_alpha": "Which alpha (0: the rank)?",
        "lora_dropout": "Which dropout in the adapter?",
        "lora_target_modules": "Which layers should get an adapter?",
        "lora_init_type": "How should the adapter begin?",
        "init_lora": "Which LoRA should it start from?",
    },
    conditions=dict.fromkeys(OF_A_LORA, LORA),
)
