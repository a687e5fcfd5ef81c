"""``python engines.py < JOB``: runs DeepSpeed for many configurations in one process, on a tiny model on the CPU.

JOB is a JSON list of cases: ``name``, ``config``, ``model`` (``conv``, the default, ``linear``, or ``large``, whose
parameters are large enough to be swapped), and ``resume`` (whether a checkpoint is tried too). For each a
line ``told {...}`` comes back: ``name``; ``error`` and ``phase`` (``initialize`` or ``step``) where it failed; else
``moved`` (the share of weights that changed), ``finite``, ``weights`` (a digest of them), ``kinds`` (what the weights
are in), ``rates`` (the learning rate at each update), ``highest`` of them, ``updates``, ``betas``, ``clipping``,
``files`` (how many lie in the folder named ``$SWAP``), and whether a checkpoint could be ``saved`` and ``loaded``.
"""

import functools
import gc
import hashlib
import json
import os
import socket
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import cpuinfo
import torch

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    PORT = str(free.getsockname()[1])
os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": PORT}

import deepspeed
from deepspeed.utils import logger, safe_get_full_fp32_param

# CPUAdam asks for it anew each time, which starts processes: 2 s an engine.
cpuinfo.get_cpu_info = functools.cache(cpuinfo.get_cpu_info)

STEPS = 4
WIDTHS = {"linear": (8, 16, 4), "large": (64, 1000, 1000, 1000, 4)}


def model_of(kind: str) -> torch.nn.Module:
    torch.manual_seed(1)
    if kind in WIDTHS:
        layers = [torch.nn.Linear(*sizes) for sizes in pairwise(WIDTHS[kind])]
        return torch.nn.Sequential(*(part for layer in layers for part in (layer, torch.nn.SiLU())))[:-1]
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1),
        torch.nn.SiLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(8 * 16, 16),
        torch.nn.SiLU(),
        torch.nn.Linear(16, 4),
    )


def weights_of(model: torch.nn.Module) -> torch.Tensor:
    pieces = []
    for parameter in model.parameters():
        master = safe_get_full_fp32_param(parameter)
        pieces.append((parameter.detach() if master is None else master).float().cpu().flatten().clone())
    return torch.cat(pieces)


def resumes(engine: deepspeed.DeepSpeedEngine, folder: Path) -> tuple[bool, bool]:
    """Whether a checkpoint can be written, and then be read."""
    try:
        engine.save_checkpoint(str(folder), tag="a")
    except Exception:
        return False, False
    try:
        return True, engine.load_checkpoint(str(folder), tag="a")[0] is not None
    except Exception:
        return True, False


def run(case: dict, swap: Path) -> dict:
    config = json.loads(json.dumps(case["config"]).replace("$SWAP", str(swap)))
    kind = case.get("model", "conv")
    model = model_of(kind)
    engine = None
    phase = "initialize"
    try:
        engine, *_ = deepspeed.initialize(model=model, model_parameters=list(model.parameters()), config=config)
        before = weights_of(model)
        phase = "step"
        rates = []
        kinds = {parameter.dtype for parameter in engine.module.parameters()}
        for number in range(STEPS * engine.gradient_accumulation_steps()):
            torch.manual_seed(number)
            batch = torch.randn(2, WIDTHS[kind][0]) if kind in WIDTHS else torch.randn(2, 3, 4, 4)
            loss = engine(batch.to(next(iter(kinds)))).float().pow(2).mean()
            engine.backward(loss)
            rate, updates = engine.optimizer.param_groups[0]["lr"], engine.global_steps
            engine.step()
            if engine.global_steps > updates:
                rates.append(float(rate))
        after = weights_of(model)
        group = engine.optimizer.param_groups[0]
        saved, loaded = resumes(engine, swap / "checkpoint") if case.get("resume") else (None, None)
        return {
            "moved": float((before != after).float().mean()),
            "finite": bool(torch.isfinite(after).all()),
            "weights": hashlib.sha256(after.numpy().tobytes()).hexdigest(),
            "kinds": sorted(map(str, kinds)),
            "rates": rates,
            "highest": max(rates, default=0.0),
            "updates": len(rates),
            "betas": list(group.get("betas", ())),
            "clipping": float(engine.gradient_clipping()),
            "files": sum(1 for path in swap.rglob("*") if path.is_file()),
            "saved": saved,
            "loaded": loaded,
        }
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}".strip(), "phase": phase}
    finally:
        if engine is not None:
            engine.destroy()
        del engine, model
        gc.collect()


def main() -> None:
    torch.set_num_threads(1)
    logger.setLevel("CRITICAL")
    gc.freeze()  # DeepSpeed collects garbage all the time; torch's own modules are none
    for case in json.load(sys.stdin):
        with tempfile.TemporaryDirectory(dir="/dev/shm") as swap:  # NVMe offload goes wrong on most drives
            print("told", json.dumps({"name": case["name"], **run(case, Path(swap))}), flush=True)


if __name__ == "__main__":
    main()
