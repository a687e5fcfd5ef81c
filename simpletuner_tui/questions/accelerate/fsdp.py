"""What accelerate asks about FSDP; texts of accelerate 1.15.0."""

from launcher.config.accelerate import NOT_LAUNCHED
from simpletuner_tui.questions.accelerate.common import (
    DEEPSPEED,
    FSDP,
    MULTI_DEVICE,
    MULTI_NEURON,
    Section,
    answer,
    at_least,
    needed,
)
from simpletuner_tui.questions.conditions import AllOf, Context, Not
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Choice, Sets

ask = Section("accelerate, FSDP")

STRATEGIES = ("FULL_SHARD", "SHARD_GRAD_OP", "NO_SHARD", "HYBRID_SHARD", "HYBRID_SHARD_ZERO2")
WRAPS = ("TRANSFORMER_BASED_WRAP", "SIZE_BASED_WRAP", "NO_WRAP")
PREFETCHES = ("BACKWARD_PRE", "BACKWARD_POST", "NO_PREFETCH")
STATES_1 = ("FULL_STATE_DICT", "LOCAL_STATE_DICT", "SHARDED_STATE_DICT")
STATES_2 = ("SHARDED_STATE_DICT", "FULL_STATE_DICT")

FSDP_1, FSDP_2 = answer("fsdp_version", 1), answer("fsdp_version", 2)


def states(context: Context) -> tuple[Choice, ...]:
    """Which state dict types there are depends on FSDP's version."""
    return tuple(Choice(name, name) for name in (STATES_1 if FSDP_1.holds(context) else STATES_2))


def first_state(context: Context) -> str:
    """The first of them."""
    return states(context)[0].label


FSDP_PLUGIN = (
    ask.yes_no(
        "use_fsdp",
        "Do you want to use FullyShardedDataParallel? [yes/NO]: ",
        Sets("distributed_type", constant="FSDP", when=FSDP),
        when=AllOf(MULTI_DEVICE, Not(DEEPSPEED)),
        choices=(Choice("yes", True, NOT_LAUNCHED["FSDP"]), Choice("no", False)),
        help="PyTorch's own way of partitioning weights, gradients and optimizer states over GPUs, like ZeRO stage 3.",
    ),
    ask.stop("stop_fsdp_neuron", "FSDP is not currently supported on Neuron devices.", FSDP, MULTI_NEURON),
    ask.menu(
        "fsdp_version",
        "What should be your FSDP version? [2]: ",
        (1, 2),
        "fsdp_config.fsdp_version",
        default=2,
        when=FSDP,
        help="2 is the rewrite that PyTorch goes on with; 1 is for old set-ups.",
    ),
    ask.menu(
        "sharding",
        "What should be your sharding strategy?",
        STRATEGIES,
        "fsdp_config.fsdp_reshard_after_forward",
        when=FSDP_1,
        help="FULL_SHARD partitions everything, SHARD_GRAD_OP keeps whole weights between forward and backward, "
        "NO_SHARD partitions nothing; HYBRID does it within each machine only.",
    ),
    ask.yes_no(
        "reshard",
        "Do you want to enable resharding after forward? [YES/no]: ",
        "fsdp_config.fsdp_reshard_after_forward",
        default=True,
        when=FSDP_2,
        help="Yes frees gathered weights after the forward pass and gathers them again: less memory, more traffic.",
    ),
    ask.yes_no(
        "fsdp_offload",
        "Do you want to offload parameters and gradients to CPU? [yes/NO]: ",
        "fsdp_config.fsdp_offload_params",
        when=FSDP,
        help="Keeps them in host RAM while they are not needed; the update runs on the CPU.",
    ),
    ask.menu(
        "wrap",
        "What should be your auto wrap policy?",
        WRAPS,
        "fsdp_config.fsdp_auto_wrap_policy",
        when=FSDP,
        help="How the model is cut into the units that are gathered at once: by layer class, by size, or not at all.",
    ),
    ask.yes_no(
        "no_split",
        "Do you want to use the model's `_no_split_modules` to wrap. Only applicable for 🤗 Transformers [yes/NO]: ",
        when=answer("wrap", "TRANSFORMER_BASED_WRAP"),
    ),
    ask.text(
        "wrap_cls",
        "Specify the comma-separated list of transformer layer class names (case-sensitive) to wrap ,e.g, :"
        "`BertLayer`, `GPTJBlock`, `T5Block`, `BertLayer,BertEmbeddings,BertSelfOutput` ...? : ",
        "fsdp_config.fsdp_transformer_layer_cls_to_wrap",
        when=answer("no_split", False),
        check=needed,
        help="Of SDXL's U-Net: BasicTransformerBlock.",
    ),
    ask.number(
        "min_params",
        "What should be your FSDP's minimum number of parameters for Default Auto Wrapping Policy? [1e8]: ",
        "fsdp_config.fsdp_min_num_params",
        default=100_000_000,
        when=answer("wrap", "SIZE_BASED_WRAP"),
        check=at_least(0),
    ),
    ask.menu(
        "fsdp_prefetch",
        "What should be your FSDP's backward prefetch policy?",
        PREFETCHES,
        "fsdp_config.fsdp_backward_prefetch",
        when=FSDP_1,
    ),
    ask.ask(
        "fsdp_state",
        Kind.MENU,
        "What should be your FSDP's state dict type?",
        "fsdp_config.fsdp_state_dict_type",
        choices=states,
        default=first_state,
        when=FSDP,
        help="FULL saves one whole file, SHARDED one a process, which is faster.",
    ),
    ask.yes_no(
        "fwd_prefetch",
        "Do you want to enable FSDP's forward prefetch policy? [yes/NO]: ",
        "fsdp_config.fsdp_forward_prefetch",
        when=FSDP_1,
    ),
    ask.yes_no(
        "orig_params",
        "Do you want to enable FSDP's `use_orig_params` feature? [YES/no]: ",
        "fsdp_config.fsdp_use_orig_params",
        default=True,
        when=FSDP_1,
        help="Keeps parameters apart, so that some can be frozen; torch.compile needs it.",
    ),
    ask.yes_no(
        "ram_eff",
        "Do you want to enable CPU RAM efficient model loading? Only applicable for 🤗 Transformers models. [YES/no]: ",
        "fsdp_config.fsdp_cpu_ram_efficient_loading",
        Sets("fsdp_config.fsdp_sync_module_states", when=AllOf(FSDP_1, answer("ram_eff", True))),
        default=True,
        when=FSDP,
        help="Only the first process loads the weights; the others get them from it.",
    ),
    ask.yes_no(
        "sync_states",
        "Do you want each individually wrapped FSDP unit to broadcast module parameters from rank 0 at the start? "
        "[YES/no]: ",
        "fsdp_config.fsdp_sync_module_states",
        default=True,
        when=AllOf(FSDP_1, answer("ram_eff", False)),
    ),
    ask.yes_no(
        "act_ckpt",
        "Do you want to enable FSDP activation checkpointing? [yes/NO]: ",
        "fsdp_config.fsdp_activation_checkpointing",
        when=FSDP,
        help="Computes activations again in the backward pass instead of keeping them: less memory, more time.",
    ),
)
