"""Answers that are saved and not launched: told at the choice, refused at the launch with exit code 3."""

import json

import pytest

from harness.accelerate_walks import PROBES
from harness.runs import cli
from launcher.config.accelerate import BACKENDS_NOT_LAUNCHED, NOT_LAUNCHED
from launcher.config.rules.launch import LION_NEEDS_DEEPSPEED, MUON_NEEDS_DEEPSPEED
from launcher.errors import CannotRunHereError, ExitCode, InvalidInputError
from simpletuner_tui.answers import judge_answers
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.questions.accelerate import ACCELERATE
from simpletuner_tui.questions.model import Typed
from simpletuner_tui.questions.resolving import resolve
from simpletuner_tui.session import Session

EVERYTHING = {name: name not in ("mps", "sagemaker_role") for name in PROBES}
DEEPSPEED = {"use_deepspeed": True}
SEVERAL = {
    "num_machines": 2,
    "num_processes": 2,
    "main_process_ip": "10.0.0.1",
    "main_process_port": 29500,
    "ds_launcher": "standard",
}
RUNS = [
    DEEPSPEED,
    {},
    {"use_cpu": True},
    {"machine": "MULTI_CPU", "num_processes": 2},
    {"machine": "MULTI_GPU", "num_processes": 2, "mixed_precision": "bf16"},
    {**DEEPSPEED, "use_cpu": True, "num_processes": 2},
    {**DEEPSPEED, "machine": "MULTI_GPU", "num_processes": 2, "debug": True},
    {**DEEPSPEED, "machine": "MULTI_GPU", "mixed_precision": "fp16", "zero_stage": 3},
    {**DEEPSPEED, "machine": "MULTI_GPU", **SEVERAL},
    {"machine": "MULTI_GPU", **SEVERAL, "same_network": False, "rdzv_backend": "c10d"},
    {"use_dynamo": True},
    {**DEEPSPEED, "use_dynamo": True, "dynamo_backend": "CUDAGRAPHS", "dynamo_custom": True},
]
SAVED = [
    ({"environment": "AMAZON_SAGEMAKER", "sm_role_name": "mine"}, "environment", "AMAZON_SAGEMAKER"),
    ({"machine": "XLA"}, "machine", "XLA"),
    ({"machine": "MULTI_CPU", "use_mpirun": True}, "use_mpirun", "mpirun"),
    ({"machine": "MULTI_NPU"}, "machine", "MULTI_NPU"),
    ({"machine": "MULTI_NPU", **DEEPSPEED}, "machine", "MULTI_NPU"),
    ({"machine": "MULTI_GPU", "use_fsdp": True, "wrap_cls": "Block"}, "use_fsdp", "FSDP"),
    ({"machine": "MULTI_GPU", "use_megatron": True, "num_processes": 2}, "use_megatron", "MEGATRON_LM"),
    (
        {**DEEPSPEED, "machine": "MULTI_GPU", **SEVERAL, "ds_launcher": "mpich", "ds_hostfile": "hosts"},
        "ds_launcher",
        "other launcher",
    ),
    ({"machine": "MULTI_CPU", **SEVERAL}, "num_machines", "several machines on CPUs"),
    ({**DEEPSPEED, "mixed_precision": "fp8"}, "mixed_precision", "fp8"),
    ({**DEEPSPEED, "use_moe": True, "moe": "Block"}, "use_moe", "MoE"),
]


def judged(answers, tmp_path, probes=EVERYTHING):
    given = {f"accelerate.{key}": value for key, value in answers.items()}
    given |= {"training.pretrained_model_name_or_path": "m/m", "training.instance_data_dir": "p"}
    return judge_answers(given, resolve(REGISTRY, given, probes), tmp_path, REGISTRY)


@pytest.mark.parametrize("answers", RUNS, ids=str)
def test_gpus_or_cpus_of_one_machine_or_gpus_of_several_are_launched_with_deepspeed_and_without(answers, tmp_path):
    judged(answers, tmp_path).raise_errors()


@pytest.mark.parametrize(("answers", "question", "what"), SAVED, ids=str)
def test_everything_else_is_valid_and_refused_with_its_reason(answers, question, what, tmp_path):
    judgement = judged(answers, tmp_path)
    reasons = {problem.field: problem.message for problem in judgement.problems}
    assert reasons[f"accelerate.{question}"] == NOT_LAUNCHED[what]
    with pytest.raises(CannotRunHereError):
        judgement.raise_errors()


@pytest.mark.parametrize("backend", ["TENSORRT", "TVM"])
def test_a_backend_that_does_not_train_is_refused_by_its_name(backend, tmp_path):
    judgement = judged({**DEEPSPEED, "use_dynamo": True, "dynamo_backend": backend}, tmp_path)
    (problem,) = judgement.problems
    assert problem.field == "accelerate.dynamo_backend"
    assert problem.message == f"{backend.lower()}: {BACKENDS_NOT_LAUNCHED[backend]}"
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
    assert "misspells" in rows("dynamo_backend", {"use_dynamo": True})["TORHCHXLA_TRACE_ONCE"]
    aws = {"environment": "AMAZON_SAGEMAKER"}
    assert "pip install boto3" in rows("sm_role", aws, boto3=False)["CREATE"]
    assert "has to be made in AWS" in rows("sm_role", aws)["CREATE"]


