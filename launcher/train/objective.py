"""What is learnt: the noise that was added."""

import torch
from diffusers import DDPMScheduler

from launcher.errors import InvalidInputError
from launcher.train.batches import Batch
from launcher.train.engine import UNet


def require_noise_prediction(scheduler: DDPMScheduler) -> None:
    """Refuses a model that was not trained to predict noise.

    Raises:
        InvalidInputError: its scheduler says otherwise.
    """
    predicted = scheduler.config.prediction_type
    if predicted != "epsilon":
        raise InvalidInputError(
            f"this model predicts {predicted!r} (scheduler/scheduler_config.json); training is available for "
            "models that predict noise (epsilon), as SDXL 1.0 does"
        )


def noise_prediction_loss(unet: UNet, scheduler: DDPMScheduler, batch: Batch) -> torch.Tensor:
    """Mean squared error between the predicted and the added noise.

    Args:
        unet: predicts in the dtype it computes in; the error is taken in fp32.
        scheduler: the model's own noise schedule.
        batch: on the U-Net's device.

    Returns:
        A scalar, fp32. Ho et al. 2020, equation 14.
    """
    noisy = scheduler.add_noise(batch.latents, batch.noise, batch.timesteps)
    predicted = unet(
        noisy.to(batch.prompt_embeds.dtype),
        batch.timesteps,
        encoder_hidden_states=batch.prompt_embeds,
        added_cond_kwargs={"text_embeds": batch.pooled, "time_ids": batch.time_ids},
        return_dict=False,
    )[0]
    return torch.nn.functional.mse_loss(predicted.float(), batch.noise)
