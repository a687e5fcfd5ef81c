"""The DeepSpeed builder without its screen: fields set from text, reasons, search, lines that changed."""

import json
from copy import deepcopy

import pytest

from launcher.config.setting import Level
from launcher.deepspeed.fields import FIELDS
from launcher.deepspeed.installed import TESTED
from launcher.deepspeed.normalise import normalise
from launcher.deepspeed.run_facts import RunFacts
from launcher.deepspeed.view import View
from simpletuner_tui.builder.idle import why_idle
from simpletuner_tui.builder.model import OTHER_KEYS, Builder, State
from simpletuner_tui.builder.values import as_typed, parse

OFFLOADED = {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}, "bf16": {"enabled": True}}
ODD = {
    "zero_optimization": {"stage": "zero2", "cpu_offload": True, "bucket": 1, "a.b": 2},
    "optimizer": "fusedadam",
    "bf16": 5,
    "zero_optimization.stage": 3,
    "mine": {"": [1, {"x": None}]},
    "gradient_clipping": "auto",
}
"""Old names, other spellings, a wrong type, unknown keys, keys with dots in them."""

Z = "zero_optimization"
DEVICE = f"{Z}.offload_optimizer.device"


def made(config=None, **facts) -> Builder:
    return Builder(OFFLOADED if config is None else config, RunFacts().given(**facts), TESTED)


def take(builder: Builder, path: str, text: str) -> None:
    builder.take(builder.place(path), text)


def changed(builder: Builder) -> list[str]:
    return [line.text.strip().rstrip(",") for line in builder.lines if line.changed]


def messages(builder: Builder, level: Level = Level.ERROR) -> dict[str, str]:
    return {problem.field: problem.message for problem in builder.problems if problem.level is level}


# what is edited


@pytest.mark.parametrize("config", [{}, OFFLOADED, ODD])
def test_unedited_it_is_what_normalising_makes_of_it(config):
    before = deepcopy(config)
    builder = made(config)
    normalised = normalise(config, RunFacts(), TESTED)
    assert builder.config == normalised.config
    assert json.loads(builder.json) == normalised.config
    assert builder.problems == tuple(sorted(normalised.problems, key=lambda problem: problem.level is Level.WARNING))
    assert builder.changes == normalised.changes
    assert not builder.edited
    assert config == before


def test_an_edit_is_seen_in_the_file_and_marks_its_lines():
    builder = made()
    assert '"lr": 1e-05' in changed(builder), "what opening it filled in is marked"
    take(builder, f"{Z}.stage", "3")
    assert changed(builder) == ['"stage": 3']
    take(builder, "optimizer.params.lr", "2e-6")
    assert changed(builder) == ['"lr": 2e-06', '"warmup_max_lr": 2e-06'], "the schedule follows as long as nobody says"
    assert builder.edited
    assert builder.config[Z]["stage"] == 3


def test_nothing_typed_leaves_a_field_out_and_its_section_with_it():
    builder = made({**OFFLOADED, "aio": {"block_size": 1}})
    take(builder, "aio.block_size", "")
    assert "aio" not in builder.config
    take(builder, DEVICE, " ")
    assert builder.config[Z] == {"stage": 2}
    take(builder, DEVICE, "cpu")
    assert builder.config[Z] == OFFLOADED[Z]


def test_what_an_optimizer_does_not_take_comes_back_with_another():
    builder = made()
    take(builder, "optimizer.type", "AdamW")
    take(builder, "optimizer.params.eps", "1e-6")
    take(builder, "optimizer.type", "Lion")
    assert "eps" not in builder.config["optimizer"]["params"]
    assert "does not take it" in builder.facts(builder.place("optimizer.params.eps")).now
    take(builder, "optimizer.type", "AdamW")
    assert builder.config["optimizer"]["params"]["eps"] == 1e-6


def test_a_section_that_holds_no_object_gives_way_to_the_field():
    builder = made({**OFFLOADED, "bf16": 5})
    assert messages(builder) == {"bf16": "must be an object, not 5"}
    assert builder.place_of("bf16").path == "bf16"
    take(builder, "bf16.enabled", "true")
    assert builder.config["bf16"] == {"enabled": True}
    assert not builder.errors


