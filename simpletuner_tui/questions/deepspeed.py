"""What is asked about DeepSpeed beyond accelerate's questionnaire; each id is the place in DeepSpeed's JSON.

Stage, offload devices, accumulation, clipping and precision are accelerate's answers and not asked again.
"""

from launcher.config.accelerate import PATHS_FROM_DEEPSPEED_CONFIG
from launcher.config.deepspeed import JSON_PATHS, OPTIMIZER_PARAMS, deepspeed_declarations
from simpletuner_tui.questions.accelerate.common import INLINE
from simpletuner_tui.questions.conditions import AllOf, Condition, Is, Not
from simpletuner_tui.questions.derive import question_of

PREFIX = "deepspeed."
SECTION = "DeepSpeed"

TEXTS = {
    "offload_optimizer_pin_memory": "Lock the optimizer's buffers in host RAM?",
    "offload_param_pin_memory": "Lock the parameters' buffers in host RAM?",
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
    "offload_param_pin_memory": Is("accelerate.offload_param", "cpu", "nvme"),
    "reduce_bucket_size": PARTITIONED,
    "allgather_bucket_size": FLAT,
    "overlap_comm": PARTITIONED,
    "contiguous_gradients": FLAT,
    "sub_group_size": STAGE_3,
    "stage3_prefetch_bucket_size": STAGE_3,
    "stage3_max_live_parameters": STAGE_3,
    "stage3_max_reuse_distance": STAGE_3,
    "stage3_param_persistence_threshold": STAGE_3,
    "betas": _has("betas"),
    "eps": _has("eps"),
    "weight_decay": _has("weight_decay"),
    "warmup_type": Not(Is(PREFIX + JSON_PATHS["scheduler_type"], "WarmupCosineLR")),
}
"""What is asked only sometimes, besides DeepSpeed being answered inline; by key."""

OWNED_BY_ACCELERATE = frozenset({*PATHS_FROM_DEEPSPEED_CONFIG.values(), "precision"})
"""JSON paths whose value is an answer of accelerate's questionnaire."""

DEEPSPEED = tuple(
    question_of(
        declared,
        PREFIX + path,
        TEXTS[declared.key],
        SECTION,
        when=AllOf(INLINE, CONDITIONS[declared.key]) if declared.key in CONDITIONS else INLINE,
    )
    for path, declared in deepspeed_declarations().items()
    if path not in OWNED_BY_ACCELERATE
)
