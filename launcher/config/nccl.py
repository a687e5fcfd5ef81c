"""What NCCL may take of a GPU: what processes are told of it, and the estimate counts by it."""

from launcher.config.settings import Settings

FEW_CHANNELS = {"NCCL_MAX_NCHANNELS": "2", "NCCL_BUFFSIZE": str(1 << 20)}
"""Environment: parallel paths between GPUs, and bytes of each one's buffers. NCCL takes what NVLink's whole speed
needs, which on two H200s is 880 MiB more of each."""
NCCL_SIZES = ("NCCL_MAX_NCHANNELS", "NCCL_MIN_NCHANNELS", "NCCL_MAX_CTAS", "NCCL_MIN_CTAS", "NCCL_BUFFSIZE")
"""What a shell may say of both itself."""


def has_few_channels(settings: Settings) -> bool:
    """Whether a run gives up speed between GPUs for memory on them.

    It does where its optimizer is on the CPU, which is for memory's sake: gradients go on to the host, so that PCIe is
    expected to bound them. With NVLink a step of eight pictures of 1024 px, weights resident, took as long with as
    without; cards without it were not measured. A network between machines is left to NCCL.
    """
    launch = settings.launch
    several_here = launch.num_processes > 1 and launch.machines is None
    return several_here and not launch.use_cpu and launch.deepspeed and settings.deepspeed.offloads
