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
    checkpoint_contents: str = setting(
        "full",
        "`full` is everything that a resume needs. `weights` is the U-Net alone as diffusers loads it, in the number "
        "format of the export: small, and nothing can be resumed from it. `both` is both.",
        choices=("full", "weights", "both"),
    )
    resume_from_checkpoint: str = setting(
        "latest",
        "`latest` continues from the newest whole checkpoint in the output folder, if there is one; a name such as "
        "checkpoint-500 from that one. `no` starts anew, in a folder without checkpoints.",
        pattern=r"latest|no|checkpoint-\d+(-universal)?",
        expected="`latest`, `no` or the name of a checkpoint such as checkpoint-500",
    )
