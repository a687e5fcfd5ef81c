"""``python -m launcher.probes.device [--pin MIB]``: what torch can do here, and on each GPU that it sees.

One JSON object on stdout. It opens CUDA, which the process that asks must not do.
"""

import argparse
import json
from typing import Any

from launcher.probes.surroundings import stdout_to_stderr

SIDE = 256
"""Of the matrices that are multiplied."""


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m launcher.probes.device", description=__doc__)
    parser.add_argument("--pin", type=int, default=1024, metavar="MIB", help="host memory to pin, where there is a GPU")
    arguments = parser.parse_args()
    with stdout_to_stderr():
        told = _look(arguments.pin)
    print(json.dumps(told))  # noqa: T201


def _look(pin: int) -> dict[str, object]:
    """``failure`` of CUDA as a whole, ``devices``, the architectures torch is compiled for, what was pinned."""
    import torch  # noqa: PLC0415 - takes seconds, and what fails there is an answer too

    told: dict[str, object] = {"torch": torch.__version__, "failure": "", "devices": [], "architectures": []}
    if torch.version.cuda is None:
        _multiply(torch, "cpu")
        return told
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return {**told, "failure": _first_line(error)}
    told["architectures"] = torch.cuda.get_arch_list()
    told["devices"] = [_device(torch, index) for index in range(torch.cuda.device_count())]
    told["pinned_mib"] = pin
    try:
        torch.empty(pin * 2**20, dtype=torch.uint8, pin_memory=True)
    except RuntimeError as error:
        told["pin_failure"] = _first_line(error)
    return told


def _device(torch: Any, index: int) -> dict[str, object]:
    """One GPU: its compute capability, and why it does not compute (empty: it does)."""
    capability, failure = ".".join(map(str, torch.cuda.get_device_capability(index))), ""
    try:
        _multiply(torch, f"cuda:{index}")
    except RuntimeError as error:
        failure = _first_line(error)
    return {"capability": capability, "failure": failure}


def _multiply(torch: Any, device: str) -> None:
    """A product in bf16, in which training computes.

    Raises:
        RuntimeError: it is not what it should be, or the device cannot do it.
    """
    ones = torch.ones(SIDE, SIDE, dtype=torch.bfloat16, device=device)
    if not bool((ones @ ones == SIDE).all()):
        raise RuntimeError("a product of matrices in bf16 is wrong")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


if __name__ == "__main__":
    main()
