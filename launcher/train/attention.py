"""Which kernel torch computes attention with here: found out by running it, before the U-Net is loaded."""

import warnings

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from launcher.errors import CannotRunHereError
from launcher.train.report import Report

HEAD_DIM, TOKENS, PROMPT = 64, 64, 77
"""Of SDXL's heads; as many latents as a small picture has; of its prompts."""
KERNELS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
"""By name, as torch prefers them; the last takes everything and keeps whole matrices of weights."""


def attention_kernel(device: torch.device, dtype: torch.dtype) -> str:
    """The first kernel that takes SDXL's self- and cross-attention, forward and backward."""
    return next(name for name, backend in KERNELS.items() if _takes(backend, device, dtype))


def verify_attention(mechanism: str, device: torch.device, dtype: torch.dtype, report: Report) -> str:
    """Finds the kernel that training will use; on a GPU another than flash is warned of.

    Args:
        mechanism: ``sdpa`` takes whatever torch has, ``flash`` nothing else.
        device: of the training.
        dtype: of the training.
        report: told of a slower kernel.

    Returns:
        Its name.

    Raises:
        CannotRunHereError: flash is asked for and is not there.
    """
    kernel = attention_kernel(device, dtype)
    if kernel == "flash":
        return kernel
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
    lacks = f"torch has no flash attention for {str(dtype).removeprefix('torch.')} on {name}"
    if mechanism == "flash":
        raise CannotRunHereError(f"training.attention_mechanism: {lacks}; choose sdpa, which takes {kernel} attention")
    if device.type == "cuda":
        report.warning(f"{lacks}: {kernel} attention is used, which is slower or takes more memory")
    return kernel


def _takes(backend: SDPBackend, device: torch.device, dtype: torch.dtype) -> bool:
    query = torch.zeros(1, 1, TOKENS, HEAD_DIM, device=device, dtype=dtype, requires_grad=True)
    prompt = torch.zeros(1, 1, PROMPT, HEAD_DIM, device=device, dtype=dtype)
    try:
        with warnings.catch_warnings(), sdpa_kernel(backend):
            warnings.simplefilter("ignore")  # torch says why each kernel does not take it
            for other in (query, prompt):
                out = torch.nn.functional.scaled_dot_product_attention(query, other, other)
                torch.autograd.backward(out.sum())
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        return False
    return True