def test_what_is_saved_and_not_launched_is_told_at_the_choice_and_can_be_chosen():
    assert rows("mixed_precision")["fp8"] == NOT_LAUNCHED["fp8"]
    assert rows("machine")["MULTI_GPU"] == rows("machine")["NO"] == ""
    assert rows("machine")["MULTI_MLU"] == NOT_LAUNCHED["MULTI_MLU"]
    backends = rows("dynamo_backend", {"use_dynamo": True})
    trained = [value for value, reason in backends.items() if not reason]
    assert trained == ["EAGER", "AOT_EAGER", "INDUCTOR", "CUDAGRAPHS"]
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


# what plain PyTorch is asked

OF_THE_OPTIMIZER = {
    f"deepspeed.{path}"
    for path in (
        *("optimizer.type", "optimizer.params.betas", "optimizer.params.eps", "optimizer.params.weight_decay"),
        *("scheduler.type", "scheduler.params.warmup_type"),
    )
}
OF_ACCELERATE = {"deepspeed.gradient_accumulation_steps", "deepspeed.gradient_clipping"}


def asked(answers) -> set[str]:
    """What is asked in the namespace of DeepSpeed's JSON."""
    given = {f"accelerate.{key}": value for key, value in answers.items()}
    return {found.id for found in resolve(REGISTRY, given, EVERYTHING).asked if found.id.startswith("deepspeed.")}


@pytest.mark.parametrize(
    "answers", [{}, {"use_cpu": True}, {"machine": "MULTI_CPU"}, {"machine": "MULTI_GPU"}], ids=str
)
def test_without_deepspeed_optimizer_schedule_accumulation_and_clipping_are_asked(answers):
    assert asked({**answers, "num_processes": 2}) == OF_THE_OPTIMIZER | OF_ACCELERATE


def test_with_deepspeed_accumulation_and_clipping_are_accelerates_questions():
    found = asked({**DEEPSPEED, "zero_stage": 0})
    assert found == OF_THE_OPTIMIZER
    assert not asked({**DEEPSPEED, "ds_use_json": True})


@pytest.mark.parametrize(
    "answers",
    [
        {"environment": "AMAZON_SAGEMAKER"},
        {"machine": "XLA"},
        {"machine": "MULTI_NPU"},
        {"machine": "MULTI_GPU", "use_fsdp": True},
        {"machine": "MULTI_GPU", "use_megatron": True},
    ],
    ids=str,
)
def test_of_what_is_not_launched_from_here_neither_is_asked(answers):
    assert not asked(answers)


def test_what_plain_pytorch_is_told_it_trains_with(tmp_path):
    given = {
        "training.pretrained_model_name_or_path": "m/m",
        "training.instance_data_dir": "p",
        "deepspeed.gradient_accumulation_steps": 4,
        "deepspeed.gradient_clipping": 0.5,
        "deepspeed.optimizer.type": "Adagrad",
        "deepspeed.scheduler.type": "WarmupCosineLR",
    }
    judgement = judge_answers(given, resolve(REGISTRY, given, EVERYTHING), tmp_path, REGISTRY)
    judgement.raise_errors()
    assert not judgement.notes
    content = judgement.settings.deepspeed_json()
    assert (content["gradient_accumulation_steps"], content["gradient_clipping"]) == (4, 0.5)
    assert (content["optimizer"]["type"], content["scheduler"]["type"]) == ("Adagrad", "WarmupCosineLR")
    assert "betas" not in content["optimizer"]["params"]


def test_an_optimizer_that_needs_deepspeed_says_so_at_the_choice_and_is_refused(tmp_path):
    def chosen(answers):
        session = Session(REGISTRY, {f"accelerate.{key}": value for key, value in answers.items()}, EVERYTHING)
        session.go_to("deepspeed.optimizer.type")
        return {row.value: row.unavailable for row in session.choices()}

    without = {"Lion": LION_NEEDS_DEEPSPEED, "Muon": MUON_NEEDS_DEEPSPEED}
    assert chosen({}) == {"AdamW": "", "Adam": "", "Adagrad": "", **without}
    assert set(chosen(DEEPSPEED).values()) == {""}
    given = {
        "training.pretrained_model_name_or_path": "m/m",
        "training.instance_data_dir": "p",
        "deepspeed.optimizer.type": "Lion",
    }
    judgement = judge_answers(given, resolve(REGISTRY, given, EVERYTHING), tmp_path, REGISTRY)
    assert {problem.field: problem.message for problem in judgement.problems} == {
        "deepspeed.optimizer.type": LION_NEEDS_DEEPSPEED
    }
