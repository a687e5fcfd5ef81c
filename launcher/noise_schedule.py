"""What a model's noise schedule and the objective make of each other. Torch-free."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from launcher.config.training.objective import ObjectiveSettings

PREDICTED = {"epsilon": "noise (epsilon)", "v_prediction": "velocity (v_prediction)"}
"""What a model may learn to predict, by the scheduler's name for it."""
ZERO_SNR_NEEDS_VELOCITY = (
    "where the last timestep is pure noise, to predict that noise teaches nothing of the picture; choose v_prediction "
    "for training.prediction_type, or do not rescale"
)


@dataclass(frozen=True, slots=True)
class Remark:
    """What speaks against a model and an objective together."""

    field: str
    """The question to change."""
    message: str
    refused: bool = True
    """Otherwise it is worth a warning."""


def trained_schedule(own: Mapping[str, Any], objective: ObjectiveSettings) -> dict[str, Any]:
    """The scheduler's configuration that a model is trained with, and must be sampled with.

    Args:
        own: the model's scheduler_config.json.
        objective: what is to be learnt.
    """
    schedule = dict(own)
    if objective.prediction_type != "auto":
        schedule["prediction_type"] = objective.prediction_type
    if objective.rescale_betas_zero_snr:
        # Sampling must begin at the last timestep, which only this spacing visits: Lin et al. 2023, section 3.3.
        schedule |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return schedule


def remarks(own: Mapping[str, Any], objective: ObjectiveSettings) -> Iterator[Remark]:
    """Everything that speaks against training a model this way; what rules of settings say alone is left to them.

    Args:
        own: the model's scheduler_config.json.
        objective: what is to be learnt.
    """
    schedule = trained_schedule(own, objective)
    before, after = _predicted(own), _predicted(schedule)
    if after not in PREDICTED:
        yield Remark(
            "training.pretrained_model_name_or_path",
            f"this model predicts {after!r} (scheduler/scheduler_config.json); training is available for models that "
            f"predict {' or '.join(PREDICTED.values())}, as SDXL 1.0 does",
        )
    elif after != before:
        yield Remark(
            "training.prediction_type",
            f"the model predicts {before!r} (scheduler/scheduler_config.json) and is to learn {after!r}: it starts far "
            "from that and needs many steps",
            refused=False,
        )
    told_by_rule = objective.rescale_betas_zero_snr and objective.prediction_type == "epsilon"
    if schedule.get("rescale_betas_zero_snr") and after == "epsilon" and not told_by_rule:
        yield Remark("training.prediction_type", ZERO_SNR_NEEDS_VELOCITY)
    timesteps = schedule.get("num_train_timesteps", 1000)
    if isinstance(timesteps, int) and objective.min_timestep >= timesteps:
        yield Remark(
            "training.min_timestep", f"is past the end of the model's schedule, which has {timesteps} timesteps"
        )


def _predicted(schedule: Mapping[str, Any]) -> str:
    return str(schedule.get("prediction_type", "epsilon"))
