"""What accelerate asks about DeepSpeed; texts of accelerate 1.15.0."""

from launcher.config.accelerate import NOT_LAUNCHED
from launcher.config.deepspeed import names_no_folder
from simpletuner_tui.questions.accelerate.common import (
    ACCELERATORS,
    DEEPSPEED,
    DS_FILE,
    INLINE,
    MULTI_NEURON,
    ON_MPS,
    Section,
    answer,
    at_least,
    needed,
)
from simpletuner_tui.questions.conditions import AllOf, Answer, Context, MoreThan, Not, Probe
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Choice, Sets

ask = Section("accelerate, DeepSpeed")

DEVICES = ("none", "cpu", "nvme")
LAUNCHERS = ("pdsh", "standard", "openmpi", "mvapich", "mpich", "nossh", "slurm")

STAGE_2_OR_3, STAGE_3 = answer("zero_stage", 2, 3), answer("zero_stage", 3)
HOSTS = answer("ds_launcher", *(name for name in LAUNCHERS if name != "standard"))


OFFLOAD_PATH = "training.offload_param_path"
"""The answer that stands in where one of the folders below says nothing."""


def nvme_folder(context: Context) -> Answer:
    """accelerate's own default, unless a folder for all of it was brought."""
    return context.values.get(OFFLOAD_PATH) or "/nvme"


def folder_needed(given: Answer, context: Context) -> None:
    """Refuses nothing at all where nothing stands in for it."""
    if not (names_no_folder(given) and context.values.get(OFFLOAD_PATH)):
        needed(given, context)


def json_file(given: Answer, context: Context) -> None:
    """Refuses no file at all: accelerate saves it as 'none', asks no more, and trains with neither."""
    needed(given, context)
    if given == "none":
        raise ValueError("accelerate takes 'none' for no file at all; write ./none for a file of that name")


