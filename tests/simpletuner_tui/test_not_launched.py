"""Answers that are saved and not launched: told at the choice, refused at the launch with exit code 3."""

import json

import pytest

from harness.accelerate_walks import PROBES
from harness.runs import cli
from launcher.config.accelerate import NOT_LAUNCHED
from launcher.errors import CannotRunHereError, ExitCode, InvalidInputError
from simpletuner_tui.answers import judge_answers
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.questions.accelerate import ACCELERATE
from simpletuner_tui.questions.model import Typed, resolve
from simpletuner_tui.session import Session

EVERYTHING = {name: name not in ("mps", "sagemaker_role") for name in PROBES}
DEEPSPEED = {"use_deepspeed": True}
SEVERAL = {"num_machines": 2, "main_process_ip": "10.0.0.1", "main_process_port": 29500, "ds_launcher": "standard"}
RUNS = [
    DEEPSPEED,
    {},
    {"use_cpu": True},
    {"machine": "MULTI_CPU", "num_processes": 2},
    {"machine": "MULTI_GPU", "num_processes": 2, "mixed_precision": "bf16"},
    {**DEEPSPEED, "use_cpu": True, "num_processes": 2},
    {**DEEPSPEED, "machine": "MULTI_GPU", "num_processes": 2, "debug": True},
    {**DEEPSPEED, "machine": "MULTI_GPU", "mixed_precision": "fp16", "zero_stage": 3},
]
SAVED = [
    ({"environment": "AMAZON_SAGEMAKER", "sm_role_name": "mine"}, "environment", "AMAZON_SAGEMAKER"),
    ({"machine": "XLA"}, "machine", "XLA"),
    ({"machine": "MULTI_CPU", "use_mpirun": True}, "use_mpirun", "mpirun"),
    ({"machine": "MULTI_NPU"}, "machine", "MULTI_NPU"),
    ({"machine": "MULTI_NPU", **DEEPSPEED}, "machine", "MULTI_NPU"),
    ({"machine": "MULTI_GPU", "use_fsdp": True, "wrap_cls": "Block"}, "use_fsdp", "FSDP"),
    ({"machine": "MULTI_GPU", "use_megatron": True, "num_processes": 2}, "use_megatron", "MEGATRON_LM"),
    ({**DEEPSPEED, "machine": "MULTI_GPU", **SEVERAL}, "num_machines", "several machines"),
    ({**DEEPSPEED, "mixed_precision": "fp8"}, "mixed_precision", "fp8"),
    ({**DEEPSPEED, "use_dynamo": True}, "use_dynamo", "dynamo"),
    ({**DEEPSPEED, "use_moe": True, "moe": "Block"}, "use_moe", "MoE"),
]


def judged(answers, tmp_path, probes=EVERYTHING):
    given = {f"accelerate.{key}": value for key, value in answers.items()}
    given |= {"training.pretrained_model_name_or_path": "m/m", "training.instance_data_dir": "p"}
    return judge_answers(given, resolve(REGISTRY, given, probes), tmp_path, REGISTRY)


@pytest.mark.parametrize("answers", RUNS, ids=str)
def test_gpus_or_cpus_of_one_machine_are_launched_with_deepspeed_and_without(answers, tmp_path):
    judged(answers, tmp_path).raise_errors()


@pytest.mark.parametrize(("answers", "question", "what"), SAVED, ids=str)
def test_everything_else_is_valid_and_refused_with_its_reason(answers, question, what, tmp_path):
    judgement = judged(answers, tmp_path)
    reasons = {problem.field: problem.message for problem in judgement.problems}
    assert reasons[f"accelerate.{question}"] == NOT_LAUNCHED[what]
    with pytest.raises(CannotRunHereError):
        judgement.raise_errors()


def test_what_this_machine_lacks_is_no_fault_of_the_answers(tmp_path):
    with pytest.raises(CannotRunHereError, match="DeepSpeed is not installed"):
        judged(DEEPSPEED, tmp_path, {}).raise_errors()
    with pytest.raises(InvalidInputError, match="only using 1 GPU"):
        judged({"machine": "MULTI_GPU"}, tmp_path).raise_errors()


def test_a_fault_beside_it_is_told_as_one(tmp_path):
    with pytest.raises(InvalidInputError, match=r"accelerate\.gas"):
        judged({**DEEPSPEED, "gas": 0, "mixed_precision": "fp8"}, tmp_path).raise_errors()


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({"accelerate.environment": "AMAZON_SAGEMAKER", "accelerate.sm_role_name": "x"}, "accelerate.environment: not"),
        ({"accelerate.machine": "MULTI_HPU"}, "accelerate.machine: not launched"),
    ],
)
def test_replay_ends_with_3_and_names_the_reason(home, answers, reason):
    content = json.loads((home / "answers.json").read_text())
    content["answers"] |= answers
    (home / "answers.json").write_text(json.dumps(content))
    for arguments in (
        ("--replay", "answers.json"),
        ("--replay", "answers.json", "--dry-run"),
        ("check", "answers.json"),
    ):
        done = cli(*arguments, cwd=home)
        assert done.returncode == ExitCode.CANNOT_RUN_HERE, done.stderr
        assert f"error: {reason}" in done.stderr
    assert not (home / "runs").exists()


