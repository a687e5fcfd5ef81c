"""What is saved while it trains, and where."""

from dataclasses import dataclass

from launcher.config.setting import setting


@dataclass(frozen=True, slots=True)
class CheckpointSettings:
    """What is saved while it trains, and where."""

    output_dir: str = setting("", "Where checkpoints and exports go. Empty: inside the run directory.", path=True)
    checkpointing_steps: int = setting(
        500, "A checkpoint is written every so many steps, and at the end.", unit="steps", minimum=1
    )
    checkpoints_total_limit: int = setting(
        2, "How many checkpoints are kept; the oldest go first.", unit="checkpoints", minimum=1
    )
    resume_from_checkpoint: str = setting(
        "latest",
        "`latest` continues from the newest whole checkpoint in the output folder, if there is one.",
        choices=("latest", "no"),
    )
