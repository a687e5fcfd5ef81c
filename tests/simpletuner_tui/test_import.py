"""``import``: SimpleTuner's configurations as answers, each of their keys accounted for."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.fake_model import write_model, write_pictures
from launcher.config.training import training_declarations
from launcher.errors import InvalidInputError
from simpletuner_tui.answers import read_answers
from simpletuner_tui.cli import main
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.simpletuner.importing import Imported, import_config
from simpletuner_tui.simpletuner.rows import Fate
from simpletuner_tui.simpletuner.said import Options
from simpletuner_tui.simpletuner.translations import TRANSLATIONS

PROBES = {"deepspeed": True}
SETTINGS = [declared.key for _, declared in training_declarations()]
ZERO_2 = {
    "zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu", "pin_memory": True}},
    "gradient_accumulation_steps": 4,
    "gradient_clipping": 1.0,
    "optimizer": {"type": "AdamW", "params": {"lr": 1e-4, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01}},
    "scheduler": {
        "type": "WarmupLR",
        "params": {"warmup_min_lr": 0, "warmup_max_lr": 1e-4, "warmup_num_steps": 500},
    },
    "train_batch_size": 8,
    "train_micro_batch_size_per_gpu": 2,
}
PLAIN = {
    "model_type": "full",
    "model_family": "sdxl",
    "pretrained_model_name_or_path": "stabilityai/stable-diffusion-xl-base-1.0",
    "data_backend_config": "config/multidatabackend.json",
    "output_dir": "output/models",
    "train_batch_size": 2,
    "learning_rate": "4e-7",
    "max_train_steps": 3000,
    "mixed_precision": "bf16",
    "seed": 7,
    "gradient_checkpointing": "true",
    "hub_model_id": "somebody/cats",
}
BACKENDS = [
    {
        "id": "cats",
        "type": "local",
        "instance_data_dir": "datasets/cats",
        "resolution": 0.25,
        "resolution_type": "area",
        "caption_strategy": "textfile",
        "cache_dir_vae": "cache/vae",
    },
    {"id": "text", "type": "local", "dataset_type": "text_embeds", "default": True, "cache_dir": "cache/text"},
    {"id": "bucket", "type": "aws", "aws_bucket_name": "cats"},
]


@pytest.fixture
def tuner(tmp_path):
    """SimpleTuner's own folder: config/ with the data backends, and the pictures that they name."""
    write_pictures(tmp_path / "datasets/cats")
    (tmp_path / "config").mkdir()
    (tmp_path / "config/multidatabackend.json").write_text(json.dumps(BACKENDS))
    return tmp_path


def imported(folder: Path, content, name: str = "config/config.json") -> Imported:
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return import_config(folder / name, REGISTRY, PROBES, folder / "answers.sources.json")


def fates(result: Imported) -> dict[str, Fate]:
    assert len({row.key for row in result.rows}) == len(result.rows)
    return {row.key: row.fate for row in result.rows}


def row_of(result: Imported, key: str):
    (row,) = [row for row in result.rows if row.key == key]
    return row


def answers_of(result: Imported) -> dict[str, object]:
    return {key: value for row in result.rows for key, value in row.answers.items()}


@pytest.mark.parametrize("dashes", ["", "--"])
def test_keys_are_read_with_and_without_dashes(tuner, dashes):
    result = imported(tuner, {dashes + key: value for key, value in PLAIN.items()})
    assert not result.needed
    assert answers_of(result) == {
        "training.pretrained_model_name_or_path": "stabilityai/stable-diffusion-xl-base-1.0",
        "training.instance_data_dir": "datasets/cats",
        "training.caption_strategy": "textfile",
        "training.model_type": "full",
        "training.resolution": 512,
        "training.resolution_type": "pixel_area",
        "training.output_dir": "output/models",
        "training.train_batch_size": 2,
        "training.learning_rate": 4e-7,
        "training.max_train_steps": 3000,
        "accelerate.mixed_precision": "bf16",
        "training.seed": 7,
        "training.gradient_checkpointing": True,
    }
    assert result.base == tuner
    told = fates(result)
    assert set(told) >= {dashes + key for key in PLAIN}
    assert told[f"{dashes}learning_rate"] is Fate.KEPT
    assert told[f"{dashes}model_family"] is Fate.TRANSLATED
    assert told[f"{dashes}hub_model_id"] is Fate.LEFT
    assert result.resolved.values["accelerate.use_deepspeed"] is False
    for index, keys in ((0, list(BACKENDS[0])), (1, None), (2, None)):
        name = f"multidatabackend.json[{index}]"
        assert all(f"{name}.{key}" in told for key in keys or ()), told
        assert keys or any(key.startswith(name) for key in told)


