"""Which machine, how many processes, which precision; texts of accelerate 1.15.0."""

from simpletuner_tui.questions.conditions import AllOf, Answer, AnyOf, Context, Is, Not
from simpletuner_tui.questions.model import Choice, Kind, Question, Sets

SECTION = "accelerate"
THIS_MACHINE = Is("accelerate.environment", "LOCAL_MACHINE")
NO_DISTRIBUTED = Is("accelerate.machine", "NO")
MULTI = AllOf(THIS_MACHINE, Not(Is("accelerate.machine", "NO", "XLA")))
DEEPSPEED = Is("accelerate.use_deepspeed", True)

UNITS = {
    "MULTI_CPU": "processes",
    "MULTI_XPU": "XPU(s)",
    "MULTI_HPU": "HPU(s)",
    "MULTI_GPU": "GPU(s)",
    "MULTI_NPU": "NPU(s)",
    "MULTI_MLU": "MLU(s)",
    "MULTI_SDAA": "SDAA(s)",
    "MULTI_MUSA": "MUSA(s)",
    "MULTI_NEURON": "NEURON cores",
    "XLA": "XLA(s)",
}


def at_least_one(answer: Answer, _: Context) -> None:
    """Refuses counts below one, which accelerate saves and then fails on."""
    if isinstance(answer, int) and answer < 1:
        raise ValueError("must be at least 1")


def processes_text(context: Context) -> str:
    """accelerate's wording, with the unit of the machine; DeepSpeed always counts GPUs."""
    unit = "GPU(s)" if DEEPSPEED.holds(context) else UNITS.get(str(context.values.get("accelerate.machine")), "GPU(s)")
    return f"How many {unit} should be used for distributed training? [1]:"


MACHINE = (
    Question(
        "accelerate.environment",
        Kind.MENU,
        "In which compute environment are you running?",
        SECTION,
        choices=(Choice("This machine", "LOCAL_MACHINE"), Choice("AWS (Amazon SageMaker)", "AMAZON_SAGEMAKER")),
        default="LOCAL_MACHINE",
        sets=(Sets("compute_environment"),),
        help="Runs are launched on this machine; a SageMaker file can be saved, not launched.",
    ),
    Question(
        "accelerate.machine",
        Kind.MENU,
        "Which type of machine are you using?",
        SECTION,
        choices=(
            Choice("No distributed training", "NO"),
            Choice("multi-CPU", "MULTI_CPU"),
            Choice("multi-XPU", "MULTI_XPU"),
            Choice("multi-HPU", "MULTI_HPU"),
            Choice("multi-GPU", "MULTI_GPU"),
            Choice("multi-NPU", "MULTI_NPU"),
            Choice("multi-MLU", "MULTI_MLU"),
            Choice("multi-SDAA", "MULTI_SDAA"),
            Choice("multi-MUSA", "MULTI_MUSA"),
            Choice("multi-NEURON", "MULTI_NEURON"),
            Choice("TPU", "XLA"),
        ),
        default="NO",
        when=THIS_MACHINE,
        sets=(Sets("distributed_type"),),
        help="One GPU with DeepSpeed is 'No distributed training'; several GPUs are 'multi-GPU'.",
    ),
    Question(
        "accelerate.num_machines",
        Kind.INT,
        "How many different machines will you use (use more than 1 for multi-node training)? [1]: ",
        SECTION,
        default=1,
        when=MULTI,
        sets=(Sets("num_machines"),),
        check=at_least_one,
    ),
    Question(
        "accelerate.debug",
        Kind.YES_NO,
        "Should distributed operations be checked while running for errors? This can avoid timeout issues but will be "
        "slower. [yes/NO]: ",
        SECTION,
        default=False,
        when=MULTI,
        sets=(Sets("debug"),),
    ),
    Question(
        "accelerate.use_cpu",
        Kind.YES_NO,
        "Do you want to run your training on CPU only (even if a GPU / Apple Silicon / Ascend NPU device is "
        "available)? [yes/NO]:",
        SECTION,
        default=False,
        when=AllOf(THIS_MACHINE, NO_DISTRIBUTED),
        sets=(Sets("use_cpu"),),
        help="For trying things out without a GPU; SDXL itself takes hours a step on a CPU.",
    ),
    Question(
        "accelerate.use_dynamo",
        Kind.YES_NO,
        "Do you wish to optimize your script with torch dynamo?[yes/NO]:",
        SECTION,
        default=False,
        when=THIS_MACHINE,
        help="accelerate does not pass this on to DeepSpeed.",
    ),
)

PROCESSES = (
    Question(
        "accelerate.num_processes",
        Kind.INT,
        processes_text,
        SECTION,
        default=1,
        when=AllOf(THIS_MACHINE, AnyOf(Not(NO_DISTRIBUTED), DEEPSPEED)),
        sets=(Sets("num_processes"),),
        check=at_least_one,
        help="One process for each GPU. They share the host's RAM and its CPU cores.",
    ),
)

PRECISION = (
    Question(
        "accelerate.mixed_precision",
        Kind.MENU,
        "Do you wish to use mixed precision?",
        SECTION,
        choices=(Choice("no", "no"), Choice("fp16", "fp16"), Choice("bf16", "bf16"), Choice("fp8", "fp8")),
        default="no",
        when=AllOf(THIS_MACHINE, Not(Is("accelerate.machine", "XLA")), Not(Is("accelerate.ds_use_json", True))),
        sets=(Sets("mixed_precision"),),
        help="bf16 halves the weights on the GPU and keeps fp32 masters on the host; right for every card since 2020.",
    ),
)
