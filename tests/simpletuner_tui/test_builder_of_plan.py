"""The builder on a walk: it opens what the answers say, and its result comes back as answers that say the same."""

import json
from pathlib import Path

import pytest

from harness.deepspeed_configs import CONFIGS, effective
from launcher.deepspeed.installed import read_installed
from launcher.deepspeed.normalise import normalise
from launcher.deepspeed.run_facts import facts_of
from launcher.errors import InvalidInputError
from simpletuner_tui.answers import Answers, judge_answers, read_answers, read_resolved, write_answers
from simpletuner_tui.builder.plan import answers_of, builder_of, of_file
from simpletuner_tui.documents import accelerate_document, run_document
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.questions.accelerate import ACCELERATE
from simpletuner_tui.questions.resolving import Resolved, resolve

PROBES = {"deepspeed": True}
LEAST = {
    "training.pretrained_model_name_or_path": "./model",
    "training.instance_data_dir": "pictures",
    "accelerate.use_deepspeed": True,
}
WALKS = {
    "as proposed": LEAST,
    "with the optimizer on the CPU": {**LEAST, "accelerate.offload_optimizer": "cpu"},
    "stage 3": {
        **LEAST,
        "accelerate.zero_stage": 3,
        "accelerate.offload_param": "cpu",
        "accelerate.mixed_precision": "bf16",
    },
    "built before": {
        **LEAST,
        "deepspeed.extra": {"aio": {"block_size": 65536}, "zero_optimization": {"sub_group_size": 7}},
    },
}


def met(given: dict) -> Resolved:
    return resolve(REGISTRY, given, PROBES)


def written(given: dict, base: Path = Path()) -> dict:
    return json.loads(json.dumps(read_resolved(met(given), base).settings.deepspeed_json()))


def built(config: dict, given: dict) -> dict:
    """A configuration as the builder would leave it on a walk."""
    return normalise(config, facts_of(read_resolved(met(given), Path()).settings), read_installed()).config


def applied(config: dict, given: dict) -> dict:
    return {**given, **answers_of(config, given, met(given), Path(), REGISTRY)}


@pytest.mark.parametrize("given", WALKS.values(), ids=WALKS)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_what_was_built_is_what_the_answers_train(config, given):
    config = built(config, given)
    after = applied(config, given)
    assert effective(written(after)) == effective(config)
    assert after.keys() - given.keys() <= {question.id for question in REGISTRY}


@pytest.mark.parametrize("given", WALKS.values(), ids=WALKS)
def test_the_builder_opens_what_the_answers_train_and_changes_no_answer_by_itself(given):
    builder, _ = builder_of(met(given), Path())
    assert effective(builder.config) == effective(written(given))
    assert answers_of(builder.config, given, met(given), Path(), REGISTRY) == {}


def test_only_what_differs_becomes_an_answer():
    builder, _ = builder_of(met(LEAST), Path())
    config = builder.config
    config["zero_optimization"]["stage"] = 3
    config["optimizer"]["params"]["lr"] = 3e-4
    config["scheduler"]["params"]["warmup_max_lr"] = 3e-4
    assert answers_of(config, LEAST, met(LEAST), Path(), REGISTRY) == {
        "accelerate.zero_stage": 3,
        "training.learning_rate": 3e-4,
        # Left out in the builder, so DeepSpeed's own.
        "deepspeed.zero_optimization.sub_group_size": 1_000_000_000,
        "deepspeed.zero_optimization.stage3_prefetch_bucket_size": 50_000_000,
        "deepspeed.zero_optimization.stage3_max_live_parameters": 1_000_000_000,
        "deepspeed.zero_optimization.stage3_max_reuse_distance": 1_000_000_000,
    }


def test_what_accelerate_does_not_ask_at_a_stage_is_kept_beside_the_questions():
    config = built({"zero_optimization": {"stage": 1, "offload_optimizer": {"device": "cpu"}}}, LEAST)
    after = applied(config, LEAST)
    assert after["accelerate.zero_stage"] == 1
    assert after["deepspeed.extra"]["zero_optimization"]["offload_optimizer"]["device"] == "cpu"
    assert written(after)["zero_optimization"]["offload_optimizer"]["device"] == "cpu"


def test_clipping_that_is_turned_off_is_an_answer_of_accelerates():
    clipped = {**LEAST, "accelerate.use_clip": True, "accelerate.clip": 0.5}
    builder, _ = builder_of(met(clipped), Path())
    after = applied({**builder.config, "gradient_clipping": 0.0}, clipped)
    assert after["accelerate.use_clip"] is False
    assert written(after)["gradient_clipping"] == 0.0


def test_what_was_built_survives_the_file_of_answers(tmp_path):
    config = built(CONFIGS["unknown keys"], LEAST)
    after = applied(config, LEAST)
    saved = write_answers(met(after), tmp_path, tmp_path)
    again = read_answers(saved, tmp_path, "answers.json").values
    assert written(dict(again)) == written(after)
    assert not judge_answers(again, met(dict(again)), tmp_path, REGISTRY, strict=True).notes


def test_dropping_what_was_built_before_leaves_nothing_of_it():
    given = WALKS["built before"]
    after = applied(built({"zero_optimization": {"stage": 2}}, LEAST), given)
    assert after["deepspeed.extra"] == {}
    assert "aio" not in written(after)


def test_there_is_something_to_build_where_deepspeed_is_used():
    builds = run_document().builds
    assert builds.holds(met(LEAST).context)
    assert not builds.holds(met({**LEAST, "accelerate.use_deepspeed": False}).context)


def test_accelerates_own_questions_build_a_file_only():
    builds = accelerate_document(None).builds
    used = {"accelerate.use_deepspeed": True}
    assert not builds.holds(resolve(ACCELERATE, used, PROBES).context)
    named = resolve(ACCELERATE, {**used, "accelerate.ds_use_json": True}, PROBES)
    assert builds.holds(named.context)
    assert of_file(named)


def test_a_file_that_is_named_is_opened_and_one_that_is_not_there_begins_with_what_is_proposed(tmp_path):
    named = {**LEAST, "accelerate.ds_use_json": True, "accelerate.ds_json": "ds.json"}
    builder, path = builder_of(met(named), tmp_path)
    assert path == tmp_path / "ds.json"
    assert builder.config["zero_optimization"]["offload_optimizer"]["device"] == "cpu"
    path.write_text('{"zero_optimization": {"stage": 3}}')
    assert builder_of(met(named), tmp_path)[0].config["zero_optimization"] == {"stage": 3}
    path.write_text("{")
    with pytest.raises(InvalidInputError, match=r"ds\.json ends too early"):
        builder_of(met(named), tmp_path)
    unnamed = {**LEAST, "accelerate.ds_use_json": True}
    assert builder_of(met(unnamed), tmp_path)[1] == Path("deepspeed.json")


def test_answers_that_were_built_are_launched_as_they_are(tmp_path):
    (tmp_path / "pictures").mkdir()
    after = applied(built(CONFIGS["its own rate"], LEAST), LEAST)
    resolved = met(after)
    judgement = judge_answers(Answers(after, tmp_path).values, resolved, tmp_path, REGISTRY)
    assert not [problem for problem in judgement.problems if problem.level == "error"]