@pytest.mark.parametrize("form", ["object", "JSON", "literal", "file", "dashed"])
def test_the_deepspeed_configuration_in_every_form(tuner, form):
    (tuner / "config/ds.json").write_text(json.dumps(ZERO_2))
    written = {
        "object": ZERO_2,
        "JSON": json.dumps(ZERO_2),
        "literal": repr(ZERO_2),
        "file": "config/ds.json",
        "dashed": ZERO_2,
    }
    key = "--deepspeed_config" if form == "dashed" else "deepspeed_config"
    result = imported(tuner, {**PLAIN, key: written[form]})
    assert not result.needed
    values = result.resolved.values
    assert values["accelerate.use_deepspeed"] is True
    assert (values["accelerate.zero_stage"], values["accelerate.offload_optimizer"]) == (2, "cpu")
    assert (values["accelerate.gas"], values["accelerate.clip"]) == (4, 1.0)
    assert (values["training.learning_rate"], values["training.lr_warmup_steps"]) == (1e-4, 500)
    assert fates(result)[key] is Fate.TRANSLATED
    assert row_of(result, "learning_rate").how == "the DeepSpeed configuration says 0.0001, and that holds"


def test_what_the_deepspeed_configuration_does_not_name_simpletuners_keys_say(tuner):
    unnamed = {key: value for key, value in ZERO_2.items() if key not in ("optimizer", "scheduler")}
    said = {"optimizer": "optimi-lion", "adam_weight_decay": 0.2, "lr_scheduler": "cosine", "lr_warmup_steps": 100}
    result = imported(tuner, {**PLAIN, **said, "deepspeed_config": unnamed})
    assert not result.needed
    assert {fates(result)[key] for key in said} <= {Fate.KEPT, Fate.TRANSLATED}
    values = result.resolved.values
    assert values["deepspeed.optimizer.type"] == "Lion"
    assert values["deepspeed.optimizer.params.weight_decay"] == 0.2
    assert values["deepspeed.scheduler.type"] == "WarmupCosineLR"
    assert "optimizer" not in row_of(result, "deepspeed_config").how


def test_a_config_env_with_extra_arguments(tuner):
    result = imported(
        tuner,
        "# a comment\n"
        "export MODEL_NAME=stabilityai/stable-diffusion-xl-base-1.0\n"
        "export DATALOADER_CONFIG='config/multidatabackend.json'\n"
        'export TRAIN_BATCH_SIZE="2"\nMAX_NUM_STEPS=300\nLR_SCHEDULE=cosine\nTRAINING_NUM_PROCESSES=2\n'
        'TRAINER_EXTRA_ARGS="--lr_warmup_steps=7 --gradient_checkpointing"\n'
        'TRAINER_EXTRA_ARGS+="--max_grad_norm 0.5 --odd"\n',
        "config/config.env",
    )
    assert not result.needed
    said = answers_of(result)
    assert said["training.train_batch_size"] == 2
    assert said["training.max_train_steps"] == 300
    assert said["deepspeed.scheduler.type"] == "WarmupCosineLR"
    assert (said["accelerate.machine"], said["accelerate.num_processes"]) == ("MULTI_GPU", 2)
    assert (said["training.lr_warmup_steps"], said["deepspeed.gradient_clipping"]) == (7, 0.5)
    assert said["training.gradient_checkpointing"] is True
    assert fates(result)["--odd"] is Fate.LEFT


