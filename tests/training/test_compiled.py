"""A compiled U-Net trains what one that is not compiled trains, and what is saved of it has the same names.

The U-Net is smaller than the demo's: the compiler takes seconds for it. CI traces it and computes as before, whole and
by regions; `make test-all` has code made for it as well, at every place.
"""

import gc
import json
import logging
import shutil

import pytest
import torch
from accelerate.utils import DynamoBackend
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from torch._dynamo.utils import counters

from harness.recorder import Recorder
from launcher.config.accelerate import BACKENDS, BACKENDS_NOT_LAUNCHED, Dynamo, LaunchSettings
from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.settings import Settings
from launcher.config.training import (
    CheckpointSettings,
    DataSettings,
    ExportSettings,
    ModelSettings,
    OptimizationSettings,
    TrainingSettings,
    ValidationSettings,
)
from launcher.plan import make_plan
from launcher.runs.directory import create
from launcher.train.loop import train

STEPS = 2
PLACES = {
    "plain": (False, {"stage": 0, "offload_optimizer_device": "none"}),
    "zero2": (True, {"stage": 2}),
    "zero3": (True, {"stage": 3, "offload_param_device": "cpu"}),
}
EAGER = [
    ("plain", Dynamo("EAGER", fullgraph=True)),
    ("zero2", Dynamo("EAGER", regional=True)),
]
CODE = [
    ("zero2", Dynamo("EAGER", fullgraph=True)),
    ("zero3", Dynamo("EAGER")),
    *((place, Dynamo(backend)) for backend in ("AOT_EAGER", "INDUCTOR") for place in PLACES),
    ("plain", Dynamo("AOT_EAGER", dynamic=True, regional=True)),
    ("plain", Dynamo("CUDAGRAPHS", mode="reduce-overhead")),
]
CASES = [
    *(pytest.param(*case, id=f"{case[0]}, {case[1]}") for case in EAGER),
    *(
        pytest.param(*case, marks=[pytest.mark.exhaustive, pytest.mark.timeout(1800)], id=f"{case[0]}, {case[1]}")
        for case in CODE
    ),
]
TOLERANCE = 1e-4
"""Relative, of losses: made code adds up in another order. The eager backend must give the same bits."""


@pytest.fixture(scope="module", autouse=True)
def no_traces():
    """torch logs every step of a compilation, for a tool that is not asked for here."""
    logger = logging.getLogger("torch.__trace")
    logger.propagate = False
    yield
    logger.propagate = True


@pytest.fixture(scope="module")
def small_model(model, tmp_path_factory):
    """The demo's model with a U-Net of two levels."""
    folder = tmp_path_factory.mktemp("small") / "model"
    shutil.copytree(model.folder, folder, ignore=shutil.ignore_patterns("unet"))
    config = json.loads((model.folder / "unet/config.json").read_text()) | {
        "block_out_channels": [16, 32],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
        "transformer_layers_per_block": [1, 1],
        "attention_head_dim": [1, 2],
        "norm_num_groups": 8,
    }
    torch.manual_seed(0)
    UNet2DConditionModel.from_config(config).save_pretrained(folder / "unet")
    return folder


@pytest.fixture(scope="module")
def trained(small_model, assets, cache_dir, group, tmp_path_factory):
    """Trains at a place, compiled or not; gives what was told, and the folder of the run."""

    def once(place: str, dynamo: Dynamo | None):
        deepspeed, settings = PLACES[place]
        training = TrainingSettings(
            model=ModelSettings(pretrained_model_name_or_path=str(small_model)),
            data=DataSettings(instance_data_dir=str(assets / "pictures"), resolution=32, cache_dir=str(cache_dir)),
            optimization=OptimizationSettings(
                max_train_steps=STEPS, train_batch_size=2, learning_rate=1e-3, lr_warmup_steps=1, num_eval_images=2
            ),
            checkpoints=CheckpointSettings(checkpointing_steps=STEPS),
            validation=ValidationSettings(num_validation_images=0),
            export=ExportSettings(export_dtype="fp32"),
        )
        launch = LaunchSettings(use_cpu=True, deepspeed=deepspeed, dynamo=dynamo)
        chosen = Settings(launch, DeepSpeedSettings(**settings, precision="no"), training)
        plan = make_plan(chosen, b"{}\n", tmp_path_factory.mktemp("compiled") / "run")
        run, told = create(plan.run_dir, plan.files), Recorder()
        torch._dynamo.reset()
        counters.clear()
        assert train(run, group, told, lambda: None).result == "completed"
        gc.collect()
        return told, run.path

    return once


@pytest.fixture(scope="module")
def uncompiled(trained):
    known = {}

    def of(place: str):
        if place not in known:
            known[place] = trained(place, None)
            assert counters["stats"]["unique_graphs"] == 0
        return known[place]

    return of


def losses(told: Recorder) -> list[float]:
    return [event["loss"] for event in (*told.named("evaluation"), *told.named("step"))]


def names(path) -> dict[str, list[str]]:
    """What the last checkpoint's files and the exported U-Net are made of, tensor by tensor."""

    def keys(value, place: str):
        if not isinstance(value, dict):
            return [place]
        return [name for key, inside in value.items() for name in keys(inside, f"{place}/{key}")]

    found = {"pipeline": sorted(load_file(path / "pipeline/unet/diffusion_pytorch_model.safetensors"))}
    for file in sorted((path / f"checkpoints/checkpoint-{STEPS}").rglob("*.pt")):
        found[file.name] = keys(torch.load(file, weights_only=False), "")
    return found


@pytest.mark.parametrize(("place", "dynamo"), CASES)
def test_compiled_it_trains_the_same_and_saves_the_same_names(trained, uncompiled, place, dynamo):
    before, straight = uncompiled(place)
    told, path = trained(place, dynamo)
    assert counters["stats"]["unique_graphs"] > 0
    assert not counters["unimplemented"].get("Dynamo recompile limit exceeded") or place == "zero3"
    assert [event["compiled"] for one in (before, told) for event in one.named("model")] == [
        None,
        dynamo.backend.lower(),
    ]
    same = losses(before) if dynamo.backend == "EAGER" else pytest.approx(losses(before), rel=TOLERANCE)
    assert losses(told) == same
    assert names(path) == names(straight)
    assert len(names(path)) >= 2


def test_every_backend_of_accelerates_trains_or_is_refused_for_what_torch_says_of_it():
    known = {name.upper() for name in torch._dynamo.list_backends(None)}
    assert {*BACKENDS, *BACKENDS_NOT_LAUNCHED} == {backend.value for backend in DynamoBackend} - {"NO"}
    assert set(BACKENDS) <= known
    gone = {name for name, reason in BACKENDS_NOT_LAUNCHED.items() if "no backend of this name" in reason}
    assert not gone & known
    assert BACKENDS_NOT_LAUNCHED.keys() - gone == {"TVM", "HPU_BACKEND", "NEURON"}
