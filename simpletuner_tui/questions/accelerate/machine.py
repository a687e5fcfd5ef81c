"""Which machine, how many of them, and whether torch compiles; texts of accelerate 1.15.0."""

import os

from launcher.config.accelerate import BACKENDS_NOT_LAUNCHED, NOT_LAUNCHED
from simpletuner_tui.questions.accelerate.common import (
    AWS,
    DYNAMO,
    MULTI,
    MULTI_CPU,
    THIS_MACHINE,
    TPU,
    Section,
    answer,
    needed,
)
from simpletuner_tui.questions.conditions import AllOf, Answer, Context, MoreThan
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Choice, Sets

ask = Section("accelerate")

MACHINES = {
    "No distributed training": "NO",
    "multi-CPU": "MULTI_CPU",
    "multi-XPU": "MULTI_XPU",
    "multi-HPU": "MULTI_HPU",
    "multi-GPU": "MULTI_GPU",
    "multi-NPU": "MULTI_NPU",
    "multi-MLU": "MULTI_MLU",
    "multi-SDAA": "MULTI_SDAA",
    "multi-MUSA": "MULTI_MUSA",
    "multi-NEURON": "MULTI_NEURON",
    "TPU": "XLA",
}
BACKENDS = (
    *("EAGER", "AOT_EAGER", "INDUCTOR", "AOT_TS_NVFUSER", "NVPRIMS_NVFUSER", "CUDAGRAPHS", "OFI", "FX2TRT", "ONNXRT"),
    *("TENSORRT", "AOT_TORCHXLA_TRACE_ONCE", "TORHCHXLA_TRACE_ONCE", "TVM"),
)
MODES = ("default", "reduce-overhead", "max-autotune")

SEVERAL_MACHINES = MoreThan("accelerate.num_machines", 1)
CUSTOM = answer("dynamo_custom", True)

MOST_MACHINES = 1024
"""accelerate has no bound, and lists a rank for each."""


def machine_count(given: Answer, _: Context) -> None:
    """Refuses no machines at all, which accelerate saves and then divides by."""
    if isinstance(given, int) and not 1 <= given <= MOST_MACHINES:
        raise ValueError(f"must be from 1 to {MOST_MACHINES}")


def port(given: Answer, _: Context) -> None:
    """Refuses what is no port: every machine has to meet at the same one, so 0 for a free one is none."""
    if isinstance(given, int) and not 1 <= given <= 65535:
        raise ValueError("must be a port, from 1 to 65535")


def ranks(context: Context) -> tuple[Choice, ...]:
    """A rank for each machine."""
    return tuple(Choice(str(rank), rank) for rank in range(context.number("accelerate.num_machines", 1)))


def home_expanded(path: str) -> str:
    """As accelerate stores the hostfile."""
    return os.path.expanduser(path.strip())  # noqa: PTH111 - Path's own raises for ~nobody


DEBUG = (
    "Should distributed operations be checked while running for errors? This can avoid timeout issues but will be "
    "slower. [yes/NO]: "
)
USE_DYNAMO = "Do you wish to optimize your script with torch dynamo?[yes/NO]:"

ENVIRONMENT = (
    ask.menu(
        "environment",
        "In which compute environment are you running?",
        (
            Choice("This machine", "LOCAL_MACHINE"),
            Choice("AWS (Amazon SageMaker)", "AMAZON_SAGEMAKER", NOT_LAUNCHED["AMAZON_SAGEMAKER"]),
        ),
        "compute_environment",
        help="This machine, or one you log in to. Amazon SageMaker rents one for each training.",
    ),
)