def test_epochs_become_steps_of_the_batch_that_deepspeed_says(tuner):
    pictures = len(list((tuner / "datasets/cats").glob("*.png")))
    content = {**PLAIN, "max_train_steps": 0, "num_train_epochs": 10, "deepspeed_config": ZERO_2}
    result = imported(tuner, content)
    assert answers_of(result)["training.max_train_steps"] == -(-pictures * 10 // 8)
    assert "8 a step" in row_of(result, "num_train_epochs").how


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("model_family", "flux", "SDXL is all that is trained"),
        ("mixed_precision", "fp8", "is not trained in"),
        ("optimizer", "prodigy", "there is no 'prodigy' here"),
        ("lr_scheduler", "sine", "DeepSpeed has no schedule like 'sine'"),
        ("grad_clip_method", "value", "global norm only"),
        ("resume_from_checkpoint", "checkpoint-500", "are not continued"),
        ("base_model_precision", "int8-quanto", "cannot be trained whole"),
        ("cache_dir", "cache", "HF_HOME"),
        ("train_batch_size", "many", "type a number"),
        ("train_batch_size", 0, "at least 1"),
        ("learning_rate", [1], "must be a number"),
        ("gradient_checkpointing", {"a": 1}, "must be true or false"),
        ("resolution", "large", "is no number"),
        ("a_key_of_tomorrow", True, "no such setting"),
        ("deepspeed_config", {"zero_optimization": {"stage": 7}}, "mend it with"),
        ("deepspeed_config", "nowhere.json", "cannot be read"),
        ("data_backend_config", "nowhere.json", "is not found"),
        ("data_backend_config", 3, "names no file"),
    ],
)
def test_what_cannot_be_carried_says_why(tuner, key, value, why):
    result = imported(tuner, {**PLAIN, key: value})
    row = row_of(result, key)
    assert row.fate is Fate.LEFT
    assert why in row.how


def test_a_lora_is_trained_where_nothing_else_is_said_as_simpletuner_does(tuner):
    silent = {key: value for key, value in PLAIN.items() if key != "model_type"}
    assert row_of(imported(tuner, silent), "model_type (left out)").answers == {"training.model_type": "lora"}
    said = imported(tuner, {**silent, "model_type": "lora", "lora_rank": "32", "lora_type": "standard"})
    assert not said.needed
    assert answers_of(said)["training.lora_rank"] == 32
    assert fates(said)["lora_type"] is Fate.TRANSLATED


@pytest.mark.parametrize(
    ("said", "offset"),
    [
        ({"offset_noise": True}, {"noise_offset": 0.1, "noise_offset_probability": 0.25}),
        ({"offset_noise": "true", "noise_offset": 0.05}, {"noise_offset": 0.05, "noise_offset_probability": 0.25}),
        ({"offset_noise": True, "noise_offset": 0.05, "noise_offset_probability": 1}, {"noise_offset": 0.05}),
        ({"offset_noise": False, "noise_offset": 0.05}, {}),
        ({"noise_offset": 0.05}, {}),
    ],
)
def test_noise_is_offset_as_simpletuner_means_it(tuner, said, offset):
    result = imported(tuner, {**PLAIN, **said})
    assert all(row_of(result, key).fate is not Fate.LEFT for key in said)
    found = {key: value for key, value in answers_of(result).items() if key.startswith("training.noise_offset")}
    found = {key: value for key, value in found.items() if (key, value) != ("training.noise_offset_probability", 1)}
    assert found == {f"training.{key}": value for key, value in offset.items()}


def test_the_objective_and_attention_are_carried(tuner):
    said = {
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "snr_gamma": 5,
        "input_perturbation": 0.1,
    }
    result = imported(tuner, {**PLAIN, **said, "attention_mechanism": "diffusers"})
    found = answers_of(result)
    assert {key: found[f"training.{key}"] for key in said} == said
    assert found["training.attention_mechanism"] == "sdpa"
    result = imported(tuner, {**PLAIN, "attention_mechanism": "sageattention"})
    assert row_of(result, "attention_mechanism").fate is Fate.LEFT


def test_a_key_said_twice_is_told(tuner):
    result = imported(tuner, {**PLAIN, "--seed": 9})
    assert answers_of(result)["training.seed"] == 7
    assert row_of(result, "--seed").how == "seed says it before"


@pytest.mark.parametrize(
    ("key", "value", "answers"),
    [
        ("validation_resolution", "1024x1024", {"training.validation_resolution": 1024}),
        ("validation_resolution", 512, {"training.validation_resolution": 512}),
        ("validation_step_interval", 100, {"training.validation_steps": 100}),
        ("checkpoint_step_interval", 100, {"training.checkpointing_steps": 100}),
    ],
)
def test_what_is_called_otherwise_is_translated_once_there_is_such_a_setting(key, value, answers):
    (setting,) = (name.removeprefix("training.") for name in answers)
    assert TRANSLATIONS[key](value, Options({}, frozenset({setting}))).answers == answers
    with pytest.raises(ValueError, match="no such setting"):
        TRANSLATIONS[key](value, Options({}, frozenset()))
    if key == "validation_resolution":
        with pytest.raises(ValueError, match="no square"):
            TRANSLATIONS[key]("1024x768", Options({}, frozenset({setting})))


