"""Which stage, size and switch of ZeRO goes with which."""

from launcher.config.setting import Level
from launcher.deepspeed.fields import FIELDS
from launcher.deepspeed.rules.precision import precision
from launcher.deepspeed.rules.rule import Rule
from launcher.deepspeed.run_facts import RunFacts
from launcher.deepspeed.view import View

_Z = "zero_optimization"
_NORM = f"{_Z}.compute_grad_norm"
_HPZ = f"{_Z}.zero_hpz_partition_size"
_QUANTIZED = tuple(f"{_Z}.zero_quantized_{what}" for what in ("weights", "nontrainable_weights", "gradients"))

_OWN_RULES = frozenset(
    {
        f"{_Z}.offload_param.device",
        f"{_Z}.offload_optimizer.device",
        f"{_Z}.offload_optimizer.ratio",
        "bf16.bf16_master_weights_and_grads",
        "bf16.bf16_optimizer_states",
        "bf16.immediate_grad_update",
        "fp16.fp16_master_weights_and_grads",
        "data_types.grad_accum_dtype",
        "gradient_allreduce_op",
        "prescale_gradients",
        _NORM,
    }
)
"""Fields of certain stages whose rules say more than that."""


def _without_effect(path: str, stages: tuple[int, ...]) -> Rule:
    where = " and ".join(filter(None, [", ".join(map(str, stages[:-1])), str(stages[-1])]))
    return Rule(
        "not-at-this-stage",
        (path,),
        lambda view, _: view.stage not in stages and view.has(path) and view.differs(path),
        lambda view, _: f"has no effect at stage {view.stage}, only at stage{'s' if len(stages) > 1 else ''} {where}",
        "take it out, or choose such a stage",
        "run: the same weights with and without it",
        Level.WARNING,
    )


def _norm_needed(view: View, _: RunFacts) -> bool:
    in_fp32 = (
        view.stage == 1
        and precision(view) == "bf16"
        and view.get("data_types.grad_accum_dtype") == "fp32"
        and not view.offloads
    )
    return not view.get(_NORM) and (
        view.stage not in (1, 2) or view.offloads or view.get("gradient_clipping") > 0 or in_fp32
    )


def _uneven(view: View, run: RunFacts) -> bool:
    group = min(view.get(_HPZ), run.world_size)
    return view.stage == 3 and group > 1 and run.world_size % group != 0


ZERO = (
    Rule(
        "zenflow",
        (f"{_Z}.zenflow",),
        lambda view, _: isinstance(view.raw(f"{_Z}.zenflow"), dict),
        "ZenFlow scrambles every 2-D weight when the engine starts and stops at convolutions, which SDXL's U-Net has",
        "take it out; CPU offload does without",
        "run: the output changed by 1.2 before any step; conv weights raise",
    ),
    Rule(
        "odd-bucket",
        (f"{_Z}.allgather_bucket_size",),
        lambda view, _: view.stage in (1, 2) and view.get(f"{_Z}.allgather_bucket_size") % 2 == 1,
        "must be even at stages 1 and 2",
        "add one",
        "run: AssertionError, allgather_bucket_size must be a multiple of nccl_start_alignment_factor, 2",
    ),
    Rule(
        "norm-needed",
        (_NORM,),
        _norm_needed,
        "the gradient norm can be left out only at stages 1 and 2, with gradient_clipping 0 and no offload",
        "turn it on",
        "run: ValueError, compute_grad_norm=false requires gradient_clipping=0",
    ),
    Rule(
        "stage-1-of-old",
        (f"{_Z}.legacy_stage1",),
        lambda view, _: view.raw(f"{_Z}.legacy_stage1") is True,
        "the old stage 1 is gone since DeepSpeed 0.5.9",
        "take it out",
        "run: Exception, The deprecated version of ZeRO Stage 1 is not supported",
    ),
    Rule(
        "elastic-at-stage-3",
        (f"{_Z}.elastic_checkpoint",),
        lambda view, _: view.raw(f"{_Z}.elastic_checkpoint") is True and view.stage == 3,
        "has no effect at stage 3",
        "take it out",
        "run: the same weights, and a checkpoint as without it",
        Level.WARNING,
    ),
    Rule(
        "pinning-of-old",
        (f"{_Z}.cpu_offload_use_pin_memory",),
        lambda view, _: view.has(f"{_Z}.cpu_offload_use_pin_memory"),
        "DeepSpeed still takes it and does nothing with it",
        "set pin_memory in offload_optimizer and offload_param",
        "code: deepspeed/runtime/zero/config.py, set_new_param is off",
        Level.WARNING,
    ),
    Rule(
        "uneven-partition-groups",
        (_HPZ,),
        _uneven,
        lambda view, run: f"{run.world_size} GPUs do not divide into groups of {view.get(_HPZ)}",
        "choose a divisor of them",
        "run: AssertionError, 3 is not divisible by 2",
    ),
    Rule(
        "no-partition-groups",
        (_HPZ,),
        lambda view, run: view.stage == 3 and view.get(_HPZ) > 1 and run.world_size == 1,
        "on one GPU there is nothing to keep a second copy of",
        "take it out",
        "run: the same weights with and without it",
        Level.WARNING,
    ),
    Rule(
        "quantized",
        _QUANTIZED,
        lambda view, _: view.stage == 3 and any(view.get(path) for path in _QUANTIZED),
        "ZeRO++'s quantization is not exact, needs CUDA extensions and pays on slow networks between machines only",
        "turn it off",
        "run: refused on a CPU, This op had not been implemented; a GPU shows the rest",
        Level.WARNING,
    ),
    Rule(
        "contiguous-anyway",
        (f"{_Z}.contiguous_gradients",),
        lambda view, _: not view.get(f"{_Z}.contiguous_gradients") and view.offloads and view.stage in (1, 2),
        "CPU offload copies gradients into one buffer whatever this says",
        "take it out",
        "run: the same weights with and without it",
        Level.WARNING,
    ),
    Rule(
        "nothing-partitioned",
        (f"{_Z}.stage",),
        lambda view, run: (
            run.world_size == 1
            and view.stage > 0
            and not view.offloads
            and (view.stage < 3 or view.device("offload_param") == "none")
        ),
        "on one GPU without offload no stage saves memory: there is nobody to share with",
        "offload the optimizer to cpu",
        "run: bytes counted after a step",
        Level.WARNING,
    ),
    *(_without_effect(path, field.stages) for path, field in FIELDS.items() if field.stages and path not in _OWN_RULES),
)
