"""What the NVIDIA driver can run."""

from contextlib import suppress


def cuda_of_driver() -> str:
    """The newest CUDA that the driver runs, such as ``13.0``; empty where none answers."""
    import pynvml  # noqa: PLC0415 - loads the driver's library: only when GPUs are asked for

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ""
    try:
        number = int(pynvml.nvmlSystemGetCudaDriverVersion_v2())
        return f"{number // 1000}.{number % 1000 // 10}"
    except pynvml.NVMLError:
        return ""
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
