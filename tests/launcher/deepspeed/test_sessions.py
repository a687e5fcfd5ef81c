"""What the judge accepts, DeepSpeed accepts: random valid configurations, run for real on the CPU."""

import random
from dataclasses import replace
from typing import Any

import pytest

from launcher.config.setting import Level
from launcher.deepspeed.fields import FIELDS, Field, Kind
from launcher.deepspeed.installed import TESTED
from launcher.deepspeed.normalise import normalise
from launcher.deepspeed.run_facts import RunFacts
from launcher.probes.cases import Case, run_cases

RUN = RunFacts(
    device="cpu", module_levels=2, parameters=3000, largest_parameter=2048, learning_rate=0.01, max_train_steps=4
)
INSTALLED = replace(TESTED, packages=frozenset())

NOT_HERE = (
    # A CPU has no fp16 and no CUDA extension; async_io, CPULion and CPUAdagrad would be compiled for minutes.
    "fp16.",
    "zero_optimization.zero_quantized",
    "zero_optimization.offload_optimizer.nvme_path",
    "zero_optimization.offload_param.nvme_path",
    "zero_optimization.offload_optimizer.super_offload",
    "zero_optimization.offload_optimizer.ratio",
    "aio.use_gds",
    # Collects garbage many times a step, in a process that holds the remains of many engines: half a minute.
    "memory_breakdown",
    # Not of the session: the walk chooses them itself.
    "optimizer.",
    "scheduler.",
    "zero_optimization.stage",
)


def chosen(field: Field, dice: random.Random) -> Any:
    if field.choices:
        return dice.choice([choice for choice in field.choices if choice not in ("nvme", "fp16", "float16")])
    if field.kind is Kind.BOOL:
        return dice.random() < 0.5
    low = field.minimum if field.minimum is not None else 0
    high = min(field.maximum or 10**9, 10 ** dice.randint(0, 7)) if field.minimum != 1 else 4
    if field.kind is Kind.INT:
        return dice.randint(int(low), max(int(low), int(high)))
    if field.kind is Kind.FLOAT:
        return dice.choice([float(low), 1.0])
    return ["Linear"] if field.kind is Kind.TEXTS else "$SWAP/x"


def session(seed: int) -> dict[str, Any]:
    """A configuration whose values are each within what its field takes, together possible or not."""
    dice = random.Random(seed)
    stage = dice.randint(0, 3)
    offloads = bool(stage) and dice.random() < 0.6
    config: dict[str, Any] = {
        "zero_optimization": {"stage": stage},
        "bf16": {"enabled": dice.random() < 0.8},
        "optimizer": {"type": dice.choice(["AdamW", "Adam"] if offloads else ["AdamW", "Adam", "Adagrad"])},
    }
    config["optimizer"]["params"] = {"lr": 0.01}
    if config["optimizer"]["type"] != "Adagrad" and (not offloads or dice.random() < 0.3):
        config["optimizer"]["params"] |= {"torch_adam": True}
    if offloads:
        config["zero_optimization"]["offload_optimizer"] = {"device": "cpu"}
    offered = [path for path in FIELDS if not path.startswith(NOT_HERE) and not path.endswith(".device")]
    for path in dice.sample(offered, dice.randint(2, 14)):
        *above, key = path.split(".")
        section = config
        for name in above:
            section = section.setdefault(name, {})
        section[key] = chosen(FIELDS[path], dice)
    return config


def accepted(count: int) -> dict[str, dict[str, Any]]:
    """The first configurations that are accepted, by seed."""
    found: dict[str, dict[str, Any]] = {}
    seed = 0
    while len(found) < count:
        done = normalise(session(seed), RUN, INSTALLED)
        if not any(problem.level is Level.ERROR for problem in done.problems):
            found[f"seed {seed}"] = done.config
        seed += 1
    return found


def run_for_real(count: int) -> dict[str, Any]:
    configs = accepted(count)
    told = run_cases(Case(name, config) for name, config in configs.items())
    return {
        name: (seen.get("error"), configs[name])
        for name, seen in told.items()
        if "error" in seen or not seen["moved"] or not seen["finite"]
    }


def test_what_is_accepted_trains(extensions):
    assert run_for_real(12) == {}


@pytest.mark.exhaustive
def test_what_is_accepted_trains_thoroughly(extensions):
    assert run_for_real(200) == {}
