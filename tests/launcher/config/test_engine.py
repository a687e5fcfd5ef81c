"""Which of DeepSpeed's configurations this launcher's own optimizer trains, in how many groups, and from where."""

import pytest

from launcher.config.deepspeed import GROUP_ELEMENTS
from launcher.config.engine import parameter_groups, parts_before_the_gpu, updates_in_one_pass
from launcher.config.settings import Settings
from launcher.estimate import SDXL
from launcher.estimate.adapter import trained
from launcher.estimate.engine_facts import engine_facts

ZERO = "zero_optimization."
STREAMED = {"zero_stage": 3, "offload_param_device": "cpu"}
NVME = {"zero_stage": 3, "offload_optimizer_device": "nvme", "offload_optimizer_nvme_path": "/nvme"}
WEIGHTS_ON_NVME = {**STREAMED, "offload_param_device": "nvme", "offload_param_nvme_path": "/nvme"}


@pytest.mark.parametrize(
    ("changed", "ours"),
    [
        ({}, True),
        ({"zero_stage": 1}, True),
        (STREAMED, True),
        ({"optimizer.type": "Adam"}, True),
        ({"mixed_precision": "no"}, True),
        ({"mixed_precision": "fp16"}, False),
        ({"optimizer.type": "Lion"}, False),
        ({"offload_optimizer_device": "none"}, False),
        (NVME, False),
        (WEIGHTS_ON_NVME, False),
    ],
)
def test_an_adam_on_the_cpu_is_trained_in_one_pass_and_the_estimate_knows(make_settings, changed, ours):
    settings = make_settings(**changed)
    assert updates_in_one_pass(settings.deepspeed_json()) is ours
    assert engine_facts(settings, trained(settings.training.adapter, SDXL)).one_pass is ours


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("data_types", {"grad_accum_dtype": "fp32"}),
        ("torch_autocast", {"enabled": True}),
        ("communication_data_type", "fp32"),
        ("optimizer", {"type": "AdamW", "params": {"torch_adam": True}}),
        ("bf16", {"enabled": True, "bf16_master_weights_and_grads": True}),
        ("zero_optimization", {"stage": 2, "offload_optimizer": {"device": "cpu", "ratio": 0.5}}),
        ("zero_optimization", {"stage": 2, "offload_optimizer": {"device": "cpu"}, "zenflow": {}}),
    ],
)
def test_what_a_file_says_beyond_the_questions_counts(section, value):
    assert updates_in_one_pass(Settings().deepspeed_json())
    assert not updates_in_one_pass({**Settings().deepspeed_json(), section: value})


def test_groups_are_of_stages_1_and_2_and_weights_are_taken_apart_before_the_gpu_unless_they_are_on_nvme(make_settings):
    def of(**changed):
        config = make_settings(**changed).deepspeed_json()
        return parameter_groups(config), parts_before_the_gpu(config)

    assert of(zero_stage=1) == of(zero_stage=2) == (GROUP_ELEMENTS, False)
    assert of(**{"optimizer.type": "Muon"}) == (None, False)
    assert of(zero_stage=0, offload_optimizer_device="none") == (None, False)
    assert of(zero_stage=3) == of(**STREAMED) == (None, True)
    assert of(**WEIGHTS_ON_NVME) == (None, False)
