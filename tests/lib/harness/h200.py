"""What an H200's host and GPU do in a second, put together from measurements that were made for other ends.

Measured as such on 2026-11-23, 16 cores with AVX-512: host copy 111 GB/s; PCIe 54.7 GB/s up and 55.3 down, pinned;
AdamW 153 GB/s with 16 threads, 28 bytes an element. Worked out from the seconds of a stock loop around DeepSpeed: what
the GPU computes (rows 1 and 11), what its launches take (rows 4 to 6), weights that are converted on their way up (row
13). Assumed: GPU memory, pageable copies, and 5 µs for a launch. What ``python -m launcher.probes.bandwidths`` writes
on such a machine is to replace this file.
"""

from launcher.estimate.flops import RESNET, TRANSFORMER, flops
from launcher.estimate.sdxl import sdxl_layers
from launcher.machine.bandwidths import Bandwidths, BlockAtSize, BlockSpeed, GpuSpeed, Hardware, HostSpeed

FORWARD, BACKWARD = 0.150, 0.352
"""Seconds of the GPU for eight pictures of 1024 px, nothing computed twice."""
LAUNCH_FORWARD, LAUNCH_BACKWARD, LAUNCH_BACKWARD_AGAIN = 0.130, 0.190, 0.350
"""Seconds to launch a U-Net's kernels, the last with gradient checkpointing."""
PER_BLOCK = {TRANSFORMER: 71 / 5276, RESNET: 18 / 5276}
"""Of the dispatches of all blocks."""


def _block(kind: str) -> BlockSpeed:
    work = flops(sdxl_layers(), 128 * 128)
    passing, returning = (8 * sum(getattr(each, way) for each in work.values()) for way in ("forward", "backward"))
    share = PER_BLOCK[kind]
    forward, backward = LAUNCH_FORWARD / 1.05 * share, LAUNCH_BACKWARD / 1.02 * share
    sizes = [
        BlockAtSize(flop, 2 * flop, passing / FORWARD / 1e12, returning / BACKWARD / 1e12) for flop in (7e10, 5.6e11)
    ]
    return BlockSpeed(forward, backward, forward, LAUNCH_BACKWARD_AGAIN / 1.02 * share, *sizes)


H200 = Bandwidths(
    Hardware("NVIDIA H200", "", "580.159.04", "2.11.0+cu130", 16),
    time=1_795_392_000.0,
    seconds=0,
    host=HostSpeed(
        copy_gb_s=111,
        scale_elements_s=111e9 / 8,
        adam_elements_s=153e9 / 28,
        adam="torch's fused AdamW",
        convert_elements_s=111e9 / 6,
    ),
    gpu=GpuSpeed(
        up_gb_s=54.7,
        down_gb_s=55.3,
        up_pageable_gb_s=10,
        down_pageable_gb_s=10,
        up_converted_gb_s=3.7,
        copy_gb_s=4000,
        adam_elements_s=4000e9 / 28,
        op_seconds=5e-6,
        transformer=_block(TRANSFORMER),
        resnet=_block(RESNET),
    ),
    drive=None,
)
