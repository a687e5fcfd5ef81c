"""Which model is fine-tuned."""

from dataclasses import dataclass

from launcher.config.setting import setting


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Which model is fine-tuned."""

    pretrained_model_name_or_path: str = setting(
        "",
        "The SDXL model to fine-tune: a diffusers folder, a single .safetensors file, or a hub id.",
        required=True,
        path=True,
        hub=True,
    )
    pretrained_vae_model_name_or_path: str = setting(
        "",
        "A VAE to use instead of the model's own: a diffusers folder or a hub id. Empty keeps the model's, "
        "which runs in fp32 where it would overflow in half precision.",
        path=True,
        hub=True,
    )
    pretrained_model_config: str = setting(
        "stabilityai/stable-diffusion-xl-base-1.0",
        "Where a single .safetensors file finds its configuration and tokenizers: a diffusers folder or a "
        "hub id. Not used for other models.",
        path=True,
        hub=True,
    )
