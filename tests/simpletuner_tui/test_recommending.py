"""A recommendation becomes answers that mean exactly what was priced, whatever was answered before."""

from pathlib import Path

import pytest

from launcher.errors import InvalidInputError
from launcher.estimate import SDXL, estimate
from launcher.recommend import Budget, recommend
from simpletuner_tui.answers import judge_answers, read_resolved
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.questions.resolving import Resolved, resolve
from simpletuner_tui.recommending import answers_for, base_of, changed_lines
from simpletuner_tui.text import mib_of

HERE = Path("/here")
THEIRS = {"training.pretrained_model_name_or_path": "owner/sdxl", "training.instance_data_dir": "pictures"}
ZERO_2 = {"accelerate.use_deepspeed": True, "accelerate.mixed_precision": "bf16", "accelerate.use_clip": True}
PLAIN = {"accelerate.mixed_precision": "bf16", "deepspeed.gradient_clipping": 0.5}
BUILT = {
    **ZERO_2,
    "accelerate.zero_stage": 3,
    "deepspeed.extra": {"zero_optimization": {"leaf_module": {"classes": ["BasicTransformerBlock", "ResnetBlock2D"]}}},
}
TWO = {**ZERO_2, "accelerate.machine": "MULTI_GPU", "accelerate.num_processes": 2}


def met(answers) -> Resolved:
    return resolve(REGISTRY, answers, {"deepspeed": True, "transformers": True})


MORE = pytest.mark.exhaustive


@pytest.mark.parametrize(
    ("begun", "vram", "ram", "stage"),
    [
        (ZERO_2, "8GiB", "64GiB", 3),
        (ZERO_2, "12GiB", "64GiB", 2),
        (ZERO_2, "80GiB", "64GiB", None),
        pytest.param({**ZERO_2, "accelerate.gas": 4}, "24GiB", "64GiB", 1, marks=MORE),
        pytest.param(PLAIN, "12GiB", "64GiB", 2, marks=MORE),
        pytest.param(BUILT, "12GiB", "64GiB", 2, marks=MORE),
        pytest.param(BUILT, "8GiB", "64GiB", 3, marks=MORE),
        (TWO, "48GiB", "64GiB", 1),
        pytest.param(ZERO_2, "12GiB", "30GiB", 3, marks=MORE),
    ],
)
def test_the_answers_are_what_was_priced(begun, vram, ram, stage):
    given = {**THEIRS, **begun}
    resolved = met(given)
    nvme = "/drive" if ram == "30GiB" else ""
    budget = Budget(mib_of(vram), mib_of(ram), mib_of("300GiB"))
    chosen = recommend(base_of(resolved, HERE), SDXL, budget, nvme=nvme).chosen
    answers = answers_for(chosen, given, resolved, HERE, REGISTRY)
    after = met({**given, **answers})
    settings = read_resolved(after, HERE).settings
    assert estimate(settings, SDXL) == chosen.cost
    assert settings.deepspeed_json() == chosen.settings.deepspeed_json()
    assert settings.training == chosen.settings.training
    assert after.values.get("accelerate.zero_stage") == stage
    assert judge_answers({**given, **answers}, after, HERE, REGISTRY).errors == []
    assert len(changed_lines(answers, resolved, after)) == len(answers)
    # Asked again, nothing is left to be changed.
    again = recommend(base_of(after, HERE), SDXL, budget, nvme=nvme).chosen
    assert answers_for(again, {**given, **answers}, after, HERE, REGISTRY) == {}


def test_a_deepspeed_file_of_ones_own_is_left_alone():
    given = {
        **THEIRS,
        "accelerate.use_deepspeed": True,
        "accelerate.ds_use_json": True,
        "accelerate.ds_json": "ds.json",
    }
    with pytest.raises(InvalidInputError, match="a file says everything about DeepSpeed"):
        base_of(met(given), HERE)
