"""The fifteen hardest questions of accelerate's graph, among the questions they hang on: shown, saved and walked.

The same answers are given to the installed accelerate, and both must ask, show and save the same.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from harness.accelerate_walks import Walked, accelerate_walks, difference, walk
from simpletuner_tui.answers import write_answers
from simpletuner_tui.questions.accelerate import ACCELERATE
from simpletuner_tui.questions.accelerate.common import PREFIX
from simpletuner_tui.questions.accelerate.file import accelerate_file
from simpletuner_tui.questions.accelerate.precision import OVERRIDE
from simpletuner_tui.questions.accelerate.sagemaker import ROLE
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Typed
from simpletuner_tui.questions.resolving import resolve

HARDEST = {
    *("sm_secret", "sm_role", "sm_metrics_file", "machine_rank", "mpirun_hostfile", "dynamo_backend", "sharding"),
    *("fsdp_state", "ram_eff", "num_processes", "gpu_ids", "tpu_cmd", "tpu_env", "fp8_backend", "te_override"),
}


@dataclass(frozen=True)
class Walk:
    """What a person types, by name; Enter everywhere else."""

    name: str
    typed: dict
    probes: frozenset = frozenset({"deepspeed", "transformers"})
    saved: dict = field(default_factory=dict)
    """Some of what is saved then, by path."""
    stop: str = ""


def found(*names):
    return frozenset({"deepspeed", "transformers", *names})


WALKS = (
    Walk("Enter everywhere", {}, saved={"compute_environment": "LOCAL_MACHINE", "gpu_ids": "all"}),
    Walk(
        "the third of three machines",
        {
            "machine": "multi-XPU",
            "num_machines": "3",
            "machine_rank": "2",
            "main_process_port": "29500",
            "num_processes": "6",
            "gpu_ids": "0,1",
        },
        found("xpu", "hpu"),
        {"machine_rank": 2, "num_machines": 3, "num_processes": 6, "gpu_ids": "0,1", "main_process_port": 29500},
    ),
    Walk("several Neuron machines without FSDP", {"machine": "multi-NEURON"}, found("neuron")),
    Walk(
        "mpirun",
        {"machine": "multi-CPU", "use_mpirun": "yes", "mpirun_hostfile": "~/hosts ", "use_dynamo": "yes"},
        saved={"mpirun_config.mpirun_hostfile": str(Path("~/hosts").expanduser()), "num_processes": 1},
    ),
    Walk("mpirun's default hostfile", {"machine": "multi-CPU", "use_mpirun": "yes"}),
    Walk(
        "a backend that accelerate misspelt",
        {"use_dynamo": "yes", "dynamo_backend": "torhchxla_trace_once"},
        stop="stop_dynamo",
    ),
    Walk("dynamo without mixed precision", {"use_dynamo": "yes"}, saved={"dynamo_config.dynamo_backend": "INDUCTOR"}),
    Walk("dynamo with mixed precision", {"use_dynamo": "yes", "dynamo_backend": "tvm", "mixed_precision": "bf16"}),
    Walk(
        "FSDP 1, loaded on one rank",
        {
            "machine": "multi-GPU",
            "use_fsdp": "yes",
            "fsdp_version": "1",
            "sharding": "SHARD_GRAD_OP",
            "fsdp_state": "LOCAL_STATE_DICT",
        },
        saved={
            "distributed_type": "FSDP",
            "fsdp_config.fsdp_reshard_after_forward": "SHARD_GRAD_OP",
            "fsdp_config.fsdp_state_dict_type": "LOCAL_STATE_DICT",
            "fsdp_config.fsdp_sync_module_states": True,
        },
    ),
    Walk(
        "FSDP 1, loaded on every rank",
        {"machine": "multi-NPU", "use_fsdp": "yes", "fsdp_version": "1", "ram_eff": "no", "sync_states": "no"},
        saved={
            "fsdp_config.fsdp_state_dict_type": "FULL_STATE_DICT",
            "fsdp_config.fsdp_cpu_ram_efficient_loading": False,
            "fsdp_config.fsdp_sync_module_states": False,
        },
    ),
    Walk(
        "FSDP 2",
        {"machine": "multi-GPU", "use_fsdp": "yes", "reshard": "no"},
        saved={
            "fsdp_config.fsdp_version": 2,
            "fsdp_config.fsdp_reshard_after_forward": False,
            "fsdp_config.fsdp_state_dict_type": "SHARDED_STATE_DICT",
        },
    ),
    Walk("multi-GPU with one GPU", {"machine": "multi-GPU"}, stop="stop_one_gpu"),
    Walk("two GPUs", {"machine": "multi-GPU", "num_processes": "2", "gpu_ids": " 0,1"}, saved={"gpu_ids": " 0,1"}),
    Walk("DeepSpeed that is missing", {"use_deepspeed": "yes"}, frozenset(), stop="stop_ds_missing"),
    Walk("DeepSpeed on Neuron", {"machine": "multi-NEURON", "use_deepspeed": "yes"}, stop="stop_ds_neuron"),
    Walk(
        "DeepSpeed",
        {"use_deepspeed": "yes", "zero_stage": "3", "offload_param": "nvme", "use_clip": "yes", "mixed_precision": "2"},
        saved={
            "distributed_type": "DEEPSPEED",
            "deepspeed_config.zero_stage": 3,
            "deepspeed_config.offload_param_nvme_path": "/nvme",
            "deepspeed_config.gradient_clipping": 1.0,
            "mixed_precision": "fp16",
        },
    ),
    Walk(
        "TPU pod with commands",
        {
            "machine": "TPU",
            "use_dynamo": "yes",
            "tpu_cluster": "yes",
            "tpu_sudo": "no",
            "tpu_run": "yes",
            "tpu_cmd": ["apt update", "pip install x, y"],
            "tpu_env": "A=1, B=2",
        },
        saved={
            "commands": ["apt update", "pip install x, y"],
            "tpu_env": ["A=1", " B=2"],
            "tpu_use_sudo": "no",
            "tpu_use_cluster": True,
        },
    ),
    Walk(
        "TPU pod with a script",
        {"machine": "TPU", "tpu_cluster": "yes", "tpu_run": "yes", "tpu_use_file": "yes", "tpu_file": "start.sh"},
        saved={"command_file": str(Path("start.sh").absolute()), "tpu_env": [""], "tpu_use_sudo": False},
    ),
    Walk("FP8 that is missing", {"mixed_precision": "fp8"}, stop="stop_fp8"),
    Walk(
        "FP8 of another package",
        {"mixed_precision": "fp8", "fp8_backend": "te"},
        found("fp8", "torchao"),
        stop="stop_te",
    ),
    Walk("FP8 by a missing MS-AMP", {"mixed_precision": "fp8", "fp8_backend": "3"}, found("fp8"), stop="stop_msamp"),
    Walk("FP8 by a missing torchao", {"mixed_precision": "fp8"}, found("fp8"), stop="stop_ao"),
    Walk(
        "FP8, two of three overridden",
        {
            "mixed_precision": "fp8",
            "fp8_backend": "te",
            "te_margin": "2",
            "te_override": "yes",
            "te_fprop": "yes",
            "te_wgrad": "yes",
        },
        found("fp8", "transformer_engine"),
        {"fp8_config.backend": "TE", "fp8_config.margin": 2, OVERRIDE: [True, False, True]},
    ),
    Walk(
        "FP8, none overridden",
        {"mixed_precision": "fp8", "fp8_backend": "te"},
        found("fp8", "transformer_engine"),
        {OVERRIDE: (False, False, False)},
    ),
    Walk(
        "SageMaker with credentials",
        {
            "environment": "AWS (Amazon SageMaker)",
            "sm_auth": "2",
            "sm_key": "AKIA-not-saved",
            "sm_secret": "s3cret-not-saved",
            "sm_role": "2",
            "sm_metrics": "yes",
            "sm_metrics_file": "/Data/Metrics.TSV",
            "sm_dist": "Data parallelism",
            "sm_ec2_menu": "ml.p4dn.24xlarge",
        },
        found("boto3"),
        {
            "iam_role_name": ROLE,
            "sagemaker_metrics_file": "/data/metrics.tsv",
            "distributed_type": "DATA_PARALLEL",
            "ec2_instance_type": "ml.p4dn.24xlarge",
        },
    ),
    Walk(
        "SageMaker with a profile",
        {"environment": "AWS (Amazon SageMaker)", "sm_role_name": "mine", "sm_ec2": "ML.G5.XLARGE"},
        saved={"profile": "default", "iam_role_name": "mine", "ec2_instance_type": "ml.g5.xlarge"},
    ),
    Walk(
        "SageMaker without boto3",
        {"environment": "AWS (Amazon SageMaker)", "sm_role": "Create new IAM role using credentials"},
        stop="sm_stop_boto3",
    ),
)
WALK = pytest.mark.parametrize("hard", WALKS, ids=lambda hard: hard.name)


def walked(name: str) -> Walked:
    """A new walk of that name."""
    hard = next(hard for hard in WALKS if hard.name == name)
    return walk(hard.typed, hard.probes)


@pytest.fixture(scope="module")
def walks() -> dict[str, Walked]:
    return {hard.name: walk(hard.typed, hard.probes) for hard in WALKS}


@pytest.fixture(scope="module")
def reference(walks) -> dict[str, dict]:
    """What the installed accelerate shows and saves for the same answers."""
    return dict(zip(walks, accelerate_walks(list(walks.values()))["walks"], strict=True))


def leaves(content, prefix=""):
    for key, value in content.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@WALK
def test_a_walk_asks_shows_and_saves_what_accelerate_does(hard, walks, reference):
    assert difference(walks[hard.name], reference[hard.name]) == ""
    if not hard.stop:
        stored = accelerate_file(walks[hard.name].session.resolved)
        assert hard.saved.items() <= dict(leaves(stored)).items()
        yaml.safe_dump(stored)  # a file can be made of it


@WALK
def test_a_stop_ends_the_walk_and_only_a_stop_does(hard, walks):
    session = walks[hard.name].session
    if not hard.stop:
        assert session.current is None
        assert session.resolved.stop is None
        assert not session.resolved.faults
        return
    assert session.current.id == PREFIX + hard.stop
    assert session.resolved.stop is session.resolved.asked[-1] is session.current
    with pytest.raises(LookupError):
        session.answer(Typed("yes"))
    with pytest.raises(LookupError):
        session.accept_default()
    session.next()
    assert session.current.id == PREFIX + hard.stop


@WALK
def test_a_walk_back_meets_every_question_again_with_its_answer(hard):
    session = walk(hard.typed, hard.probes).session
    asked = [question.id for question in session.resolved.asked if question.asks]
    values = dict(session.resolved.values)
    back = []
    while session.back():
        back.append(session.current.id)
    assert back == asked[::-1]
    session.skip_to_open_question()
    assert session.resolved.values == values
    assert (session.current is None) is (not hard.stop)


@WALK
def test_a_walk_replays_from_its_file(hard, walks, tmp_path):
    resolved = walks[hard.name].session.resolved
    answers = json.loads(write_answers(resolved, tmp_path, tmp_path))["answers"]
    again = resolve(ACCELERATE, answers, resolved.probes)
    assert not again.faults
    assert accelerate_file(again) == accelerate_file(resolved)


def test_the_walks_meet_all_fifteen(walks):
    met = {question.id.removeprefix(PREFIX) for walked in walks.values() for question in walked.session.resolved.asked}
    assert len(HARDEST) == 15
    assert met >= HARDEST


def test_notes_are_shown_and_want_no_answer(walks):
    session = walks["SageMaker with credentials"].session
    notes = [question for question in session.resolved.asked if question.kind is Kind.NOTE]
    assert [question.id for question in notes] == ["accelerate.sm_note_keys", "accelerate.sm_note_role"]
    assert not {question.id for question in notes} & (set(session.resolved.values) | set(session.resolved.faults))


def test_a_secret_is_in_no_file_and_shown_to_nobody(tmp_path):
    session = walked("SageMaker with credentials").session
    assert session.answers["accelerate.sm_secret"] == "s3cret-not-saved"
    files = json.dumps(accelerate_file(session.resolved)) + write_answers(session.resolved, tmp_path, tmp_path).decode()
    assert "not-saved" not in files
    assert "sm_role" in files
    session.go_to("accelerate.sm_secret")
    assert session.default_text() == "***"
    session.accept_default()
    assert session.answers["accelerate.sm_secret"] == "s3cret-not-saved"


def test_a_choice_that_is_gone_is_asked_again_and_what_was_left_is_remembered():
    session = walked("FSDP 1, loaded on one rank").session
    session.go_to("accelerate.fsdp_version")
    session.answer(Typed("2"))
    session.skip_to_open_question()
    assert session.current.id == "accelerate.fsdp_state"  # LOCAL_STATE_DICT is FSDP 1's alone
    assert session.default_text() is None
    with pytest.raises(ValueError, match="an answer is needed"):
        session.accept_default()
    session.answer(Typed("1"))
    session.skip_to_open_question()
    assert session.current is None
    saved = accelerate_file(session.resolved)["fsdp_config"]
    assert (saved["fsdp_version"], saved["fsdp_state_dict_type"]) == (2, "SHARDED_STATE_DICT")
    assert saved["fsdp_reshard_after_forward"] is True
    assert "fsdp_sync_module_states" not in saved  # of FSDP 1 alone
    session.go_to("accelerate.fsdp_version")
    session.answer(Typed("1"))
    session.skip_to_open_question()
    assert session.current is None
    assert session.resolved.values["accelerate.sharding"] == "SHARD_GRAD_OP"


def test_fewer_machines_ask_for_the_rank_again():
    session = walked("the third of three machines").session
    session.go_to("accelerate.num_machines")
    session.answer(Typed("2"))
    assert "must be one of 0, 1, not 2" in session.resolved.faults["accelerate.machine_rank"]
    assert session.current.id == "accelerate.machine_rank"
    with pytest.raises(ValueError, match="one of 0, 1"):
        session.answer(Typed("2"))
    session.answer(Typed("1"))
    assert session.resolved.values["accelerate.machine_rank"] == 1
    assert not session.resolved.faults


def test_going_back_from_a_stop_leads_on():
    session = walked("multi-GPU with one GPU").session
    assert session.back()
    assert session.current.id == "accelerate.num_processes"
    session.answer(Typed("2"))
    session.skip_to_open_question()
    assert session.current is None
    assert session.resolved.stop is None


def test_the_registry_prints_as_json():
    printed = {entry["id"]: entry for entry in json.loads(json.dumps([question.to_json() for question in ACCELERATE]))}
    assert list(printed) == [question.id for question in ACCELERATE]
    assert printed["accelerate.sm_secret"]["secret"] is True
    assert printed["accelerate.fsdp_state"]["choices"] == "computed: states"
    assert printed["accelerate.gpu_ids"]["text"] == "computed: devices_text"
    assert printed["accelerate.te_margin"]["default"] == 0
    assert printed["accelerate.te_override"]["default"] is False
    assert "default" not in printed["accelerate.main_process_ip"]
    assert printed["accelerate.tpu_cmd"]["more"] == "Do you wish to add another command? [yes/NO]: "
    assert printed["accelerate.stop_te"]["when"] == {
        "all": [{"question": "accelerate.fp8_backend", "is": ["TE"]}, {"not": {"probe": "transformer_engine"}}]
    }
