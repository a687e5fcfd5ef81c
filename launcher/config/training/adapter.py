"""Whether the whole U-Net is trained, or a LoRA adapter on it."""

from dataclasses import dataclass

from launcher.config.setting import setting

PRESETS = {
    "attention": ("to_q", "to_k", "to_v", "to_out.0"),
    "feed-forward": ("ff.net.0.proj", "ff.net.2"),
    "projections": ("proj_in", "proj_out"),
    "resnets": ("conv1", "conv2", "conv_shortcut", "time_emb_proj", "downsamplers.0.conv", "upsamplers.0.conv"),
}
"""Names for groups of layers: the first is what diffusers' own scripts adapt, all four are what kohya's LoCon does."""


@dataclass(frozen=True, slots=True)
class AdapterSettings:
    """Whether the whole U-Net is trained, or a LoRA adapter on it (Hu et al. 2021)."""

    model_type: str = setting(
        "full",
        "What is trained: the whole U-Net (full), or low-rank matrices beside its layers (lora), which need a "
        "learning rate about ten times as high and give a file of a few MiB.",
        choices=("full", "lora"),
    )
    lora_rank: int = setting(
        16, "Rank of the matrices: what an adapter can learn, and its size, grow with it.", minimum=1, maximum=1024
    )
    lora_alpha: float = setting(
        0.0, "What the adapter adds is scaled by this over the rank. 0 takes the rank itself.", minimum=0.0
    )
    lora_dropout: float = setting(
        0.0, "Share of an adapted layer's inputs that its adapter does not see in a step.", minimum=0.0, maximum=0.99
    )
    lora_target_modules: str = setting(
        "attention",
        "Which layers get an adapter: names of groups (attention, feed-forward, projections, resnets) or ends of "
        "layer names such as to_q, separated by commas.",
    )
    lora_init_type: str = setting(
        "default",
        "How the first matrix begins: uniform (default, as LoRA's authors do) or gaussian. The second begins at zero, "
        "so the adapter changes nothing before its first step.",
        choices=("default", "gaussian"),
    )
    init_lora: str = setting(
        "",
        "A LoRA to start from: a .safetensors file in diffusers' or kohya's form, of the same rank and layers. Empty "
        "starts a new one.",
        path=True,
    )

    @property
    def is_lora(self) -> bool:
        """Whether an adapter is trained."""
        return self.model_type == "lora"

    @property
    def alpha(self) -> float:
        """What the adapter's scale is, times the rank."""
        return self.lora_alpha or float(self.lora_rank)

    @property
    def targets(self) -> tuple[str, ...]:
        """Ends of the names of the adapted layers, sorted, each once."""
        names = [name.strip() for name in self.lora_target_modules.split(",")]
        return tuple(sorted({end for name in names if name for end in PRESETS.get(name, (name,))}))


def is_target(layer: str, targets: tuple[str, ...]) -> bool:
    """Whether a layer gets an adapter, as peft decides it.

    Args:
        layer: its whole name in the U-Net.
        targets: ends of names.
    """
    return any(layer == target or layer.endswith(f".{target}") for target in targets)
