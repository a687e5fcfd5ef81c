"""``python -m launcher.probes.cpu_adam``: whether DeepSpeed's CPU Adam compiles, loads and updates as torch's does.

One JSON object on stdout. Compiled where runs look for it: a minute or two the first time, seconds afterwards.
"""

import json
import os
import time

from launcher.probes.surroundings import compile_as_a_run_does, stdout_to_stderr

ELEMENTS = 10_007
"""No multiple of what its vector instructions take at once, so that the rest is computed too."""
STEPS = 3
LARGEST = 1e-5
"""How far an element may be from torch's after these steps of 1e-3; 7e-7, which is rounding, was measured."""


def main() -> None:
    """The command."""
    # Whatever the machine has, this is the CPU's work, and no GPU is opened for it.
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
    compile_as_a_run_does()
    with stdout_to_stderr():
        told = _built_and_stepped()
    print(json.dumps(told))  # noqa: T201


def _built_and_stepped() -> dict[str, object]:
    """``failure`` (empty: none), ``seconds`` of compiling and loading, ``difference`` from torch's."""
    from launcher.train.extensions import failure_to_build  # noqa: PLC0415 - brings torch and DeepSpeed

    begun = time.monotonic()
    failure = failure_to_build("CPUAdamBuilder") or ""
    told: dict[str, object] = {
        "failure": failure,
        "seconds": round(time.monotonic() - begun, 1),
        "difference": None,
    }
    if not failure:
        told["difference"] = difference = _stepped()
        if not difference <= LARGEST:
            told["failure"] = f"its update differs from torch's AdamW by {difference:.1e}"
    return told


def _stepped() -> float:
    """The largest difference between DeepSpeed's update of fp32 masters and torch's."""
    import torch  # noqa: PLC0415 - as above
    from deepspeed.ops.adam import DeepSpeedCPUAdam  # noqa: PLC0415

    random = torch.Generator().manual_seed(0)
    start = torch.randn(ELEMENTS, generator=random)
    ours, torchs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    optimizers = (
        DeepSpeedCPUAdam([ours], lr=1e-3, weight_decay=0.01),
        torch.optim.AdamW([torchs], lr=1e-3, weight_decay=0.01),
    )
    for _ in range(STEPS):
        ours.grad = torch.randn(ELEMENTS, generator=random)
        torchs.grad = ours.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    return float((ours - torchs).detach().abs().max())


if __name__ == "__main__":
    main()