# at the choice


def rows(question: str, answers=None, **probes) -> dict:
    """Why each row does not work here, by its value."""
    given = {f"accelerate.{key}": value for key, value in (answers or {}).items()}
    session = Session(ACCELERATE, given, {**EVERYTHING, **probes})
    session.go_to(f"accelerate.{question}")
    return {row.value: row.unavailable for row in session.choices()}


def test_what_accelerate_refuses_is_told_at_the_choice():
    assert rows("use_deepspeed")[True] == ""
    assert "not installed" in rows("use_deepspeed", deepspeed=False)[True]
    assert "not supported on Neuron" in rows("use_deepspeed", {"machine": "MULTI_NEURON"})[True]
    assert "Transformers" in rows("zero3_init", DEEPSPEED, transformers=False)[True]
    assert "FP8" in rows("mixed_precision", fp8=False)["fp8"]
    fp8 = rows("fp8_backend", {"mixed_precision": "fp8"}, torchao=False, msamp=False)
    assert (bool(fp8["AO"]), bool(fp8["TE"]), bool(fp8["MSAMP"])) == (True, False, True)
    backends = rows("dynamo_backend", {"use_dynamo": True})
    assert [value for value, reason in backends.items() if reason] == ["TORHCHXLA_TRACE_ONCE"]
    aws = {"environment": "AMAZON_SAGEMAKER"}
    assert "pip install boto3" in rows("sm_role", aws, boto3=False)["CREATE"]
    assert "has to be made in AWS" in rows("sm_role", aws)["CREATE"]


def test_what_is_saved_and_not_launched_is_told_at_the_choice_and_can_be_chosen():
    assert rows("mixed_precision")["fp8"] == NOT_LAUNCHED["fp8"]
    assert rows("machine")["MULTI_GPU"] == rows("machine")["NO"] == ""
    assert rows("machine")["MULTI_MLU"] == NOT_LAUNCHED["MULTI_MLU"]
    session = Session(ACCELERATE, {}, EVERYTHING)
    session.go_to("accelerate.machine")
    session.answer(Typed("multi-MLU"))
    session.skip_to_open_question()
    assert session.current is None


# at the question


@pytest.mark.parametrize(
    ("question", "typed", "answers"),
    [
        ("ds_json", " ", {**DEEPSPEED, "ds_use_json": True}),
        ("ds_json", "none", {**DEEPSPEED, "ds_use_json": True}),
        ("main_process_port", "0", {"machine": "MULTI_GPU", "num_machines": 2}),
        ("main_process_port", "65536", {"machine": "MULTI_GPU", "num_machines": 2}),
        ("machine_rank", "2", {"machine": "MULTI_GPU", "num_machines": 2}),
        ("num_machines", "0", {"machine": "MULTI_GPU"}),
        ("num_machines", "1000000000000", {"machine": "MULTI_GPU"}),
        ("num_processes", "-1", {"machine": "MULTI_GPU"}),
        ("num_processes", "1.5", {"machine": "MULTI_GPU"}),
        ("gpu_ids", "0", {"machine": "MULTI_GPU", "num_processes": 2}),
        ("gpu_ids", "0,,1", {"machine": "MULTI_GPU", "num_processes": 2}),
        ("tpu_sudo", "maybe", {"machine": "XLA", "tpu_cluster": True}),
    ],
)
def test_nonsense_is_caught_where_it_is_typed(question, typed, answers):
    given = {f"accelerate.{key}": value for key, value in answers.items()}
    session = Session(ACCELERATE, given, EVERYTHING)
    session.go_to(f"accelerate.{question}")
    with pytest.raises(ValueError, match=r"\w"):
        session.answer(Typed(typed))
    assert session.current.id == f"accelerate.{question}"


@pytest.mark.parametrize(
    ("question", "typed", "value", "answers"),
    [
        ("use_cpu", "y", True, {}),
        ("use_cpu", " No ", False, {}),
        ("min_params", "1e8", 100_000_000, {"machine": "MULTI_GPU", "use_fsdp": True, "wrap": "SIZE_BASED_WRAP"}),
        ("gpu_ids", "0", "0", {}),
    ],
)
def test_what_anyone_would_understand_is_understood(question, typed, value, answers):
    given = {f"accelerate.{key}": value for key, value in answers.items()}
    session = Session(ACCELERATE, given, EVERYTHING)
    session.go_to(f"accelerate.{question}")
    session.answer(Typed(typed))
    assert session.resolved.values[f"accelerate.{question}"] == value
