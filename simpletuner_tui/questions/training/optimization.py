"""How it is asked how long and how fast it learns."""

from simpletuner_tui.questions.conditions import Is
from simpletuner_tui.questions.training.topic import Topic

OPTIMIZATION = Topic(
    section="Training",
    texts={
        "max_train_steps": "How many optimizer steps should it train?",
        "train_batch_size": "How many pictures per GPU and micro-batch?",
        "learning_rate": "Which learning rate?",
        "lr_warmup_steps": "Over how many steps should the learning rate rise?",
        "weight_decay_exclude": "What should weight decay leave alone?",
        "gradient_checkpointing": "Recompute activations to save VRAM (gradient checkpointing)?",
        "gradient_checkpointing_granularity": "What should be recomputed?",
        "seed": "Which seed?",
        "num_eval_images": "On how many pictures should the loss be measured before and after?",
    },
    conditions={"gradient_checkpointing_granularity": Is("training.gradient_checkpointing", True)},
)
