"""What is learnt: the noise that was added, or the velocity."""

import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from launcher.errors import InvalidInputError
from launcher.noise_schedule import remarks
from launcher.train.batches import Batch
from launcher.train.engine import UNet
from launcher.train.models import ModelSource
from launcher.train.report import Report


def require_schedule(model: ModelSource, report: Report) -> DDPMScheduler:
    """The noise schedule that a model is trained with; warns of what is unusual.

    Raises:
        InvalidInputError: it does not go with the objective; names every reason.
    """
    found = list(remarks(model.own_schedule, model.objective))
    refused = [f"{remark.field}: {remark.message}" for remark in found if remark.refused]
    if refused:
        raise InvalidInputError("\n".join(refused))
    for remark in found:
        report.warning(f"{remark.field}: {remark.message}")
    return model.noise_scheduler()


def diffusion_loss(unet: UNet, scheduler: DDPMScheduler, batch: Batch, snr_gamma: float = 0.0) -> torch.Tensor:
    """Mean squared error between what is predicted and what the scheduler says is to be.

    Args:
        unet: predicts in the dtype it computes in; the error is taken in fp32.
        scheduler: the noise schedule, and what is predicted: noise or velocity.
        batch: on the U-Net's device.
        snr_gamma: weighs each picture's error by min-SNR; 0 weighs all alike.

    Returns:
        A scalar, fp32. Noise: Ho et al. 2020, equation 14; velocity: Salimans & Ho 2022, section 4; weights: Hang et
        al. 2023, section 3.4.
    """
    noise = batch.noise if batch.perturbation is None else batch.noise + batch.perturbation
    noisy = scheduler.add_noise(batch.latents, noise, batch.timesteps)
    predicted = unet(
        noisy.to(batch.prompt_embeds.dtype),
        batch.timesteps,
        encoder_hidden_states=batch.prompt_embeds,
        added_cond_kwargs={"text_embeds": batch.pooled, "time_ids": batch.time_ids},
        return_dict=False,
    )[0]
    velocity = scheduler.config.prediction_type == "v_prediction"
    target = scheduler.get_velocity(batch.latents, batch.noise, batch.timesteps) if velocity else batch.noise
    if not snr_gamma:
        return torch.nn.functional.mse_loss(predicted.float(), target)
    errors = torch.nn.functional.mse_loss(predicted.float(), target, reduction="none")
    snr = compute_snr(scheduler, batch.timesteps)
    weights = snr.clamp(max=snr_gamma) / (snr + 1 if velocity else snr)
    return torch.mean(errors.flatten(1).mean(dim=1) * weights)