def test_a_setting_of_the_same_name_is_kept_by_itself(tuner):
    values = {
        key: result for key in SETTINGS if key not in TRANSLATIONS for result in [default_of(key)] if result != ""
    }
    result = imported(tuner, {**PLAIN, **values, "export_pipeline": True})
    kept = {row.key for row in result.rows if row.fate is Fate.KEPT}
    idle = {row.key for row in result.rows if row.how == "has no effect with the other answers"}
    assert set(values) - kept - idle == set()
    assert {"seed", "checkpointing_steps", "cpu_threads"} <= kept


def default_of(key: str):
    return next(
        list(declared.default) if isinstance(declared.default, tuple) else declared.default
        for _, declared in training_declarations()
        if declared.key == key
    )


@pytest.mark.parametrize("content", ["", "[1]", '"zero2"', "{", '{"a": 1, "a": 2}', "nonsense here", "A='x"])
def test_what_is_no_configuration_is_said(tuner, content):
    with pytest.raises(InvalidInputError, match=r"config\.json"):
        imported(tuner, content)


def test_the_command_writes_answers_that_check_takes_and_overwrites_nothing(tuner, monkeypatch, capsys):
    monkeypatch.chdir(tuner)
    write_model(tuner / "model")
    backends = [{**BACKENDS[0], "resolution": 64, "resolution_type": "pixel"}]
    (tuner / "config/multidatabackend.json").write_text(json.dumps(backends))
    content = {**PLAIN, "pretrained_model_name_or_path": "model"}
    (tuner / "config/config.json").write_text(json.dumps(content))

    assert main(["import", "config/config.json", "-o", "cats/answers.json"]) == 2  # there is no such folder
    (tuner / "cats").mkdir()
    assert main(["import", "config/config.json", "-o", "cats/answers.json", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {row["key"] for row in told["keys"]} >= set(content)
    assert told["needed"] == []
    written = (tuner / "cats/answers.json").read_bytes()
    answers = read_answers(written, tuner / "cats", "answers")
    assert answers.values["training.instance_data_dir"] == "../datasets/cats"
    assert main(["check", "cats/answers.json", "--set", "accelerate.use_cpu=yes"]) == 0

    (tuner / "config/config.json").write_text(json.dumps({**content, "seed": 8}))
    assert main(["import", "config/config.json", "-o", "cats/answers.json"]) == 4
    assert (tuner / "cats/answers.json").read_bytes() == written
    assert main(["import", "config/config.json", "-o", "cats/answers.json", "--force"]) == 0
    assert (tuner / "cats/answers.json.bak").read_bytes() == written

    (tuner / "config/config.json").write_text("{}")
    capsys.readouterr()
    assert main(["import", "config/config.json", "-o", "cats/empty.json"]) == 2
    told = capsys.readouterr().err
    assert "still needed: training.pretrained_model_name_or_path" in told
    assert "still needed: training.instance_data_dir" in told


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)
NAMES = st.sampled_from([*TRANSLATIONS, *SETTINGS, "deepspeed_config", "data_backend_config"])


@given(
    content=st.dictionaries(NAMES | NAMES.map("--{}".format) | st.text(), ODD | st.just(ZERO_2), max_size=6),
    backends=ODD | st.lists(st.dictionaries(st.sampled_from([*BACKENDS[0], "disabled"]) | st.text(), ODD, max_size=4)),
)
@settings(max_examples=100, deadline=None)
def test_any_object_is_answers_with_every_key_in_one_list(content, backends):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "b.json").write_text(json.dumps(backends))
        if not {"data_backend_config", "--data_backend_config"} & set(content):
            content["data_backend_config"] = "b.json"
        (folder / "config.json").write_text(json.dumps(content))
        try:
            result = import_config(folder / "config.json", REGISTRY, PROBES, folder / "answers.sources.json")
        except InvalidInputError:
            return  # JSON that DeepSpeed's reader refuses too: half a character, a number too large
        told = [row.key for row in result.rows]
        assert [key for key in content if told.count(key) != 1] == []
