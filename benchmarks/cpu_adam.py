"""Updating parameters on the CPU: DeepSpeed's three passes (clip, CPU Adam, cast to bf16) beside ours in one.

    python benchmarks/cpu_adam.py [--sizes N ...] [--elements N] [--repeats N] [--threads N]

Both take turns over the same groups of one size until all elements are updated; the median of the repeats is told. GB/s
are of what a pass has to move (44 and 30 bytes a parameter, 28 with bf16 gradients), not of what the memory did.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable

SIZES = (4_000_000, 16_000_000, 33_000_000, 100_000_000)
BYTES = {"three passes": 44, "one pass": 30, "one pass, bf16 gradients": 28}
FORM = "{:>12} {:>7}  {:<26} {:>8} {:>8} {:>7} {:>7}"
SCALE = 1.0
"""Anything else would make the gradients smaller with each repeat, until they are denormal."""


def ways(size: int, groups: int) -> dict[str, Callable[[], None]]:
    """What updates all groups once, each with masters, moments, gradients and weights of its own."""
    import torch
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    from launcher.train.offload import fused_adamw

    fused = fused_adamw.load()
    if isinstance(fused, str):
        sys.exit(f"the update in one pass does not compile here: {fused}")
    masters = [torch.nn.Parameter(torch.full((size,), 0.5)) for _ in range(groups)]
    weights = [master.detach().bfloat16() for master in masters]
    short = [torch.full((size,), 1e-3, dtype=torch.bfloat16) for _ in masters]
    for master in masters:
        master.grad = torch.full((size,), 1e-3)
    optimizer = DeepSpeedCPUAdam([{"params": [master]} for master in masters], lr=1e-6, weight_decay=0.01)
    every, factor = optimizer.param_groups, torch.tensor(SCALE)

    def three() -> None:
        for group, master, out in zip(every, masters, weights, strict=True):
            master.grad.mul_(factor)
            optimizer.param_groups = [group]
            optimizer.step()
            out.copy_(master.data)

    def one(gradients: Iterable[torch.Tensor]) -> None:
        for group, master, gradient, out in zip(every, masters, gradients, weights, strict=True):
            state = optimizer.state[master]
            fused.update(master, gradient, state, group, adam_w_mode=True, scale=SCALE, weights_out=out)

    return {
        "three passes": three,
        "one pass": lambda: one(master.grad for master in masters),
        "one pass, bf16 gradients": lambda: one(short),
    }


def measure(size: int, elements: int, repeats: int) -> None:
    groups = max(1, elements // size)
    found = ways(size, groups)
    seconds: dict[str, list[float]] = {name: [] for name in found}
    for repeat in range(repeats + 1):
        for name, update in found.items():
            begun = time.perf_counter()
            update()
            if repeat:  # the first touches memory and makes the moments
                seconds[name].append(time.perf_counter() - begun)
    stock = statistics.median(seconds["three passes"])
    for name, times in seconds.items():
        each, least = (1e9 * function(times) / (size * groups) for function in (statistics.median, min))
        ratio = statistics.median(times) / stock
        print(
            FORM.format(
                f"{size:,}", groups, name, f"{each:.3f}", f"{least:.3f}", f"{BYTES[name] / each:.0f}", f"{ratio:.2f}"
            )
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="elements of a group")
    parser.add_argument("--elements", type=int, default=400_000_000, help="of all groups together: 20 bytes each")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    chosen = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": str(chosen.threads), "DS_ACCELERATOR": "cpu"}  # before torch is there to read it
    print(f"{chosen.threads} threads")
    print(FORM.format("of a group", "groups", "", "ns/param", "least", "GB/s", "ratio"))
    for size in chosen.sizes:
        measure(size, chosen.elements, chosen.repeats)


if __name__ == "__main__":
    main()
