"""A small module resumed from a checkpoint of its own engine: bit for bit, whichever optimizer updates it where.

The U-Net's resumes are in test_resume.
"""

import tempfile

import pytest

from harness.small_engines import CPU, DTYPES, assert_same, distance, masters, new_engine, train

DONE = 5
"""Steps before the save; DeepSpeed's Adam on a CPU would make the next otherwise."""
ADAGRAD = {"optimizer_type": "Adagrad"}
MUON = {"optimizer_type": "Muon", "gradient_clipping": 0.0}
NVME = {"offload_optimizer_device": "nvme"}
CASES = {
    "Adam at stage 2 on the CPU": {"stage": 2, **CPU},
    "Adam at stage 3": {"stage": 3},
    "Adagrad at stage 3": {"stage": 3, **ADAGRAD},
    "Adagrad at stage 2": {"stage": 2, **ADAGRAD},
    "Adagrad at stage 3 on the CPU": {"stage": 3, **ADAGRAD, **CPU},
    "Adagrad at stage 0 in fp32": {"stage": 0, "precision": "no", **ADAGRAD},
    "Adagrad of two groups on the CPU": {"stage": 2, **ADAGRAD, **CPU, "exclude": "norms_and_biases"},
    "Adam at stage 0": {"stage": 0},
    "Adam at stage 1, fp32 accumulation": {"stage": 1, "overrides": {"data_types.grad_accum_dtype": "fp32"}},
    "Adam at stage 3 on NVMe": {"stage": 3, **NVME},
    "Muon at stage 2 on the CPU": {"stage": 2, **MUON, **CPU},
    "Muon at stage 3": {"stage": 3, **MUON},
}
IN_CI = tuple(CASES)[:4]


@pytest.fixture
def swap():
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield folder


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in IN_CI else [pytest.mark.exhaustive]) for name in CASES]
)
def test_a_resume_goes_on_bit_for_bit(group, tmp_path, request, swap, name):
    settings = {"precision": "bf16", **CASES[name]}
    if "NVMe" in name:
        request.getfixturevalue("async_io")
    dtype = DTYPES[settings["precision"]]
    straight = new_engine(group, swap=swap, **settings)
    train(straight, DONE, dtype)
    straight.save(tmp_path)
    saved = masters(straight)
    train(straight, 3, dtype, first=DONE)
    resumed = new_engine(group, swap=swap, **settings)
    resumed.load(tmp_path)
    train(resumed, 3, dtype, first=DONE)
    assert resumed.learning_rate == straight.learning_rate
    assert_same(masters(resumed), masters(straight))
    assert distance(masters(straight), saved) > 0.01


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_what_a_rule_says_of_adagrad_in_two_groups_is_so(group, stage):
    engine = new_engine(group, stage, exclude="norms_and_biases", **ADAGRAD)
    with pytest.raises(IndexError, match="list index out of range"):
        train(engine, 1)
