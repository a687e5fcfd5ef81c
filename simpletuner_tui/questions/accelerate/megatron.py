"""What accelerate asks about Megatron-LM; texts of accelerate 1.15.0."""

from launcher.config.accelerate import NOT_LAUNCHED
from simpletuner_tui.questions.accelerate.common import (
    DEEPSPEED,
    FSDP,
    MEGATRON,
    MULTI_GPU,
    Section,
    at_least,
)
from simpletuner_tui.questions.conditions import AllOf, AnyOf, MoreThan, Not
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Choice, Sets

ask = Section("accelerate, Megatron-LM")

KEY = "megatron_lm_config.megatron_lm_"

MEGATRON_PLUGIN = (
    ask.yes_no(
        "use_megatron",
        "Do you want to use Megatron-LM ? [yes/NO]: ",
        Sets("distributed_type", constant="MEGATRON_LM", when=MEGATRON),
        when=AllOf(MULTI_GPU, Not(AnyOf(DEEPSPEED, FSDP))),
        choices=(Choice("yes", True, NOT_LAUNCHED["MEGATRON_LM"]), Choice("no", False)),
        help="NVIDIA's training of very large language models. SDXL has nothing to do with it.",
    ),
    ask.number(
        "meg_tp",
        "What is the Tensor Parallelism degree/size? [1]:",
        KEY + "tp_degree",
        default=1,
        when=MEGATRON,
        check=at_least(1),
    ),
    ask.yes_no(
        "meg_sp",
        "Do you want to enable Sequence Parallelism? [YES/no]: ",
        KEY + "sequence_parallelism",
        default=True,
        when=MoreThan("accelerate.meg_tp", 1),
    ),
    ask.number(
        "meg_pp",
        "What is the Pipeline Parallelism degree/size? [1]:",
        KEY + "pp_degree",
        default=1,
        when=MEGATRON,
        check=at_least(1),
    ),
    ask.number(
        "meg_micro",
        "What is the number of micro-batches? [1]:",
        KEY + "num_micro_batches",
        default=1,
        when=MoreThan("accelerate.meg_pp", 1),
        check=at_least(1),
    ),
    ask.yes_no(
        "meg_recompute",
        "Do you want to enable selective activation recomputation? [YES/no]: ",
        KEY + "recompute_activations",
        default=True,
        when=MEGATRON,
    ),
    ask.yes_no(
        "meg_distopt",
        "Do you want to use distributed optimizer "
        "which shards optimizer state and gradients across data parallel ranks? [YES/no]: ",
        KEY + "use_distributed_optimizer",
        default=True,
        when=MEGATRON,
    ),
    ask.ask(
        "meg_clip",
        Kind.FLOAT,
        "What is the gradient clipping value based on global L2 Norm (0 to disable)? [1.0]: ",
        KEY + "gradient_clipping",
        default=1.0,
        when=MEGATRON,
        check=at_least(0),
    ),
)
