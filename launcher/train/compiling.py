"""torch.compile for the U-Net, as accelerate's file asks for it."""

import torch
from accelerate.utils import TorchDynamoPlugin
from accelerate.utils.other import compile_regions_deepspeed
from diffusers import UNet2DConditionModel

from launcher.config.accelerate import Dynamo

MOST_GRAPHS = 1024
"""SDXL has about a hundred of blocks by shape, in training and evaluation."""


def compile_unet(unet: UNet2DConditionModel, dynamo: Dynamo) -> None:
    """Has the U-Net compiled at its first pass, in place: its parameters keep their names.

    Args:
        unet: before an engine is built around it.
        dynamo: how it is compiled.
    """
    plugin = TorchDynamoPlugin(
        backend=dynamo.backend, mode=dynamo.mode, fullgraph=dynamo.fullgraph, dynamic=dynamo.dynamic
    )
    # As accelerate says where it asks: in fp32, compiled code needs TF32 to be worth it.
    torch.backends.cuda.matmul.allow_tf32 = unet.dtype == torch.float32
    if dynamo.regional:
        # Every block has shapes of its own, and all of them count against one limit, past which nothing is compiled.
        torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = MOST_GRAPHS
        compile_regions_deepspeed(unet, **plugin.to_kwargs())  # in place, which accelerate's other forms are not
    else:
        # Not the call, as accelerate compiles it: that holds DeepSpeed's hooks too, at which the graph breaks.
        unet.forward = torch.compile(unet.forward, **plugin.to_kwargs())
