"""Samples of machines that are not there."""

from dataclasses import replace
from pathlib import Path

from launcher.machine.sample import DiskSample, GpuSample, HostSample, Sample, TreeSample, Unknown


def gpu_sample(index: int = 0, **figures: object) -> GpuSample:
    """A GPU of 24 GiB that trains."""
    gpu = GpuSample(
        index=index, uuid=f"GPU-{index}{index}-beef", name="NVIDIA GeForce RTX 4090",
        total_mib=24564, used_mib=9000, reserved_mib=616, utilisation=87, temperature=64, power_w=412.0,
        power_limit_w=450.0, clock_mhz=2520, memory_clock_mhz=10501, throttled=(), ecc_errors=Unknown("not supported"),
        received_mib_s=20.0, sent_mib_s=1.0, processes=(),
    )  # fmt: skip
    return replace(gpu, **figures)


def machine_sample(time: float, *gpus: GpuSample, folders: tuple[str, ...] = ("/run",), **parts: object) -> Sample:
    """A machine with such GPUs; nothing is known of how fast its disks are."""
    rate = Unknown("known from the second look on")
    sample = Sample(
        time=time,
        gpus=gpus,
        no_gpus="" if gpus else "no driver",
        host=HostSample(64000, 40000, 1.5, 8),
        run=TreeSample(3, 2000, Unknown("CUDA")),
        disks=[DiskSample(Path(folder), number, 900_000, 500_000, rate, 12.5) for number, folder in enumerate(folders)],
    )
    return replace(sample, **parts)
