"""The question model is sized for what is coming: the fifteen hardest questions of accelerate's graph, as data.

They are declared here, among the questions they hang on, and walked; the same answers are given to the installed
accelerate, in a process of its own since it imports torch, and both must ask, show and save the same.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import yaml

from simpletuner_tui.answers import write_answers
from simpletuner_tui.questions.accelerate import ACCELERATE
from simpletuner_tui.questions.accelerate.file import assemble
from simpletuner_tui.questions.conditions import AllOf, AnyOf, Is, MoreThan, Not, Probe
from simpletuner_tui.questions.model import Choice, Kind, Question, Sets, Typed, resolve
from simpletuner_tui.session import Session

PREFIX = "accelerate."
GIVEN = {question.id.removeprefix(PREFIX): question for question in ACCELERATE}
ROLE = "accelerate_sagemaker_execution_role"


def ask(name, kind, text, *sets, **rest) -> Question:
    return Question(PREFIX + name, kind, text, "accelerate", sets=sets, **rest)


def yes_no(name, text, when, *sets, default=False) -> Question:
    return ask(name, Kind.YES_NO, text, *sets, when=when, default=default)


def menu(name, text, rows, when, *sets) -> Question:
    """Rows are labels that are saved as they are, or label and value."""
    choices = tuple(Choice(*row) if isinstance(row, tuple) else Choice(row, row) for row in rows)
    return ask(name, Kind.MENU, text, *sets, choices=choices, default=choices[0].value, when=when)


def stop(name, text, *conditions) -> Question:
    return ask(name, Kind.STOP, text, when=AllOf(*conditions))


def note(name, text, when) -> Question:
    return ask(name, Kind.NOTE, text, when=when)


def is_(name, *values) -> Is:
    return Is(PREFIX + name, *values)


def split(text):
    return text.split(",")


def always(value):
    def stored(_):
        return value

    return stored


def home_expanded(path):
    return os.path.expanduser(path.strip())  # noqa: PTH111 - as accelerate does it


def states(context):
    """Which state dict types there are depends on FSDP's version."""
    names = ("FULL_STATE_DICT", "LOCAL_STATE_DICT", "SHARDED_STATE_DICT")
    return tuple(Choice(name, name) for name in (names if FSDP_1.holds(context) else (names[2], names[0])))


def ranks(context):
    return tuple(Choice(str(rank), rank) for rank in range(context.number("accelerate.num_machines", 1)))


def processes_text(context):
    if AnyOf(is_("use_deepspeed", True), FSDP).holds(context):
        return "How many GPU(s) should be used for distributed training? [1]:"
    return GIVEN["num_processes"].text_in(context)


def devices_text(context):
    """The first accelerator that is found."""
    found = [name for name in ("npu", "mlu", "sdaa", "musa", "xpu", "hpu") if Probe(name).holds(context)]
    unit = f"{found[0].upper()}(s)" if found else "Neuron cores" if Probe("neuron").holds(context) else "GPU(s)"
    return f"What {unit} (by id) should be used for training on this machine as a comma-separated list? [all]:"


AWS = is_("environment", "AMAZON_SAGEMAKER")
THIS_MACHINE = is_("environment", "LOCAL_MACHINE")
SEVERAL = MoreThan("accelerate.num_machines", 1)
MULTI_CPU, TPU = is_("machine", "MULTI_CPU"), is_("machine", "XLA")
DYNAMO = is_("use_dynamo", True)
FSDP, FSDP_1, FSDP_2 = is_("use_fsdp", True), is_("fsdp_version", 1), is_("fsdp_version", 2)
ON_GPUS = AllOf(
    THIS_MACHINE,
    Not(is_("machine", "MULTI_CPU", "XLA")),
    Not(AnyOf(is_("use_deepspeed", True), FSDP, is_("use_cpu", True))),
)
POD, COMMANDS = is_("tpu_cluster", True), is_("tpu_use_file", False)
FP8, TE = is_("mixed_precision", "fp8"), is_("fp8_backend", "TE")
KEYS, CREATE = is_("sm_auth", 1), is_("sm_role", 1)
DATA_PARALLEL = is_("sm_dist", "DATA_PARALLEL")
NO_PRECISION = AnyOf(TPU, is_("mixed_precision", "no"))
BACKENDS = (
    *("EAGER", "AOT_EAGER", "INDUCTOR", "AOT_TS_NVFUSER", "NVPRIMS_NVFUSER", "CUDAGRAPHS", "OFI", "FX2TRT", "ONNXRT"),
    *("TENSORRT", "AOT_TORCHXLA_TRACE_ONCE", "TORHCHXLA_TRACE_ONCE", "TVM"),
)
OVERRIDE = "fp8_config.override_linear_precision"

