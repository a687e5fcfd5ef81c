"""``python -m launcher.probes.engines < JOB``: runs DeepSpeed for many configurations in one process.

:mod:`launcher.probes.cases` starts it, one of several ranks where a case says so; all ranks see the same batches.

JOB is a JSON list of :class:`launcher.probes.cases.Case` as objects. For each a line ``told {...}`` comes back:
``name``; ``error`` and ``phase`` (``build``, ``initialize`` or ``step``) where it failed; else ``moved`` (the share of
weights that changed), ``least`` (how far any element of that tensor went that went least), ``finite``, ``weights`` (a
digest of them), ``kinds`` (what the weights are in), ``rates`` (the learning rate at each update), ``highest`` of them,
``norm`` (of the first gradient), ``updates``, ``betas``, ``clipping``, ``files`` (how many lie in the folder named
``$SWAP``), ``bytes`` (of all tensors after the last step) where they were to be weighed, and whether a checkpoint could
be ``saved`` and ``loaded``. A line ``builds NAME`` comes before an extension is compiled, which takes minutes.
"""

import gc
import hashlib
import json
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from launcher.imports import without_collecting
from launcher.probes.cases import BUILDS, SWAP, TOLD

with without_collecting():
    import deepspeed
    import torch
    from deepspeed.accelerator import get_accelerator
    from deepspeed.utils import logger, safe_get_full_fp32_param

    from launcher.train.deepspeed_engine import trainable

STEPS = 4
WIDE = 4224
"""Of the model ``wide``, whose linear weights have 128 × 4224 and 4224 × 4 elements: DeepSpeed swaps nothing to NVMe
that has less than 1 MiB, 2^19 elements in half precision."""


HIDDEN = {"small": (16,), "wide": (WIDE,), "large": (1000, 1000, 1000)}
"""Widths between the linear weights of each model; of ``large`` several are swapped, and read ahead of another."""


def model_of(kind: str) -> torch.nn.Module:
    """A model with a convolution and linear weights, one of :data:`HIDDEN`; always the same weights."""
    torch.manual_seed(1)
    linear: list[torch.nn.Module] = []
    for inner, outer in pairwise((8 * 16, *HIDDEN[kind], 4)):
        linear += [torch.nn.SiLU(), torch.nn.Linear(inner, outer)]
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), linear[0], torch.nn.Flatten(), *linear[1:])


def weights_of(model: torch.nn.Module) -> list[torch.Tensor]:
    """A model's fp32 masters, each flat; the weights where they are their own masters."""
    pieces = []
    for parameter in model.parameters():
        master = safe_get_full_fp32_param(parameter)
        pieces.append((parameter.detach() if master is None else master).float().cpu().flatten().clone())
    return pieces


def bytes_of_tensors() -> int:
    """What all tensors of this process take, but for those that were there when it began."""
    tensors = (thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor))
    storages = (tensor.untyped_storage() for tensor in tensors)
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def resumes(engine: Any, folder: Path) -> tuple[bool, bool]:
    """Whether a checkpoint can be written, and then be read."""
    try:
        engine.save_checkpoint(str(folder), tag="a")
    except Exception:  # DeepSpeed fails in as many ways as there are configurations
        return False, False
    try:
        return True, engine.load_checkpoint(str(folder), tag="a")[0] is not None
    except Exception:
        return True, False


def run(case: dict[str, Any], swap: Path) -> dict[str, Any]:
    """What becomes of one configuration in :data:`STEPS` optimizer steps."""
    config = json.loads(json.dumps(case["config"]).replace(SWAP, str(swap)))
    began = bytes_of_tensors() if case["weighed"] else 0
    model = model_of(case["model"])
    engine = None
    phase = "initialize"
    try:
        parameters = trainable(model) if case["marked"] else model.parameters()
        engine, *_ = deepspeed.initialize(model=model, model_parameters=parameters, config=config)
        before = weights_of(model)
        phase = "step"
        rates, norms = [], []
        kinds = [parameter.dtype for parameter in engine.module.parameters()]
        for number in range(STEPS * engine.gradient_accumulation_steps()):
            torch.manual_seed(number)
            loss = engine(torch.randn(2, 3, 4, 4).to(engine.device, kinds[0])).float().pow(2).mean()
            engine.backward(loss)
            rate, updates = engine.optimizer.param_groups[0]["lr"], engine.global_steps
            engine.step()
            if engine.global_steps > updates:
                rates.append(float(rate))
                norms.append(float(engine.get_global_grad_norm() or 0))
        held = bytes_of_tensors() - began if case["weighed"] else None
        changes = [(new - old).abs() for old, new in zip(before, weights_of(model), strict=True)]
        after = torch.cat(weights_of(model))
        group = engine.optimizer.param_groups[0]
        files = sum(1 for path in swap.rglob("*") if path.is_file())
        saved, loaded = resumes(engine, swap / "checkpoint") if case["resume"] else (None, None)
        return {
            "moved": float((torch.cat(changes) != 0).float().mean()),
            "least": min(float(change.max()) for change in changes),
            "finite": bool(torch.isfinite(after).all()),
            "weights": hashlib.sha256(after.numpy().tobytes()).hexdigest(),
            "kinds": sorted({str(kind) for kind in kinds}),
            "rates": rates,
            "highest": max(rates, default=0.0),
            "norm": next(iter(norms), 0.0),
            "updates": len(rates),
            "betas": list(group.get("betas", ())),
            "clipping": float(engine.gradient_clipping()),
            "bytes": held,
            "files": files,
            "saved": saved,
            "loaded": loaded,
        }
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}".strip().replace(str(swap), SWAP), "phase": phase}
    finally:
        if engine is not None:
            engine.destroy()
        del engine, model
        gc.collect()
        gc.freeze()  # what is left was imported or is DeepSpeed's for good; it collects garbage all the time


def tell(*words: str) -> None:
    """A line to whoever started this process."""
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


def build(builders: list[str]) -> None:
    """Compiles extensions that are not there yet, telling so: what waits for a line has to wait longer then."""
    for name in builders:
        tell(BUILDS, name)
        get_accelerator().get_op_builder(name)().load(verbose=False)


def main() -> None:
    """Runs the job on stdin."""
    torch.set_num_threads(1)
    logger.setLevel("CRITICAL")
    for case in json.load(sys.stdin):
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as swap:
            try:
                build(case["builders"])
            except Exception as error:  # a build fails in as many ways as there are compilers
                told = {"error": f"{type(error).__name__}: {error}", "phase": "build"}
            else:
                told = run(case, Path(swap))
            tell(TOLD, json.dumps({"name": case["name"], **told}))


if __name__ == "__main__":
    main()