MACHINE = (
    ask.menu(
        "machine",
        "Which type of machine are you using?",
        (
            Choice(label, value, "" if value == "MULTI_GPU" else NOT_LAUNCHED.get(value, ""))
            for label, value in MACHINES.items()
        ),
        "distributed_type",
        Sets("use_cpu", constant=True, when=MULTI_CPU),
        Sets("mixed_precision", constant="no", when=TPU),
        when=THIS_MACHINE,
        help="One GPU is 'No distributed training', with or without DeepSpeed; several GPUs are 'multi-GPU'.",
    ),
    ask.number(
        "num_machines",
        "How many different machines will you use (use more than 1 for multi-node training)? [1]: ",
        "num_machines",
        default=1,
        when=MULTI,
        check=machine_count,
        help="1 for one computer, however many GPUs it has.",
    ),
    ask.ask(
        "machine_rank",
        Kind.MENU,
        "What is the rank of this machine?",
        "machine_rank",
        choices=ranks,
        default=0,
        when=SEVERAL_MACHINES,
        help="Its number among the machines, from 0; 0 hosts the main process.",
    ),
    ask.text(
        "main_process_ip",
        "What is the IP address of the machine that will host the main process? ",
        "main_process_ip",
        when=SEVERAL_MACHINES,
        check=needed,
        help="Of the machine with rank 0, as the others reach it.",
    ),
    ask.number(
        "main_process_port",
        "What is the port you will use to communicate with the main process? ",
        "main_process_port",
        when=SEVERAL_MACHINES,
        check=port,
        help="Any free port that the machines' firewalls let through, such as 29500.",
    ),
    ask.yes_no(
        "same_network",
        "Are all the machines on the same local network? Answer `no` if nodes are on the cloud and/or on different "
        "network hosts [YES/no]: ",
        "same_network",
        default=True,
        when=SEVERAL_MACHINES,
    ),
    ask.text(
        "rdzv_backend",
        "What rendezvous backend will you use? ('static', 'c10d', ...): ",
        "rdzv_backend",
        default="static",
        when=answer("same_network", False),
        check=needed,
        help="How the machines find each other: static by address and port, c10d by a store on the main machine.",
    ),
    ask.yes_no(
        "debug",
        DEBUG,
        "debug",
        when=MULTI,
        help="Compares the shapes that processes send each other; for finding a hang, not for training.",
    ),
    ask.yes_no(
        "use_cpu",
        "Do you want to run your training on CPU only (even if a GPU / Apple Silicon / Ascend NPU device is "
        "available)? [yes/NO]:",
        "use_cpu",
        when=answer("machine", "NO"),
        help="For trying things out without a GPU; SDXL itself takes hours a step on a CPU.",
    ),
    ask.yes_no(
        "use_mpirun",
        "Do you want accelerate to launch mpirun? [yes/NO]: ",
        when=MULTI_CPU,
        choices=(Choice("yes", True, NOT_LAUNCHED["mpirun"]), Choice("no", False)),
        help="Without it `accelerate launch` starts one process only, however many are asked for; a launch from here "
        "starts them all.",
    ),
    ask.path(
        "mpirun_hostfile",
        "Please enter the path to the hostfile to use with mpirun [~/hostfile]: ",
        Sets("mpirun_config.mpirun_hostfile", home_expanded),
        default="~/hostfile",
        when=answer("use_mpirun", True),
        help="One host a line.",
    ),
    ask.yes_no(
        "use_dynamo",
        USE_DYNAMO,
        when=THIS_MACHINE,
        help="torch.compile: traces the model and generates faster code for it, after minutes of compiling.",
    ),
)

DYNAMO_PLUGIN = (
    ask.menu(
        "dynamo_backend",
        "Which dynamo backend would you like to use?",
        (Choice(name.lower(), name, BACKENDS_NOT_LAUNCHED.get(name, "")) for name in BACKENDS),
        "dynamo_config.dynamo_backend",
        default="INDUCTOR",
        when=DYNAMO,
        help="What turns the traced model into code. inductor, the default, writes GPU kernels with Triton; eager "
        "only traces, for finding faults.",
    ),
    ask.stop(
        "stop_dynamo",
        "'TORHCHXLA_TRACE_ONCE' is not a valid DynamoBackend",
        answer("dynamo_backend", "TORHCHXLA_TRACE_ONCE"),
        reason="accelerate 1.15.0 misspells this backend and fails on it; choose another",
    ),
    ask.yes_no(
        "dynamo_custom",
        "Do you want to customize the defaults sent to torch.compile? [yes/NO]: ",
        when=DYNAMO,
    ),
    ask.menu(
        "dynamo_mode",
        "Which mode do you want to use?",
        MODES,
        "dynamo_config.dynamo_mode",
        when=AllOf(THIS_MACHINE, CUSTOM),
        help="reduce-overhead records CUDA graphs; max-autotune also tries out kernels, which takes long.",
    ),
    ask.menu(
        "sm_dynamo_mode",
        "Which mode do you want to use?",
        MODES,
        "dynamo_config.dynamo_mode",
        when=AllOf(AWS, CUSTOM),
        help="accelerate 1.15.0 itself fails at this question; the file is the one it would write.",
    ),
    ask.yes_no(
        "dynamo_use_fullgraph",
        "Do you want the fullgraph mode or it is ok to break model into several subgraphs? [yes/NO]: ",
        "dynamo_config.dynamo_use_fullgraph",
        when=CUSTOM,
        help="Yes refuses a model that does not compile in one piece.",
    ),
    ask.yes_no(
        "dynamo_use_dynamic",
        "Do you want to enable dynamic shape tracing? [yes/NO]: ",
        "dynamo_config.dynamo_use_dynamic",
        when=CUSTOM,
        help="Compiles once for all shapes instead of once for each.",
    ),
    ask.yes_no(
        "dynamo_use_regional_compilation",
        "Do you want to enable regional compilation? [yes/NO]: ",
        "dynamo_config.dynamo_use_regional_compilation",
        when=CUSTOM,
        help="Compiles a block that repeats once and uses it everywhere: less waiting.",
    ),
)
