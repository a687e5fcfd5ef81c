"""What is left at the end."""

from dataclasses import dataclass

from launcher.config.setting import setting


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """What is left at the end."""

    export_pipeline: bool = setting(
        True,
        "Write a diffusers pipeline folder when training ends; of a LoRA, its files for diffusers and kohya's tools.",
    )
    export_dtype: str = setting(
        "bf16", "Number format of the exported U-Net or LoRA.", choices=("bf16", "fp16", "fp32")
    )
    num_validation_images: int = setting(
        4,
        "Sample pictures drawn with what was exported when training ends. 0 draws none.",
        unit="pictures",
        minimum=0,
        maximum=64,
    )
    validation_prompt: str = setting("", "Prompt of the sample pictures. Empty: captions of the data set.")
    validation_num_inference_steps: int = setting(
        30, "Denoising steps of a sample picture.", unit="steps", minimum=1, maximum=1000
    )
    validation_guidance: float = setting(
        5.0, "Classifier-free guidance of the sample pictures.", minimum=0.0, maximum=50.0
    )
