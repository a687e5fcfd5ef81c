"""Which activations are recomputed in the backward pass instead of kept."""

from diffusers import Transformer2DModel, UNet2DConditionModel


def checkpoint_activations(unet: UNet2DConditionModel, granularity: str) -> None:
    """Turns gradient checkpointing on, in place.

    Args:
        unet: before it is compiled or an engine is built around it.
        granularity: ``all`` recomputes transformer blocks and resnets, ``transformer_blocks`` keeps the resnets'.
    """
    unet.enable_gradient_checkpointing()
    if granularity == "all":
        return
    for module in unet.modules():
        # A transformer's flag is for its blocks; the others' are for resnets.
        if hasattr(module, "gradient_checkpointing") and not isinstance(module, Transformer2DModel):
            module.gradient_checkpointing = False