# from text


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("bf16.enabled", "False", False),
        (f"{Z}.stage", "3", 3),
        (f"{Z}.reduce_bucket_size", "5e8", 500_000_000),
        ("gradient_clipping", "0.5", 0.5),
        ("gradient_clipping", "1", 1),
        ("optimizer.params.betas", "0.9, 0.95", [0.9, 0.95]),
        (f"{Z}.leaf_module.classes", "a.B, c.D,", ["a.B", "c.D"]),
        (f"{Z}.offload_param.nvme_path", " /mnt/nvme ", "/mnt/nvme"),
        ("checkpoint.tag_validation", "fail", "Fail"),
        ("wandb.project", "größe 5", "größe 5"),
    ],
)
def test_a_text_becomes_the_fields_value_and_reads_as_it_was_typed(path, text, value):
    parsed = parse(FIELDS[path], text)
    assert (parsed, type(parsed)) == (value, type(value))
    assert parse(FIELDS[path], as_typed(parsed)) == value


@pytest.mark.parametrize(
    ("path", "text", "fault"),
    [
        ("bf16.enabled", "maybe", "must be true or false"),
        (f"{Z}.stage", "4", "must be one of 0, 1, 2, 3"),
        (f"{Z}.reduce_bucket_size", "1.5", "must be a whole number"),
        (f"{Z}.reduce_bucket_size", "1_000", "must be a number"),
        (f"{Z}.reduce_bucket_size", "٣", "must be a number"),
        (f"{Z}.reduce_bucket_size", "9" * 5000, "must be a number"),
        (f"{Z}.reduce_bucket_size", "1e400", "must be a number"),
        ("gradient_clipping", "-1", "must be at least 0"),
        ("gradient_clipping", "nan", "must be a number"),
        ("optimizer.params.betas", "0.9,,1", "must be a number"),
        ("wandb.project", "a\x1bb", "control characters"),
        ("wandb.project", "a\ud800", "half a character"),
    ],
)
def test_a_text_that_is_no_value_is_refused_and_changes_nothing(path, text, fault):
    builder = made()
    before = builder.json
    for ask in (builder.take, builder.foresee):
        with pytest.raises(ValueError, match=fault):
            ask(builder.place(path), text)
    assert builder.json == before
    assert not builder.edited


# what would happen, and why not


def test_rows_say_what_each_would_bring_before_it_is_chosen():
    builder = made()
    optimizers = {row.value: row.unavailable for row in builder.rows(builder.place("optimizer.type"))}
    assert optimizers["AdamW"] == optimizers["Lion"] == optimizers["Muon"] == ""
    assert "base shapes" in optimizers["MuAdam"]
    assert "OneBitAdam" not in optimizers
    stages = {row.value: row.unavailable for row in builder.rows(builder.place(f"{Z}.stage"))}
    assert stages["0"].startswith(f"{DEVICE}: the optimizer cannot be offloaded at stage 0")
    assert "at stage 3 only" in builder.foresee(builder.place(f"{Z}.offload_param.device"), "cpu")
    assert builder.foresee(builder.place("gradient_clipping"), "2") == ""


def test_the_row_in_force_is_the_one_that_was_chosen():
    builder = made({**OFFLOADED, "optimizer": "fusedadam", "gradient_allreduce_op": "MEAN"})
    assert builder.chosen(builder.place("optimizer.type")) == "AdamW"
    assert builder.chosen(builder.place("gradient_allreduce_op")) == "mean"
    assert builder.chosen(builder.place("scheduler.type")) == ""
    assert builder.rows(builder.place("scheduler.type"))[0].label == "left out  (WarmupLR is filled in)"


