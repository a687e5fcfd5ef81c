"""Where a run is followed besides its own events."""

from dataclasses import dataclass

from launcher.config.setting import setting

NO_TRACKER = "none"


@dataclass(frozen=True, slots=True)
class TrackingSettings:
    """Where a run is followed besides its own events."""

    report_to: str = setting(
        NO_TRACKER,
        "Where loss, learning rate, gradient norm, speed and VRAM of each step go besides the run's own events: "
        "TensorBoard's files in the run directory, Weights & Biases, or both.",
        choices=(NO_TRACKER, "tensorboard", "wandb", "tensorboard,wandb"),
    )
    tracker_project_name: str = setting("simpletuner-tui", "The project that the run belongs to there.", required=True)
    tracker_run_name: str = setting("", "What the run is called there. Empty: as its run directory.")

    @property
    def trackers(self) -> tuple[str, ...]:
        """Which trackers are wanted, by accelerate's names."""
        return () if self.report_to == NO_TRACKER else tuple(self.report_to.split(","))
