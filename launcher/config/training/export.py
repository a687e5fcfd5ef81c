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
