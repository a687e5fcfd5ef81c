"""Which settings a run that is out of GPU memory names."""

import pytest

from launcher.runs.diagnosis.gpu_memory import CLOSE, changes
from launcher.runs.directory import create

FRUGAL = {"zero_stage": 3, "offload_param_device": "cpu", "train_batch_size": 1}


@pytest.fixture
def advised(plan_of, tmp_path):
    def advise(phase, **changed):
        return ", or ".join(changes(phase, create(tmp_path / "run", plan_of(**changed).files)))

    return advise


def test_what_is_at_its_most_frugal_is_not_named(advised):
    assert advised("step", **FRUGAL) == "lower training.resolution"


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"train_batch_size": 4}, "lower training.train_batch_size, or "),
        ({"gradient_checkpointing": False}, "turn on training.gradient_checkpointing, or "),
        ({"gradient_checkpointing_granularity": "transformer_blocks"}, "answer training.gradient_checkpointing_gran"),
        ({"offload_optimizer_device": "none"}, "offload the optimizer (accelerate.offload_optimizer), or "),
        ({"zero_stage": 2, "offload_param_device": "none"}, "choose ZeRO stage 3 with the parameters offloaded"),
    ],
)
def test_whatever_else_helps_is_named(advised, changed, named):
    assert advised("step", **{**FRUGAL, **changed}).startswith(named)


def test_where_nothing_is_left_to_change_something_else_is_in_the_way(advised):
    assert advised("init", **FRUGAL) == CLOSE


@pytest.mark.parametrize(
    ("phase", "setting"),
    [
        ("init", "accelerate.zero_stage"),
        ("caching", "training.cache_dir"),
        ("validation", "training.num_validation_images"),
        ("save", "training.checkpoint_contents"),
        ("load", CLOSE),
    ],
)
def test_each_phase_names_what_matters_there(advised, phase, setting):
    assert setting in advised(phase, zero_stage=2, checkpoint_contents="weights")
