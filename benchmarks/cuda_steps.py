"""What a process does on a GPU step by step, for ``benchmarks/context.py``; each case runs in a process of its own.

A case yields the name of what it just did, and is measured then.
"""

import ctypes
import os
from collections.abc import Iterator
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.nn.functional import scaled_dot_product_attention

from launcher.machine.nvml import Nvml

MIB, GIB = 2**20, 2**30
BF16 = torch.bfloat16
LIMITS = {"stack": 0, "printf": 1, "malloc": 2}
"""Bytes that the context sets aside: of stack for each thread the GPU can hold, of what kernels print, of their heap."""


class Meter:
    """What the GPU and this process hold; made before the process takes anything."""

    def __init__(self, uuid: str) -> None:
        self._nvml = Nvml()
        self._gpu = self._nvml.handle(uuid)
        self._before = self._nvml.memory(self._gpu).used_mib

    def read(self) -> dict:
        """MiB: grown on the device (NVML's memory, version 2), of the process (as nvidia-smi), reserved by torch."""
        torch.cuda.synchronize()
        held = self._nvml.held(self._gpu).get(os.getpid())
        return {
            "device_mib": self._nvml.memory(self._gpu).used_mib - self._before,
            "process_mib": None if held is None else held // MIB,
            "reserved_mib": torch.cuda.memory_reserved() // MIB,
            "limits": limits(),
        }


def driver(call: str, *arguments) -> None:
    """A call of CUDA's driver that torch has not."""
    error = getattr(ctypes.CDLL("libcuda.so.1"), call)(*arguments)
    if error:
        raise OSError(f"{call} returns {error}")


def limits() -> dict[str, int]:
    """Bytes, of this process's context (``cudaDeviceGetLimit``)."""
    found = {}
    for name, number in LIMITS.items():
        value = ctypes.c_size_t()
        driver("cuCtxGetLimit", ctypes.byref(value), number)
        found[name] = value.value
    return found


def card() -> dict:
    """Whose memory it is; stack is set aside for every thread that it can hold."""
    has = torch.cuda.get_device_properties(torch.cuda.current_device())
    threads = has.multi_processor_count * has.max_threads_per_multi_processor
    return {"name": has.name, "threads": threads, "torch": torch.__version__, "cuda": torch.version.cuda}


def begin() -> Iterator[str]:
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.cuda.synchronize()
    yield "context"
    torch.zeros(1, device="cuda")
    yield "first kernel"


def use_libraries() -> Iterator[str]:
    """What a U-Net's step calls."""
    square = torch.randn(512, 512, device="cuda", dtype=BF16)
    yield "random numbers"
    square @ square
    yield "matmul (cuBLAS)"
    loss = torch.nn.Linear(512, 512, device="cuda", dtype=BF16)(square).sum()
    yield "linear, forward (cuBLASLt)"
    loss.backward()
    yield "linear, backward"
    normed = torch.nn.GroupNorm(32, 64, device="cuda", dtype=BF16)(
        torch.randn(2, 64, 32, 32, device="cuda", dtype=BF16)
    )
    yield "group norm"
    loss = torch.nn.Conv2d(64, 64, 3, padding=1, device="cuda", dtype=BF16)(normed).sum()
    yield "convolution, forward (cuDNN)"
    loss.backward()
    yield "convolution, backward"
    query = torch.randn(2, 10, 256, 64, device="cuda", dtype=BF16, requires_grad=True)
    loss = scaled_dot_product_attention(query, query, query).sum()
    yield "attention, forward"
    loss.backward()
    yield "attention, backward"
    yield from use_streams(square)


def use_streams(square: torch.Tensor) -> Iterator[str]:
    for number in ("second", "third"):
        with torch.cuda.stream(torch.cuda.Stream()):
            square @ square
        yield f"matmul on a {number} stream"


def libraries() -> Iterator[str]:
    yield from begin()
    yield from use_libraries()


def stack(size: int) -> Iterator[str]:
    """With ``cudaLimitStackSize`` at so many bytes; the driver raises it where a kernel needs more."""
    yield from begin()
    driver("cuCtxSetLimit", LIMITS["stack"], ctypes.c_size_t(size))
    torch.zeros(1, device="cuda")
    yield f"stack of {size} bytes"
    yield from use_libraries()


def workspaces() -> Iterator[str]:
    """cuBLAS's, one for each stream and handle: torch allocates them, and autograd's thread has a handle of its own."""
    yield from begin()
    square = torch.randn(512, 512, device="cuda", dtype=BF16)
    square @ square
    yield "matmul"
    loss = torch.nn.Linear(512, 512, device="cuda", dtype=BF16)(square).sum()
    yield "linear, forward"
    loss.backward()
    yield "linear, backward"
    yield from use_streams(square)
    for wide in (1280, 10240):
        yield f"linear 8192 x 1280 x {wide} there and back: {linear_ms(8192, 1280, wide):.3f} ms"


def linear_ms(tokens: int, narrow: int, wide: int, times: int = 20) -> float:
    """What less of a workspace costs: milliseconds of a layer of SDXL's, forward and backward."""
    layer = torch.nn.Linear(narrow, wide, device="cuda", dtype=BF16)
    given = torch.randn(tokens, narrow, device="cuda", dtype=BF16, requires_grad=True)
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for turn in range(2 * times):
        if turn == times:
            began.record()
        out = layer(given)
        out.backward(out)
    ended.record()
    ended.synchronize()
    return began.elapsed_time(ended) / times


def nccl() -> Iterator[str]:
    """As DeepSpeed joins: several ranks bind the group to their GPU."""
    yield from begin()
    here, ranks = torch.device("cuda", torch.cuda.current_device()), int(os.environ["WORLD_SIZE"])
    # One rank that never comes ends the other.
    bound = {"device_id": here} if ranks > 1 else {}
    dist.init_process_group("nccl", timeout=timedelta(seconds=60), **bound)
    yield "process group"
    one = torch.ones(1, device=here)
    dist.all_reduce(one)
    yield "first all-reduce"
    dist.barrier(device_ids=[here.index])
    yield "barrier"
    dist.all_reduce(one, group=dist.new_group(list(range(ranks))))
    yield "all-reduce in another group"
    dist.destroy_process_group()
    yield "groups destroyed"


def pinned() -> Iterator[str]:
    """Host memory that the GPU may read: it keeps an entry for each page."""
    yield from begin()
    one = torch.empty(GIB, dtype=torch.uint8, pin_memory=True)
    yield "1 GiB pinned by torch"
    eight = torch.empty(8 * GIB, dtype=torch.uint8, pin_memory=True)
    yield "8 GiB more"
    del one, eight
    torch._C._host_emptyCache()
    yield "given back"
    own, cudart = torch.empty(GIB, dtype=torch.uint8), torch.cuda.cudart()
    if int(failed := cudart.cudaHostRegister(own.data_ptr(), GIB, 0)):
        raise OSError(f"cudaHostRegister returns {failed}")
    yield "1 GiB registered (cudaHostRegister)"
    cudart.cudaHostUnregister(own.data_ptr())
    yield "given back"


def run(case: str, arguments: tuple, environment: dict[str, str], uuid: str, told) -> None:
    """The process of a case: sends the card, then a row for each step, then a failure where there is one."""
    os.environ.update(environment)
    try:
        meter = Meter(uuid)
        for number, step in enumerate(globals()[case](*arguments)):
            if not number:
                told.send({"card": card()})
            told.send({"step": step, **meter.read()})
    except Exception as error:  # the others are measured all the same
        told.send({"failed": f"{type(error).__name__}: {error}"})
    told.close()
