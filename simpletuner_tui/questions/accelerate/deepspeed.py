"""What accelerate asks about DeepSpeed; texts of accelerate 1.15.0."""

from simpletuner_tui.questions.conditions import AllOf, Answer, Context, Is, MoreThan, Not, Probe
from simpletuner_tui.questions.model import Choice, Kind, Question, Sets

SECTION = "accelerate, DeepSpeed"
DEEPSPEED = Is("accelerate.use_deepspeed", True)
INLINE = AllOf(DEEPSPEED, Is("accelerate.ds_use_json", False))
DEVICES = (Choice("none", "none"), Choice("cpu", "cpu"), Choice("nvme", "nvme"))


def positive(answer: Answer, _: Context) -> None:
    """Refuses counts below one."""
    if isinstance(answer, int) and answer < 1:
        raise ValueError("must be at least 1")


def not_negative(answer: Answer, _: Context) -> None:
    """Refuses numbers below zero."""
    if isinstance(answer, int | float) and answer < 0:
        raise ValueError("must not be negative")


def not_empty(answer: Answer, _: Context) -> None:
    """Refuses the empty path, which accelerate saves as 'none' and then ignores."""
    if answer == "":
        raise ValueError("a path is needed here")


DEEPSPEED_PLUGIN = (
    Question(
        "accelerate.use_deepspeed",
        Kind.YES_NO,
        "Do you want to use DeepSpeed? [yes/NO]: ",
        SECTION,
        default=False,
        when=AllOf(Is("accelerate.environment", "LOCAL_MACHINE"), Not(Is("accelerate.machine", "MULTI_CPU", "XLA"))),
        help="Yes: DeepSpeed's offload is what lets SDXL's U-Net be fine-tuned on a card that could not hold it.",
    ),
    Question(
        "accelerate.stop_ds_missing",
        Kind.STOP,
        "DeepSpeed is not installed => run `pip3 install deepspeed` or build it from source",
        SECTION,
        when=AllOf(DEEPSPEED, Not(Probe("deepspeed"))),
    ),
    Question(
        "accelerate.ds_use_json",
        Kind.YES_NO,
        "Do you want to specify a json file to a DeepSpeed config? [yes/NO]: ",
        SECTION,
        default=False,
        when=DEEPSPEED,
        help="A file of yours then says everything about DeepSpeed, and nothing more about it is asked.",
    ),
    Question(
        "accelerate.ds_json",
        Kind.PATH,
        "Please enter the path to the json DeepSpeed config file: ",
        SECTION,
        when=AllOf(DEEPSPEED, Is("accelerate.ds_use_json", True)),
        sets=(Sets("deepspeed_config.deepspeed_config_file"),),
        check=not_empty,
    ),
    Question(
        "accelerate.zero_stage",
        Kind.MENU,
        "What should be your DeepSpeed's ZeRO optimization stage?",
        SECTION,
        choices=tuple(Choice(str(stage), stage) for stage in range(4)),
        default=2,
        when=INLINE,
        sets=(Sets("deepspeed_config.zero_stage"),),
        help="1 partitions optimizer states over the GPUs, 2 gradients too, 3 parameters too. With the optimizer on "
        "the CPU, 2 needs the least VRAM of those that keep the weights on the GPU; 3 can move them off as well.",
    ),
    Question(
        "accelerate.offload_optimizer",
        Kind.MENU,
        "Where to offload optimizer states?",
        SECTION,
        choices=DEVICES,
        default="none",
        when=AllOf(INLINE, Is("accelerate.zero_stage", 2, 3)),
        sets=(Sets("deepspeed_config.offload_optimizer_device"),),
        help="cpu takes 29 GiB of optimizer states off the GPU for SDXL and needs about 46 GiB of host RAM.",
    ),
    Question(
        "accelerate.offload_param",
        Kind.MENU,
        "Where to offload parameters?",
        SECTION,
        choices=DEVICES,
        default="none",
        when=AllOf(INLINE, Is("accelerate.zero_stage", 2, 3)),
        sets=(Sets("deepspeed_config.offload_param_device"),),
        help="Works at stage 3 only; below it DeepSpeed ignores this without a word.",
    ),
    Question(
        "accelerate.param_nvme",
        Kind.PATH,
        "Nvme Path to offload parameters?",
        SECTION,
        default="/nvme",
        when=Is("accelerate.offload_param", "nvme"),
        sets=(Sets("deepspeed_config.offload_param_nvme_path"),),
    ),
    Question(
        "accelerate.optimizer_nvme",
        Kind.PATH,
        "Nvme Path to offload optimizer states?",
        SECTION,
        default="/nvme",
        when=Is("accelerate.offload_optimizer", "nvme"),
        sets=(Sets("deepspeed_config.offload_optimizer_nvme_path"),),
    ),
    Question(
        "accelerate.gas",
        Kind.INT,
        "How many gradient accumulation steps you're passing in your script? [1]: ",
        SECTION,
        default=1,
        when=INLINE,
        sets=(Sets("deepspeed_config.gradient_accumulation_steps"),),
        check=positive,
        help="Micro-batches whose gradients are added up before the weights change.",
    ),
    Question(
        "accelerate.use_clip",
        Kind.YES_NO,
        "Do you want to use gradient clipping? [yes/NO]: ",
        SECTION,
        default=False,
        when=INLINE,
    ),
    Question(
        "accelerate.clip",
        Kind.FLOAT,
        "What is the gradient clipping value? [1.0]: ",
        SECTION,
        default=1.0,
        when=Is("accelerate.use_clip", True),
        sets=(Sets("deepspeed_config.gradient_clipping"),),
        check=not_negative,
    ),
    Question(
        "accelerate.save16",
        Kind.YES_NO,
        "Do you want to save 16-bit model weights when using ZeRO Stage-3? [yes/NO]: ",
        SECTION,
        default=False,
        when=AllOf(INLINE, Is("accelerate.zero_stage", 3)),
        sets=(Sets("deepspeed_config.zero3_save_16bit_model"),),
        help="Exports here are gathered from the fp32 masters and do not need it.",
    ),
    Question(
        "accelerate.zero3_init",
        Kind.YES_NO,
        "Do you want to enable `deepspeed.zero.Init` when using ZeRO Stage-3 for constructing massive models? "
        "[yes/NO]: ",
        SECTION,
        default=False,
        when=DEEPSPEED,
        sets=(Sets("deepspeed_config.zero3_init_flag"),),
        help="SDXL does not need it: its U-Net is built on the host.",
    ),
    Question(
        "accelerate.use_moe",
        Kind.YES_NO,
        "Do you want to enable Mixture-of-Experts training (MoE)? [yes/NO]: ",
        SECTION,
        default=False,
        when=DEEPSPEED,
    ),
    Question(
        "accelerate.moe",
        Kind.TEXT,
        "Specify the comma-separated list of transformers MoE layer class names (case-sensitive), e.g : "
        " `MixtralSparseMoeBlock`, `Qwen2MoeSparseMoeBlock`, `JetMoEAttention,JetMoEBlock` ... : ",
        SECTION,
        when=Is("accelerate.use_moe", True),
        sets=(Sets("deepspeed_config.deepspeed_moe_layer_cls_names"),),
    ),
    Question(
        "accelerate.ds_launcher",
        Kind.MENU,
        "Which Type of launcher do you want to use?",
        SECTION,
        choices=tuple(
            Choice(name, name) for name in ("pdsh", "standard", "openmpi", "mvapich", "mpich", "nossh", "slurm")
        ),
        default="pdsh",
        when=AllOf(DEEPSPEED, MoreThan("accelerate.num_machines", 1)),
        sets=(Sets("deepspeed_config.deepspeed_multinode_launcher"),),
    ),
)