REGISTRY = (
    GIVEN["environment"],
    # Amazon SageMaker: secrets, a role by name or made, paths that accelerate lower-cases
    menu(
        "sm_auth",
        "How do you want to authorize?",
        (("AWS Profile", 0), ("Credentials (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) ", 1)),
        AWS,
    ),
    ask(
        "sm_profile",
        Kind.TEXT,
        "Enter your AWS Profile name: [default] ",
        Sets("profile"),
        default="default",
        when=is_("sm_auth", 0),
    ),
    note(
        "sm_note_keys",
        "Note you will need to provide AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY when you launch you training "
        "script with,`accelerate launch --aws_access_key_id XXX --aws_secret_access_key YYY`",
        KEYS,
    ),
    ask("sm_key", Kind.TEXT, "AWS Access Key ID: ", Sets("env.key"), secret=True, when=KEYS),
    ask("sm_secret", Kind.TEXT, "AWS Secret Access Key: ", Sets("env.secret"), secret=True, when=KEYS),
    menu(
        "sm_role",
        "Do you already have an IAM Role for executing Amazon SageMaker Training Jobs?",
        (("Provide IAM Role name", 0), ("Create new IAM role using credentials", 1)),
        AWS,
        Sets("iam_role_name", always(ROLE), when=CREATE),
    ),
    ask(
        "sm_role_name",
        Kind.TEXT,
        "Enter your IAM role name: ",
        Sets("iam_role_name"),
        when=is_("sm_role", 0),
    ),
    note("sm_note_role", f'Accelerate will create an iam role "{ROLE}" using the provided credentials', CREATE),
    stop("sm_stop_boto3", "name 'boto3' is not defined", CREATE, Not(Probe("boto3"))),
    yes_no("sm_metrics", "Do you want to enable SageMaker metrics? [yes/NO]: ", AWS),
    ask(
        "sm_metrics_file",
        Kind.PATH,
        "Enter the path to the SageMaker metrics TSV file with columns (metric_name, metric_regex): ",
        Sets("sagemaker_metrics_file", str.lower),
        when=is_("sm_metrics", True),
    ),
    menu(
        "sm_dist",
        "What is the distributed mode?",
        (("No distributed training", "NO"), ("Data parallelism", "DATA_PARALLEL")),
        AWS,
        Sets("distributed_type"),
    ),
    yes_no("sm_use_dynamo", GIVEN["use_dynamo"].text, AWS),
    menu(
        "sm_ec2_menu",
        "Which EC2 instance type you want to use for your training?",
        ("ml.p3.16xlarge", "ml.p3dn.24xlarge", "ml.p4dn.24xlarge"),
        DATA_PARALLEL,
        Sets("ec2_instance_type"),
    ),
    ask(
        "sm_ec2",
        Kind.TEXT,
        "Which EC2 instance type you want to use for your training?? [ml.p3.2xlarge]:",
        Sets("ec2_instance_type", str.lower),
        default="ml.p3.2xlarge",
        when=is_("sm_dist", "NO"),
    ),
    yes_no("sm_debug", GIVEN["debug"].text, DATA_PARALLEL, Sets("debug")),
    # this machine
    GIVEN["machine"],
    GIVEN["num_machines"],
    ask(
        "machine_rank",
        Kind.MENU,
        "What is the rank of this machine?",
        Sets("machine_rank"),
        choices=ranks,
        default=0,
        when=SEVERAL,
    ),
    ask(
        "main_process_port",
        Kind.INT,
        "What is the port you will use to communicate with the main process? ",
        Sets("main_process_port"),
        when=SEVERAL,
    ),
    GIVEN["debug"],
    GIVEN["use_cpu"],
    yes_no("use_mpirun", "Do you want accelerate to launch mpirun? [yes/NO]: ", MULTI_CPU),
    ask(
        "mpirun_hostfile",
        Kind.PATH,
        "Please enter the path to the hostfile to use with mpirun [~/hostfile]: ",
        Sets("mpirun_config.mpirun_hostfile", home_expanded),
        default="~/hostfile",
        when=is_("use_mpirun", True),
    ),
    GIVEN["use_dynamo"],
    ask(
        "dynamo_backend",
        Kind.MENU,
        "Which dynamo backend would you like to use?",
        Sets("dynamo_config.dynamo_backend"),
        choices=tuple(Choice(name.lower(), name) for name in BACKENDS),
        default="INDUCTOR",
        when=DYNAMO,
    ),
    stop(
        "stop_dynamo",
        "'TORHCHXLA_TRACE_ONCE' is not a valid DynamoBackend",
        is_("dynamo_backend", "TORHCHXLA_TRACE_ONCE"),
    ),
    # DeepSpeed takes the machine's place
    replace(
        GIVEN["use_deepspeed"], sets=(Sets("distributed_type", always("DEEPSPEED"), when=is_("use_deepspeed", True)),)
    ),
    stop(
        "stop_ds_neuron",
        "DeepSpeed is not supported on Neuron devices.",
        is_("use_deepspeed", True),
        is_("machine", "MULTI_NEURON"),
    ),
    *(
        question
        for name, question in GIVEN.items()
        if "deepspeed" in question.section.lower() and name != "use_deepspeed"
    ),
    # FSDP: two questions for one place, one answer in two places, choices by an earlier answer
    yes_no(
        "use_fsdp",
        "Do you want to use FullyShardedDataParallel? [yes/NO]: ",
        AllOf(THIS_MACHINE, Not(is_("machine", "NO", "MULTI_CPU", "XLA")), Not(is_("use_deepspeed", True))),
        Sets("distributed_type", always("FSDP"), when=FSDP),
    ),
    ask(
        "fsdp_version",
        Kind.MENU,
        "What should be your FSDP version? [2]: ",
        Sets("fsdp_config.fsdp_version"),
        choices=(Choice("1", 1), Choice("2", 2)),
        default=2,
        when=FSDP,
    ),
    menu(
        "sharding",
        "What should be your sharding strategy?",
        ("FULL_SHARD", "SHARD_GRAD_OP", "NO_SHARD", "HYBRID_SHARD", "HYBRID_SHARD_ZERO2"),
        FSDP_1,
        Sets("fsdp_config.fsdp_reshard_after_forward"),
    ),
    yes_no(
        "reshard",
        "Do you want to enable resharding after forward? [YES/no]: ",
        FSDP_2,
        Sets("fsdp_config.fsdp_reshard_after_forward"),
        default=True,
    ),
    ask(
        "fsdp_state",
        Kind.MENU,
        "What should be your FSDP's state dict type?",
        Sets("fsdp_config.fsdp_state_dict_type"),
        choices=states,
        default=lambda context: states(context)[0].value,
        when=FSDP,
    ),
    yes_no(
        "ram_eff",
        "Do you want to enable CPU RAM efficient model loading? Only applicable for 🤗 Transformers models. [YES/no]: ",
        FSDP,
        Sets("fsdp_config.fsdp_cpu_ram_efficient_loading"),
        Sets("fsdp_config.fsdp_sync_module_states", when=AllOf(FSDP_1, is_("ram_eff", True))),
        default=True,
    ),
    yes_no(
        "sync_states",
        "Do you want each individually wrapped FSDP unit to broadcast module parameters from rank 0 at the start? "
        "[YES/no]: ",
        AllOf(FSDP_1, is_("ram_eff", False)),
        Sets("fsdp_config.fsdp_sync_module_states"),
        default=True,
    ),
    # labels by earlier answers and by what is found on the machine
    replace(GIVEN["num_processes"], text=processes_text),
    stop(
        "stop_one_gpu",
        "Specified distributed type DistributedType.MULTI_GPU but only using 1 GPU on a single machine. Please select "
        "`No distributed training` for the type of machine you are using.",
        is_("machine", "MULTI_GPU"),
        is_("num_machines", 1),
        is_("num_processes", 1),
        Not(AnyOf(is_("use_deepspeed", True), FSDP)),
    ),
    ask("gpu_ids", Kind.TEXT, devices_text, Sets("gpu_ids"), default="all", when=ON_GPUS),
    # TPU: a repeat group, texts that become lists, a yes-no that accelerate keeps as text
    yes_no("tpu_cluster", "Are you using a TPU cluster? [yes/NO]: ", TPU, Sets("tpu_use_cluster")),
    ask(
        "tpu_sudo",
        Kind.TEXT,
        "To run a python script in a TPU pod, should `sudo` be used? [yes/NO]: ",
        Sets("tpu_use_sudo", lambda text: text or False),
        default="",
        when=POD,
    ),
    yes_no("tpu_run", "Do you have code you wish to run on startup in each pod? [yes/NO]: ", POD),
    yes_no("tpu_use_file", "Is this code located in a bash script? [yes/NO]: ", is_("tpu_run", True)),
    ask(
        "tpu_file",
        Kind.PATH,
        "What is the path to your bash script? ",
        Sets("command_file", os.path.abspath),
        when=is_("tpu_use_file", True),
    ),
    note("note_cmds", "Please enter each command separately you wish to run on startup in each pod.", COMMANDS),
    ask(
        "tpu_cmd",
        Kind.REPEAT,
        "Please enter a single command to be ran ",
        Sets("commands"),
        more="Do you wish to add another command? [yes/NO]: ",
        when=COMMANDS,
    ),
    ask(
        "tpu_env",
        Kind.TEXT,
        "What environment variables do you wish to set in each pod, separated by a comma: ",
        Sets("tpu_env", split),
        default="",
        when=POD,
    ),
    # FP8: nested, refused where its packages are missing, three answers in one list
    GIVEN["mixed_precision"],
    stop(
        "stop_fp8",
        "FP8 (either torchao, Transformer Engine or MSAMP) is not installed on this machine.",
        FP8,
        Not(Probe("fp8")),
    ),
    menu(
        "fp8_backend",
        "Which FP8 backend do you want to use?",
        (("ao", "AO"), ("te", "TE"), ("msamp", "MSAMP")),
        FP8,
        Sets("fp8_config.backend"),
    ),
    stop(
        "stop_te",
        "TransformersEngine was selected, but it is not installed on this machine.",
        TE,
        Not(Probe("transformer_engine")),
    ),
    ask(
        "te_margin",
        Kind.INT,
        "What margin should be used for gradient scaling? [0]: ",
        Sets("fp8_config.margin"),
        default=0,
        when=TE,
    ),
    yes_no(
        "te_override",
        "Do you want to execute `fprop`, `dgrad`, and `wgrad` GEMMS in higher precision? [yes/NO]: ",
        TE,
        Sets(OVERRIDE, always([False] * 3), when=is_("te_override", False)),
    ),
    *(
        yes_no(
            f"te_{name}",
            f"Should `{name}` be executed in higher precision? [yes/NO]: ",
            is_("te_override", True),
            Sets(OVERRIDE, item=item),
        )
        for item, name in enumerate(("fprop", "dgrad", "wgrad"))
    ),
    stop(
        "stop_msamp",
        "MSAMP was selected, but it is not installed on this machine.",
        is_("fp8_backend", "MSAMP"),
        Not(Probe("msamp")),
    ),
    stop(
        "stop_ao",
        "torchao was selected, but it is not installed on this machine.",
        is_("fp8_backend", "AO"),
        Not(Probe("torchao")),
    ),
    note(
        "note_tf32",
        "Torch dynamo used without mixed precision requires TF32 to be efficient. Accelerate will enable it by default "
        "when launching your scripts.",
        AllOf(DYNAMO, NO_PRECISION, Not(AnyOf(is_("use_cpu", True), MULTI_CPU))),
    ),
)

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
        {OVERRIDE: [False, False, False]},
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
WALK = pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.name)