DEEPSPEED_PLUGIN = (
    ask.yes_no(
        "use_deepspeed",
        "Do you want to use DeepSpeed? [yes/NO]: ",
        Sets("distributed_type", constant="DEEPSPEED", when=DEEPSPEED),
        when=AllOf(answer("machine", "NO", *ACCELERATORS), Not(ON_MPS)),
        help="ZeRO, the heart of DeepSpeed, shares out optimizer states, gradients and weights over the GPUs, and can "
        "keep them in host RAM. Its offload is what lets SDXL's U-Net be fine-tuned on a card that could not hold it.",
    ),
    ask.stop("stop_ds_neuron", "DeepSpeed is not supported on Neuron devices.", DEEPSPEED, MULTI_NEURON),
    ask.stop(
        "stop_ds_missing",
        "DeepSpeed is not installed => run `pip3 install deepspeed` or build it from source",
        DEEPSPEED,
        Not(Probe("deepspeed")),
    ),
    ask.yes_no(
        "ds_use_json",
        "Do you want to specify a json file to a DeepSpeed config? [yes/NO]: ",
        when=DEEPSPEED,
        help="A file of yours then says everything about DeepSpeed, and little more about it is asked.",
    ),
    ask.path(
        "ds_json",
        "Please enter the path to the json DeepSpeed config file: ",
        "deepspeed_config.deepspeed_config_file",
        when=DS_FILE,
        check=json_file,
        help="Stage, offload, accumulation, clipping and precision are taken from it.",
    ),
    ask.menu(
        "zero_stage",
        "What should be your DeepSpeed's ZeRO optimization stage?",
        range(4),
        "deepspeed_config.zero_stage",
        default=2,
        when=INLINE,
        help="0 shares nothing: every GPU holds everything. 1 partitions optimizer states over the GPUs, 2 gradients "
        "too, 3 parameters too. With the optimizer on the CPU, 2 needs the least VRAM of those that keep the weights "
        "on the GPU; 3 can move them off as well, and is slower.",
    ),
    ask.menu(
        "offload_optimizer",
        "Where to offload optimizer states?",
        DEVICES,
        "deepspeed_config.offload_optimizer_device",
        when=AllOf(INLINE, STAGE_2_OR_3),
        help="cpu takes 29 GiB of optimizer states off the GPU for SDXL and needs about 46 GiB of host RAM; the "
        "update is then computed by the CPU.",
    ),
    ask.menu(
        "offload_param",
        "Where to offload parameters?",
        DEVICES,
        "deepspeed_config.offload_param_device",
        when=AllOf(INLINE, STAGE_2_OR_3),
        help="Works at stage 3 only; below it DeepSpeed ignores this without a word.",
    ),
    ask.path(
        "param_nvme",
        "Nvme Path to offload parameters?",
        "deepspeed_config.offload_param_nvme_path",
        default=nvme_folder,
        when=answer("offload_param", "nvme"),
        check=folder_needed,
        help="A folder on a fast local disk. `accelerate launch` alone drops this path.",
    ),
    ask.path(
        "optimizer_nvme",
        "Nvme Path to offload optimizer states?",
        "deepspeed_config.offload_optimizer_nvme_path",
        default=nvme_folder,
        when=answer("offload_optimizer", "nvme"),
        check=folder_needed,
        help="A folder on a fast local disk. `accelerate launch` alone drops this path.",
    ),
    ask.number(
        "gas",
        "How many gradient accumulation steps you're passing in your script? [1]: ",
        "deepspeed_config.gradient_accumulation_steps",
        default=1,
        when=INLINE,
        check=at_least(1),
        help="Micro-batches whose gradients are added up before the weights change: a larger batch for no more VRAM.",
    ),
    ask.yes_no(
        "use_clip",
        "Do you want to use gradient clipping? [yes/NO]: ",
        when=INLINE,
        help="Shortens gradients that are unusually long, so that one odd batch does not throw the weights off.",
    ),
    ask.ask(
        "clip",
        Kind.FLOAT,
        "What is the gradient clipping value? [1.0]: ",
        "deepspeed_config.gradient_clipping",
        default=1.0,
        when=answer("use_clip", True),
        check=at_least(0),
        help="The largest norm over all gradients; 1.0 is usual.",
    ),
    ask.yes_no(
        "save16",
        "Do you want to save 16-bit model weights when using ZeRO Stage-3? [yes/NO]: ",
        "deepspeed_config.zero3_save_16bit_model",
        when=AllOf(INLINE, STAGE_3),
        help="Exports here are gathered from the fp32 masters and do not need it.",
    ),
    ask.yes_no(
        "zero3_init",
        "Do you want to enable `deepspeed.zero.Init` when using ZeRO Stage-3 for constructing massive models? "
        "[yes/NO]: ",
        "deepspeed_config.zero3_init_flag",
        when=DEEPSPEED,
        help="Builds a model in pieces that no single GPU or host could hold. SDXL does not need it: its U-Net is "
        "built on the host. It works at stage 3 only.",
    ),
    ask.stop(
        "stop_transformers",
        "When `zero3_init_flag` is set, it requires Transformers to be installed. "
        "Please run `pip3 install transformers`.",
        answer("zero3_init", True),
        Not(Probe("transformers")),
    ),
    ask.yes_no(
        "use_moe",
        "Do you want to enable Mixture-of-Experts training (MoE)? [yes/NO]: ",
        when=DEEPSPEED,
        choices=(Choice("yes", True, NOT_LAUNCHED["MoE"]), Choice("no", False)),
        help="For language models whose layers are many small networks. SDXL has none.",
    ),
    ask.text(
        "moe",
        "Specify the comma-separated list of transformers MoE layer class names (case-sensitive), e.g : "
        " `MixtralSparseMoeBlock`, `Qwen2MoeSparseMoeBlock`, `JetMoEAttention,JetMoEBlock` ... : ",
        "deepspeed_config.deepspeed_moe_layer_cls_names",
        when=answer("use_moe", True),
        check=needed,
    ),
    ask.menu(
        "ds_launcher",
        "Which Type of launcher do you want to use?",
        (
            Choice(name, name, "" if name in ("pdsh", "standard") else NOT_LAUNCHED["other launcher"])
            for name in LAUNCHERS
        ),
        "deepspeed_config.deepspeed_multinode_launcher",
        when=AllOf(DEEPSPEED, MoreThan("accelerate.num_machines", 1)),
        help="standard: start it on every machine yourself. pdsh and the others start it on all of them over SSH, MPI "
        "or Slurm.",
    ),
    ask.path(
        "ds_hostfile",
        "DeepSpeed configures multi-node compute resources with hostfile. "
        "Each row is of the format `hostname slots=[num_gpus]`, e.g., `localhost slots=2`; "
        "for more information please refer official [documentation]"
        "(https://www.deepspeed.ai/getting-started/#resource-configuration-multi-node). "
        "Please specify the location of hostfile: ",
        "deepspeed_config.deepspeed_hostfile",
        when=HOSTS,
        check=needed,
    ),
    ask.yes_no("use_excl", "Do you want to specify exclusion filter string? [yes/NO]: ", when=HOSTS),
    ask.text(
        "excl",
        "DeepSpeed exclusion filter string: ",
        "deepspeed_config.deepspeed_exclusion_filter",
        when=answer("use_excl", True),
        check=needed,
        help="Hosts and GPUs to leave out, such as worker-2:0@worker-3.",
    ),
    ask.yes_no(
        "use_incl",
        "Do you want to specify inclusion filter string? [yes/NO]: ",
        when=HOSTS,
        help="With an exclusion filter as well, `accelerate launch` passes on the exclusion alone.",
    ),
    ask.text(
        "incl",
        "DeepSpeed inclusion filter string: ",
        "deepspeed_config.deepspeed_inclusion_filter",
        when=answer("use_incl", True),
        check=needed,
        help="Hosts and GPUs to use, such as worker-1:0,2.",
    ),
)
