"""A rehearsal is planned beside its run: what it shares with it, and what it leaves out."""

import json
from dataclasses import replace

import pytest

from launcher.config.accelerate import Machines
from launcher.errors import CannotRunHereError
from launcher.rehearsal import measured_settings, rehearsal_plan
from launcher.runs.directory import create
from launcher.runs.rehearsal import Rehearsal, rehearsal_of


def written(plan) -> dict:
    return {name: json.loads(plan.files[name]) for name in ("deepspeed.json", "training.json", "plan.json")}


def test_it_lies_beside_the_run_and_shares_its_caches_and_its_engine(plan_of):
    real = plan_of(max_train_steps=300, use_ema=True, validation_steps=1, validation_prompt="a cat")
    planned = rehearsal_plan(real)
    assert planned.run_dir == real.run_dir.with_name(".rehearsal-a")
    there, here = written(real), written(planned)
    assert here["deepspeed.json"] == there["deepspeed.json"]
    changed = {key: value for key, value in here["training.json"].items() if value != there["training.json"][key]}
    assert changed == {"num_eval_images": 0, "export_pipeline": False, "validation_steps": 3}
    assert here["training.json"]["cache_dir"] == str(real.run_dir.parent / "cache")
    assert planned.files["answers.json"] == real.files["answers.json"]


def test_where_a_run_saves_what_it_continues_and_who_follows_it_are_left_out(plan_of, tmp_path):
    elsewhere = {"output_dir": str(tmp_path / "out"), "resume_from_checkpoint": "checkpoint-5", "report_to": "wandb"}
    training = written(rehearsal_plan(plan_of(**elsewhere)))["training.json"]
    assert training["output_dir"] == ""
    assert training["resume_from_checkpoint"] == "latest"
    assert training["report_to"] == "none"


def test_the_plan_says_that_it_is_one_and_what_a_save_takes(plan_of):
    real = plan_of(max_train_steps=1)
    run = create(rehearsal_plan(real).run_dir, rehearsal_plan(real).files)
    rehearsal = rehearsal_of(run)
    assert rehearsal == Rehearsal(steps=1, checkpoint_mib=rehearsal.checkpoint_mib, saves_here=True)
    assert rehearsal.checkpoint_mib == pytest.approx(34_300, rel=0.01)
    assert rehearsal_of(create(real.run_dir, real.files)) is None
    assert rehearsal_plan(real).run_dir.name == ".rehearsal-a-2", "one that failed keeps its place"


def test_the_speed_of_another_disk_says_nothing_of_saves(plan_of, in_memory):
    assert not written(rehearsal_plan(plan_of(output_dir=str(in_memory))))["plan.json"]["rehearsal"]["saves_here"]


def test_several_machines_are_refused(plan_of):
    real = plan_of()
    launch = replace(real.settings.launch, machines=Machines(2, 0, "10.0.0.1", 29500))
    with pytest.raises(CannotRunHereError, match="a rehearsal takes one machine"):
        rehearsal_plan(replace(real, settings=replace(real.settings, launch=launch)))


@pytest.mark.parametrize(
    ("changed", "matters"),
    [
        ({"learning_rate": 1e-6}, True),
        ({"max_train_steps": 2000}, True),
        ({"zero_stage": 3}, True),
        ({"validation_steps": 50, "validation_prompt": "a cat"}, False),
        ({"output_dir": "/elsewhere"}, False),
        ({"report_to": "tensorboard"}, False),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_figures_follow_from_what_is_rehearsed(make_settings, changed, matters):
    assert (measured_settings(make_settings(**changed)) != measured_settings(make_settings())) is matters
