"""What is asked about DeepSpeed beyond accelerate's questionnaire; each id is the place in DeepSpeed's JSON.

Stage, offload devices, accumulation, clipping and precision are accelerate's answers and not asked again. Without
DeepSpeed accelerate asks for neither accumulation nor clipping: there they are asked here, as optimizer and schedule
are in either case, and hold for plain PyTorch.
"""

from dataclasses import replace

from launcher.config.accelerate import PATHS_FROM_DEEPSPEED_CONFIG
from launcher.config.deepspeed import JSON_PATHS, OPTIMIZER_PARAMS, deepspeed_declarations
from launcher.config.rules.launch import LION_NEEDS_DEEPSPEED, MUON_NEEDS_DEEPSPEED
from launcher.config.setting import Setting
from simpletuner_tui.questions.accelerate.common import INLINE, PLAIN
from simpletuner_tui.questions.conditions import AllOf, AnyOf, Condition, Context, Is, Not
from simpletuner_tui.questions.derive import question_of
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Choice, Question
from simpletuner_tui.questions.training.adapter import LORA

PREFIX = "deepspeed."
SECTION, OPTIMIZER = "DeepSpeed", "Optimizer"

TEXTS = {
    "gradient_accumulation_steps": "Over how many micro-batches should gradients be added up?",
    "gradient_clipping": "To which global norm should gradients be clipped?",
    "offload_optimizer_pin_memory": "Lock the optimizer's buffers in host RAM?",
    "offload_param_pin_memory": "Lock the parameters' buffers in host RAM?",
    "offload_param_buffer_size": "How many elements should a buffer for parameters on NVMe hold?",
    "reduce_bucket_size": "How many elements should be reduced at once?",
    "allgather_bucket_size": "How many elements should be gathered at once?",
    "overlap_comm": "Reduce gradients while the backward pass still runs?",
    "contiguous_gradients": "Copy gradients into one buffer as they are made?",
    "sub_group_size": "How many parameters should be updated at once?",
    "stage3_prefetch_bucket_size": "How many parameters should be fetched ahead?",
    "stage3_max_live_parameters": "How many parameters may be gathered on the GPU at once?",
    "stage3_max_reuse_distance": "Within how many elements must a parameter be used again to stay?",
    "stage3_param_persistence_threshold": "Below how many elements should a parameter stay on the GPU?",
    "optimizer_type": "Which optimizer?",
    "muon_lr": "Which learning rate for the matrices (muon_lr)?",
    "momentum": "Which decay rate of Muon's moment (momentum)?",
    "betas": "Which decay rates of the moments (betas)?",
    "eps": "Which epsilon?",
    "weight_decay": "Which weight decay?",
    "scheduler_type": "Which learning-rate schedule?",
    "warmup_type": "Which shape should the warm-up have?",
}
"""How each setting is asked, by key."""

STAGE_3 = Is("accelerate.zero_stage", 3)
PARTITIONED = Is("accelerate.zero_stage", 1, 2, 3)
FLAT = Is("accelerate.zero_stage", 1, 2)


def _has(parameter: str) -> Condition:
    optimizers = [name for name, parameters in OPTIMIZER_PARAMS.items() if parameter in parameters]
    return Is(PREFIX + JSON_PATHS["optimizer_type"], *optimizers)


CONDITIONS: dict[str, Condition] = {
    "offload_optimizer_pin_memory": Is("accelerate.offload_optimizer", "cpu", "nvme"),
    "offload_param_pin_memory": AllOf(STAGE_3, Is("accelerate.offload_param", "cpu", "nvme")),
    "offload_param_buffer_size": AllOf(STAGE_3, Is("accelerate.offload_param", "nvme")),
    "reduce_bucket_size": PARTITIONED,
    "allgather_bucket_size": FLAT,
    "overlap_comm": PARTITIONED,
    "contiguous_gradients": FLAT,
    "sub_group_size": STAGE_3,
    "stage3_prefetch_bucket_size": AllOf(STAGE_3, Not(Is("accelerate.offload_param", "nvme"))),
    "stage3_max_live_parameters": STAGE_3,
    "stage3_max_reuse_distance": STAGE_3,
    "stage3_param_persistence_threshold": STAGE_3,
    "muon_lr": _has("muon_lr"),
    "momentum": _has("momentum"),
    "betas": _has("betas"),
    "eps": _has("eps"),
    "weight_decay": _has("weight_decay"),
    "warmup_type": Not(Is(PREFIX + JSON_PATHS["scheduler_type"], "WarmupCosineLR")),
}
"""What is asked only sometimes, besides DeepSpeed being answered inline or not used; by key."""

ONLY_PLAIN = ("gradient_accumulation_steps", "gradient_clipping")
"""Keys that are accelerate's answers with DeepSpeed, and that it does not ask for without."""

IN_EITHER_CASE = ("optimizer_type", "betas", "eps", "weight_decay", "scheduler_type", "warmup_type")
"""Keys that hold with DeepSpeed and without."""

OWNED_BY_ACCELERATE = frozenset({*PATHS_FROM_DEEPSPEED_CONFIG.values(), "precision"})
"""JSON paths whose value is an answer of accelerate's questionnaire where DeepSpeed is used."""


def optimizers(context: Context) -> tuple[Choice, ...]:
    """The optimizers, and which of them needs DeepSpeed where that is not used."""
    names = deepspeed_declarations()[JSON_PATHS["optimizer_type"]].choices
    reasons = {"Lion": LION_NEEDS_DEEPSPEED, "Muon": MUON_NEEDS_DEEPSPEED} if PLAIN.holds(context) else {}
    return tuple(Choice(name, name, reasons.get(name, "")) for name in names)


def locks_parameters(context: Context) -> bool:
    """Whether parameters are locked one by one where nobody says: a LoRA's frozen ones lie in no other buffer."""
    return LORA.holds(context)


def _question(path: str, declared: Setting) -> Question:
    key = declared.key
    trained = PLAIN if key in ONLY_PLAIN else AnyOf(INLINE, PLAIN) if key in IN_EITHER_CASE else INLINE
    when = AllOf(trained, CONDITIONS[key]) if key in CONDITIONS else trained
    section = OPTIMIZER if key in (*ONLY_PLAIN, *IN_EITHER_CASE) else SECTION
    question = question_of(declared, PREFIX + path, TEXTS[key], section, when=when)
    if key == "optimizer_type":
        return replace(question, choices=optimizers)
    return replace(question, default=locks_parameters) if key == "offload_param_pin_memory" else question


EXTRA = PREFIX + "extra"
"""What the builder set beyond the questions, nested as in DeepSpeed's JSON."""

DEEPSPEED = (
    *(
        _question(path, declared)
        for path, declared in deepspeed_declarations().items()
        if path not in OWNED_BY_ACCELERATE or declared.key in ONLY_PLAIN
    ),
    Question(
        EXTRA,
        Kind.OBJECT,
        "What else should stand in DeepSpeed's JSON?",
        SECTION,
        when=INLINE,
        if_answered=True,
        help="What the DeepSpeed builder set beyond the questions, as JSON. What it says holds, whatever the questions "
        "above say. The builder edits it field by field; {} drops it.",
    ),
)
