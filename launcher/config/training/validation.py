"""Which pictures are drawn to look at."""

from dataclasses import dataclass

from launcher.config.setting import setting


@dataclass(frozen=True, slots=True)
class ValidationSettings:
    """Which pictures are drawn to look at, while it trains and when it ends."""

    validation_steps: int = setting(
        0,
        "Pictures are drawn with the U-Net in training every so many steps. 0: only when training ends, with the "
        "exported pipeline.",
        unit="steps",
        minimum=0,
    )
    num_validation_images: int = setting(
        4,
        "Pictures of each prompt, each with a seed of its own; without prompts, so many captions of the data set. 0 "
        "draws none.",
        unit="pictures",
        minimum=0,
        maximum=64,
    )
    validation_prompt: str = setting("", "Prompt of the pictures. Empty: captions of the data set.")
    validation_prompts: tuple[str, ...] = setting((), "Further prompts.")
    validation_negative_prompt: str = setting("", "What the pictures should not show.")
    validation_seed: int = setting(
        42, "Seed of a prompt's first picture; each further one has the next.", minimum=0, maximum=2**63 - 65
    )
    validation_num_inference_steps: int = setting(
        30, "Denoising steps of a picture.", unit="steps", minimum=1, maximum=1000
    )
    validation_guidance: float = setting(5.0, "Classifier-free guidance of the pictures.", minimum=0.0, maximum=50.0)
    validation_resolution: int = setting(
        0,
        "Side of the pictures, rounded down to a multiple of 8. 0: that of the training.",
        unit="px",
        minimum=0,
        maximum=4096,
    )