@pytest.mark.parametrize(
    ("config", "path", "reason"),
    [
        ({}, f"{Z}.sub_group_size", "only at stage 3; the stage is 0"),
        ({}, f"{Z}.reduce_bucket_size", "only at stages 1, 2 and 3; the stage is 0"),
        ({"optimizer": {"type": "Lion"}}, "optimizer.params.eps", "Lion (on the GPU) does not take it"),
        ({"scheduler": {"type": "WarmupLR"}}, "scheduler.params.total_num_steps", "WarmupLR does not take it"),
        ({Z: {"stage": 2}}, f"{Z}.offload_optimizer.pin_memory", "nothing is offloaded"),
        (
            {Z: {"stage": 3, "offload_optimizer": {"device": "cpu"}}},
            f"{Z}.offload_optimizer.buffer_count",
            f"only for NVMe; {DEVICE} is cpu",
        ),
        (
            {Z: {"stage": 3, "offload_optimizer": {"device": "cpu"}}},
            f"{Z}.offload_optimizer.cpuadam_cores_perc",
            f"{Z}.offload_optimizer.super_offload is false",
        ),
        ({Z: {"stage": 3}}, "aio.block_size", "nothing is offloaded to NVMe"),
        ({}, "fp16.loss_scale", "fp16.enabled is false"),
        ({}, "activation_checkpointing.profile", "diffusers checkpoints activations itself"),
    ],
)
def test_a_field_without_effect_says_why(config, path, reason):
    assert reason in why_idle(FIELDS[path], View(config))


def test_a_field_has_its_effect_once_its_reason_is_gone():
    builder = made({Z: {"stage": 3, "offload_optimizer": {"device": "nvme"}}}, offload_param_path="/mnt/nvme")
    for path in (f"{Z}.sub_group_size", f"{Z}.offload_optimizer.buffer_count", "aio.block_size"):
        assert builder.facts(builder.place(path)).idle == ""
    assert builder.state(builder.place(f"{Z}.offload_optimizer.buffer_count")) is State.LEFT_OUT


def test_one_source_is_told_for_what_the_run_says_too():
    builder = made(learning_rate=3e-6)
    rate = builder.place("optimizer.params.lr")
    assert builder.facts(rate).now == "Now 3e-06, filled in: the run's learning_rate."
    take(builder, rate.path, "1e-6")
    assert builder.facts(rate).now == "Now 1e-06, set here."
    assert "3e-06 in the run" in messages(builder, Level.WARNING)[rate.path]


# places


def test_every_field_has_one_place_and_the_basic_view_is_short():
    builder = made({})
    everything = [place.path for _, places in builder.listed(full=True) for place in places]
    assert sorted(everything) == sorted(FIELDS)
    basic = [place for _, places in builder.listed(full=False) for place in places]
    assert {place.path for place in basic} == {path for path, field in FIELDS.items() if field.basic}
    builder.take(builder.place("wall_clock_breakdown"), "true")
    assert builder.place("wall_clock_breakdown") in [p for _, places in builder.listed(full=False) for p in places]


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("stage", f"{Z}.stage"),
        ("round_robin", f"{Z}.round_robin_gradients"),
        ("GPUDirect", "aio.use_gds"),
        ("second moment largest", "optimizer.params.amsgrad"),
        ("offload_param nvme", f"{Z}.offload_param.nvme_path"),
    ],
)
def test_search_goes_over_every_field_by_path_and_meaning(words, first):
    builder = made({})
    found = [place for _, places in builder.listed(full=False, words=words) for place in places]
    assert builder.closest(found, words).path == first
    assert builder.listed(full=True, words="no such thing") == []


def test_unknown_keys_are_places_that_are_kept_until_they_are_taken_out():
    builder = made(ODD)
    topic, others = builder.listed(full=False)[-1]
    assert topic == OTHER_KEYS
    names = [place.path for place in others]
    assert names == [f"{Z}.bucket", f'{Z}."a.b"', "bf16", '"zero_optimization.stage"', "mine"]
    for place in others:
        builder.take(place, builder.text(place))
        assert builder.place(place.path) == place, "kept as it stands"
        builder.take(place, "")
        assert builder.place(place.path) is None
    assert builder.config[Z]["stage"] == 2
    assert not builder.errors


def test_every_problem_leads_to_a_place_where_it_can_be_mended():
    builder = made({**ODD, "fp16": {"enabled": True}, "scheduler": {"type": "WarmupLR", "params": 3}})
    places = {problem: builder.place_of(problem.field, problem.rule) for problem in builder.problems}
    assert all(places.values())
    assert {place.path for problem, place in places.items() if problem.field == "zero_optimization.stage"} == {
        '"zero_optimization.stage"'
    }
    assert builder.place_of("deepspeed") is None
    assert builder.place_of("optimizer").path == "optimizer.type"
