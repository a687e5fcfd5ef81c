"""What is learnt, and from how much noise."""

from dataclasses import dataclass

from launcher.config.setting import setting


@dataclass(frozen=True, slots=True)
class ObjectiveSettings:
    """What is learnt, and from how much noise."""

    prediction_type: str = setting(
        "auto",
        "What the U-Net learns to predict: the noise (epsilon) or the velocity (v_prediction, Salimans & Ho 2022). "
        "`auto`: what the model's own scheduler says, epsilon for SDXL 1.0.",
        choices=("auto", "epsilon", "v_prediction"),
    )
    rescale_betas_zero_snr: bool = setting(
        False,
        "Rescale the noise schedule so that its last timestep is pure noise (Lin et al. 2023, algorithm 1). Needs "
        "v_prediction. `no` keeps the model's own schedule, rescaled or not.",
    )
    snr_gamma: float = setting(
        0.0,
        "Min-SNR weighting of the loss (Hang et al. 2023); 5 is usual, 0 turns it off.",
        minimum=0.0,
    )
    noise_offset: float = setting(
        0.0,
        "Size of a shift of each channel's noise as a whole, which lets it learn very dark and very bright pictures; "
        "0.05 to 0.1 is usual, 0 turns it off.",
        minimum=0.0,
        maximum=1.0,
    )
    noise_offset_probability: float = setting(
        1.0, "Share of the pictures whose noise is shifted.", minimum=0.0, maximum=1.0
    )
    input_perturbation: float = setting(
        0.0,
        "Size of more noise in what the U-Net sees, but not in what it is to predict (Ning et al. 2023); 0.1 is usual, "
        "0 turns it off.",
        minimum=0.0,
        maximum=1.0,
    )
    min_timestep: int = setting(
        0, "First timestep that is trained; 0 is the one with the least noise.", unit="timesteps", minimum=0
    )
    max_timestep: int = setting(
        1000,
        "Timesteps are trained up to this one, without it; 1000 is the end of SDXL's schedule.",
        unit="timesteps",
        minimum=1,
    )