REFERENCE = r"""
import builtins, json, sys
from accelerate.commands.config import cluster, config, config_utils, sagemaker

def run(typed, probes):
    shown, typed = [], [list(pair) for pair in typed]
    def take(text):
        return typed.pop(0)[1] if typed and typed[0][0] == text else None
    def field(text):
        shown.append({"text": text})
        return take(text) or ""
    class Menu:
        def __init__(self, text, options):
            self.text, self.labels = text, [str(option) for option in options]
        def run(self, default_choice=0):
            shown.append({"text": self.text, "labels": self.labels, "default": self.labels[default_choice]})
            label = take(self.text)
            return default_choice if label is None else self.labels.index(label)
    builtins.input, config_utils.BulletMenu = field, Menu
    for name in vars(cluster).copy():
        if name.startswith("is_") and name.endswith("_available"):
            setattr(cluster, name, lambda name=name: name[3:-10] in probes)
    cluster.print = sagemaker.print = lambda text: shown.append({"text": text})
    create = sagemaker._create_iam_role_for_sagemaker
    if "boto3" in probes:
        sagemaker._create_iam_role_for_sagemaker = lambda name: None
    try:
        content = config.get_user_input().to_dict()
    except (ValueError, AssertionError, NameError, RuntimeError) as error:
        content, _ = None, shown.append({"text": str(error)})
    sagemaker._create_iam_role_for_sagemaker = create
    return {"shown": shown, "file": content, "left": typed}

json.dump([run(typed, probes) for typed, probes in json.load(sys.stdin)], sys.stdout)
"""


