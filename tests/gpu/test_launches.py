"""Every kind of answer that is launched from here, on real GPUs: one, several, with and without DeepSpeed, compiled."""

from pathlib import Path

import pytest

from harness.runs import cli
from launcher.machine.gpus import read_nvml
from launcher.runs.directory import RunDirectory
from launcher.runs.events import read_events

ROOT = Path(__file__).parents[2]
NVML = read_nvml()
STEPS = 8
SETTINGS = {
    "training.resolution": 64,
    "training.train_batch_size": 4,
    "training.max_train_steps": STEPS,
    "training.learning_rate": 1e-4,
    "training.lr_warmup_steps": 1,
    "training.checkpointing_steps": STEPS,
    "training.num_eval_images": 0,
    "training.num_validation_images": 0,
    "training.export_pipeline": "no",
    "accelerate.use_cpu": "no",
}
PLAIN = {"accelerate.use_deepspeed": "no"}
TWO = {"accelerate.machine": "multi-GPU", "accelerate.num_processes": 2, "training.train_batch_size": 2}
FP16 = {"accelerate.mixed_precision": "fp16"}
COMPILED = {"accelerate.use_dynamo": "yes", "accelerate.dynamo_backend": "inductor"}
LAUNCHES = {
    "plain": PLAIN,
    "plain, compiled": {**PLAIN, **COMPILED},
    "zero2": {"accelerate.zero_stage": 2},
    "zero2, compiled": {"accelerate.zero_stage": 2, **COMPILED},
    "zero3": {"accelerate.zero_stage": 3, "accelerate.offload_param": "cpu"},
    "plain, fp16": {**PLAIN, **FP16},
    "zero2, fp16": {"accelerate.zero_stage": 2, **FP16},
    "zero3, fp16": {"accelerate.zero_stage": 3, "accelerate.offload_param": "cpu", **FP16},
    "two, plain": {**PLAIN, **TWO},
    "two, plain, bound to NUMA nodes": {**PLAIN, **TWO, "accelerate.numa": "yes"},
    "two, zero2": {**TWO, "accelerate.zero_stage": 2},
    "two, zero3": {**TWO, "accelerate.zero_stage": 3, "accelerate.offload_param": "cpu"},
    "two, zero2, compiled": {**TWO, **COMPILED, "accelerate.zero_stage": 2},
}
"""One process with a batch of four sees what two with two see, so all losses agree."""
TOLERANCE = 0.004
"""Relative, of bf16 losses over a few steps; ten times what was measured."""
FP16_TOLERANCE = 0.05
"""The first steps of fp16 are left out while its loss scale comes down, so its losses stay behind."""

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not NVML.gpus, reason=NVML.reason or "no GPU"),
    pytest.mark.timeout(600),
]


def events_of(run_dir: Path, kind: str) -> list[dict]:
    return [event for event in read_events(RunDirectory(run_dir).events_jsonl)[0] if event["event"] == kind]


@pytest.fixture(scope="module")
def losses() -> dict[str, list[float]]:
    """Of the launches so far."""
    return {}


@pytest.mark.parametrize("name", LAUNCHES)
def test_it_trains_alike(assets, tmp_path_factory, losses, name):
    if name.startswith("two") and len(NVML.gpus) < 2:
        pytest.skip("one GPU only")
    home = tmp_path_factory.getbasetemp() / "launches"  # their caches are shared
    run_dir = home / name.replace(", ", "-").replace(" ", "-")
    chosen = {**SETTINGS, **LAUNCHES[name]}
    sets = [part for key, value in chosen.items() for part in ("--set", f"{key}={value}")]
    done = cli(
        "--replay", ROOT / "examples/demo/answers.json", "--run-dir", run_dir, *sets,
        "--set", f"training.pretrained_model_name_or_path={assets / 'model'}",
        "--set", f"training.instance_data_dir={assets / 'pictures'}",
        timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (model,) = events_of(run_dir, "model")
    assert model["world_size"] == (2 if name.startswith("two") else 1)
    assert model["device"] == NVML.gpus[0].name
    steps = events_of(run_dir, "step")
    print(name, [round(step["loss"], 4) for step in steps], [step["seconds"]["total"] for step in steps[-3:]])
    losses[name] = [step["loss"] for step in steps]
    assert len(steps) == STEPS
    first = next(iter(losses.values()))
    fp16 = name.endswith("fp16")
    assert losses[name] == pytest.approx(first, rel=FP16_TOLERANCE if fp16 else TOLERANCE)
    assert all((step["loss_scale"] is not None) == fp16 for step in steps)
    print(name, [(step["loss_scale"], step["skipped"]) for step in steps] if fp16 else "")
    assert (run_dir / f"checkpoints/checkpoint-{STEPS}/COMPLETE").exists()
