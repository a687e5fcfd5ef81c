"""How it is asked what is saved while it trains."""

from simpletuner_tui.questions.training.topic import Topic

CHECKPOINTS = Topic(
    section="Checkpoints",
    texts={
        "output_dir": "Where should checkpoints and exports go?",
        "checkpointing_steps": "Every how many steps should a checkpoint be written?",
        "checkpoints_total_limit": "How many checkpoints should be kept?",
        "checkpoint_contents": "What should be in a checkpoint?",
        "resume_from_checkpoint": "From which checkpoint should it continue, if there is one?",
    },
)