@dataclass
class Walked:
    session: Session
    shown: list
    """What a person saw, as accelerate shows it."""
    typed: list
    """Text and answer of what was not left at its default, as accelerate takes it."""


def walk_through(walk: Walk) -> Walked:
    session = Session(REGISTRY, {}, dict.fromkeys(walk.probes, True))
    walked = Walked(session, [], [])
    while (question := session.current) is not None:
        context = session.resolved.context
        text, name = question.text_in(context), question.id.removeprefix(PREFIX)
        if question.kind is Kind.STOP:
            walked.shown.append({"text": text})
            break
        if question.kind is Kind.NOTE:
            walked.shown.append({"text": text})
            session.next()
            continue
        shown = {"text": text}
        if question.kind is Kind.MENU:
            rows = question.choices_in(context)
            shown |= {"labels": [row.label for row in rows], "default": session.default_text()}
        walked.shown.append(shown)
        answer = walk.typed.get(name)
        if answer is None:
            session.accept_default()
        elif isinstance(answer, list):
            session.answer(answer)
            for number, item in enumerate(answer, start=1):
                walked.typed += [(text, item), (question.more, "yes" if number < len(answer) else "no")]
                walked.shown += [{"text": question.more}] + ([shown] if number < len(answer) else [])
        else:
            session.answer(Typed(answer))
            value = session.resolved.values[question.id]
            label = next((row.label for row in question.choices_in(context) if row.value == value), None)
            walked.typed.append((text, answer if label is None else label))
    return walked


@pytest.fixture(scope="module")
def walks() -> dict[str, Walked]:
    return {walk.name: walk_through(walk) for walk in WALKS}


@pytest.fixture(scope="module")
def reference(walks):
    """What the installed accelerate shows and saves for the same answers."""
    scripts = [(walks[walk.name].typed, sorted(walk.probes)) for walk in WALKS]
    done = subprocess.run(
        [sys.executable, "-c", REFERENCE], input=json.dumps(scripts), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(zip([walk.name for walk in WALKS], json.loads(done.stdout), strict=True))


def leaves(content, prefix=""):
    for key, value in content.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@WALK
def test_a_walk_asks_and_shows_what_accelerate_does(walk, walks, reference):
    declared = {shown["text"] for walked in walks.values() for shown in walked.shown}
    theirs = [shown for shown in reference[walk.name]["shown"] if shown["text"] in declared]
    assert walks[walk.name].shown == theirs
    assert reference[walk.name]["left"] == []


@WALK
def test_a_walk_saves_what_accelerate_does(walk, walks, reference):
    stored = dict(leaves(assemble(walks[walk.name].session.resolved, PREFIX)))
    if walk.stop:
        assert reference[walk.name]["file"] is None
        return
    assert walk.saved.items() <= stored.items()
    theirs = dict(leaves(reference[walk.name]["file"]))
    assert stored == {path: theirs.get(path) for path in stored}
    yaml.safe_dump(stored)  # a file can be made of it


@WALK
def test_a_stop_ends_the_walk_and_only_a_stop_does(walk, walks):
    session = walks[walk.name].session
    if not walk.stop:
        assert session.current is None
        assert session.resolved.stop is None
        assert not session.resolved.faults
        return
    assert session.current.id == PREFIX + walk.stop
    assert session.resolved.stop is session.resolved.asked[-1] is session.current
    with pytest.raises(LookupError):
        session.answer(Typed("yes"))
    with pytest.raises(LookupError):
        session.accept_default()
    session.next()
    assert session.current.id == PREFIX + walk.stop


@WALK
def test_a_walk_back_meets_every_question_again_with_its_answer(walk):
    session = walk_through(walk).session
    asked = [question.id for question in session.resolved.asked if question.asks]
    values = dict(session.resolved.values)
    back = []
    while session.back():
        back.append(session.current.id)
    assert back == asked[::-1]
    session.skip_to_open_question()
    assert session.resolved.values == values
    assert (session.current is None) is (not walk.stop)


@WALK
def test_a_walk_replays_from_its_file(walk, walks, tmp_path):
    resolved = walks[walk.name].session.resolved
    answers = json.loads(write_answers(resolved, tmp_path, tmp_path))["answers"]
    secrets = {"accelerate.sm_key": "other", "accelerate.sm_secret": "other"}
    again = resolve(REGISTRY, {**answers, **secrets}, resolved.probes)
    assert not again.faults
    assert assemble(again, PREFIX) == assemble(resolved, PREFIX)


def test_the_walks_meet_all_fifteen_and_everything_around_them(walks):
    met = {question.id.removeprefix(PREFIX) for walked in walks.values() for question in walked.session.resolved.asked}
    assert len(HARDEST) == 15
    assert met >= HARDEST
    plain = {"ds_json", "optimizer_nvme", "moe", "ds_launcher"}  # DeepSpeed's easy ones
    assert met == {question.id.removeprefix(PREFIX) for question in REGISTRY} - plain


def test_notes_are_shown_and_want_no_answer(walks):
    session = walks["SageMaker with credentials"].session
    notes = [question for question in session.resolved.asked if question.kind is Kind.NOTE]
    assert [question.id for question in notes] == ["accelerate.sm_note_keys", "accelerate.sm_note_role"]
    assert not {question.id for question in notes} & (set(session.resolved.values) | set(session.resolved.faults))


def test_a_secret_is_in_no_file_and_shown_to_nobody(walks, tmp_path):
    session = walk_through(next(walk for walk in WALKS if walk.name == "SageMaker with credentials")).session
    assert session.answers["accelerate.sm_secret"] == "s3cret-not-saved"
    files = (
        json.dumps(assemble(session.resolved, PREFIX)) + write_answers(session.resolved, tmp_path, tmp_path).decode()
    )
    assert "not-saved" not in files
    assert "sm_role" in files
    session.go_to("accelerate.sm_secret")
    assert session.default_text() == "***"
    session.accept_default()
    assert session.answers["accelerate.sm_secret"] == "s3cret-not-saved"


def test_a_choice_that_is_gone_is_asked_again_and_what_was_left_is_remembered():
    session = walk_through(next(walk for walk in WALKS if walk.name == "FSDP 1, loaded on one rank")).session
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
    assert assemble(session.resolved, PREFIX)["fsdp_config"] == {
        "fsdp_version": 2,
        "fsdp_reshard_after_forward": True,
        "fsdp_state_dict_type": "SHARDED_STATE_DICT",
        "fsdp_cpu_ram_efficient_loading": True,
    }
    session.go_to("accelerate.fsdp_version")
    session.answer(Typed("1"))
    session.skip_to_open_question()
    assert session.current is None
    assert session.resolved.values["accelerate.sharding"] == "SHARD_GRAD_OP"


def test_fewer_machines_ask_for_the_rank_again():
    session = walk_through(next(walk for walk in WALKS if walk.name == "the third of three machines")).session
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
    session = walk_through(next(walk for walk in WALKS if walk.name == "multi-GPU with one GPU")).session
    assert session.back()
    assert session.current.id == "accelerate.num_processes"
    session.answer(Typed("2"))
    session.skip_to_open_question()
    assert session.current is None
    assert session.resolved.stop is None


def test_the_registry_prints_as_json():
    printed = {entry["id"]: entry for entry in json.loads(json.dumps([question.to_json() for question in REGISTRY]))}
    assert list(printed) == [question.id for question in REGISTRY]
    assert printed["accelerate.sm_secret"]["secret"] is True
    assert printed["accelerate.fsdp_state"]["choices"] == "computed: states"
    assert printed["accelerate.gpu_ids"]["text"] == "computed: devices_text"
    assert printed["accelerate.te_margin"]["default"] == 0
    assert printed["accelerate.te_override"]["default"] is False
    assert "default" not in printed["accelerate.sm_key"]
    assert printed["accelerate.tpu_cmd"]["more"] == "Do you wish to add another command? [yes/NO]: "
    assert printed["accelerate.stop_te"]["when"] == {
        "all": [{"question": "accelerate.fp8_backend", "is": ["TE"]}, {"not": {"probe": "transformer_engine"}}]
    }
