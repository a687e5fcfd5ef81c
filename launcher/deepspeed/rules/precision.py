"""Number formats that exclude or need each other, and what they lose."""

from launcher.config.setting import Level
from launcher.deepspeed.rules.rule import Rule
from launcher.deepspeed.run_facts import RunFacts
from launcher.deepspeed.view import View

_MASTERS = "bf16.bf16_master_weights_and_grads"
_STATES = "bf16.bf16_optimizer_states"
_FP16_MASTERS = "fp16.fp16_master_weights_and_grads"
_ACCUMULATION = "data_types.grad_accum_dtype"
_SECTIONS = ("bf16.enabled", "fp16.enabled", "torch_autocast.enabled")
_SMALL = 100_000_000
"""Parameters; below, twice the memory is nobody's concern, and many CPUs compute bf16 several times slower."""


def precision(view: View) -> str:
    """What weights and gradients are in: bf16, fp16 or fp32."""
    return "fp16" if view.get("fp16.enabled") else "bf16" if view.get("bf16.enabled") else "fp32"


def _cpu_adam(view: View) -> bool:
    """Whether DeepSpeed's own CPUAdam updates."""
    return view.offloads and view.optimizer in ("adam", "adamw") and not view.get("optimizer.params.torch_adam")


def _masters_without_cpu_adam(view: View, _: RunFacts) -> bool:
    if not view.get(_MASTERS) or view.stage == 0 or _cpu_adam(view):
        return False
    return view.offloads or not view.get(_STATES)


def _other_than_runs(view: View, run: RunFacts) -> bool:
    return "mixed_precision" in run.said and precision(view) != {"no": "fp32"}.get(
        run.mixed_precision, run.mixed_precision
    )


PRECISION = (
    Rule(
        "two-precisions",
        ("fp16.enabled", "bf16.enabled"),
        lambda view, _: view.get("bf16.enabled") and view.get("fp16.enabled"),
        "bf16 and fp16 cannot both be on",
        "turn one off",
        "run: AssertionError, bfloat16 and fp16 modes cannot be simultaneously enabled",
    ),
    Rule(
        "fp16-needs-gpu",
        ("fp16.enabled",),
        lambda view, run: view.get("fp16.enabled") and run.device == "cpu",
        "CPUs have no fp16, but for a few",
        "choose bf16",
        "run: ValueError, Type fp16 is not supported on your device",
    ),
    Rule(
        "fp16-needs-zero",
        ("fp16.enabled", "zero_optimization.stage"),
        lambda view, _: view.get("fp16.enabled") and view.stage == 0,
        "without ZeRO DeepSpeed divides fp16's gradients by the loss scale and never multiplied the loss: they are "
        "65,536 times too small, clipping does not hold, and small ones are lost",
        "choose bf16, ZeRO stage 1, or train without DeepSpeed",
        "run: the first moment is 2**-10 of the gradient where initial_scale_power is 10; runtime/engine.py, backward "
        "scales for ZeRO's optimizers only",
    ),
    Rule(
        "no-precision",
        _SECTIONS,
        lambda view, run: run.parameters >= _SMALL and not any(view.get(path) for path in _SECTIONS),
        "without bf16 and fp16 everything is in fp32: twice the memory of weights, gradients and activations",
        "turn bf16 on",
        "run: masters and weights are the same tensors",
        Level.WARNING,
    ),
    Rule(
        "not-the-runs-precision",
        ("fp16.enabled", "bf16.enabled"),
        _other_than_runs,
        lambda view, run: (
            f"{precision(view)} here, and {run.mixed_precision} in the run (mixed_precision): this one holds; "
            "accelerate's own launch refuses two that differ"
        ),
        "say the same in both",
        "code: accelerate 1.15.0, utils/dataclasses.py, set_mixed_precision",
        Level.WARNING,
    ),
    Rule(
        "bf16-masters-need-zero",
        (_MASTERS, _STATES, _FP16_MASTERS),
        lambda view, _: view.stage == 0 and any(view.get(path) for path in (_MASTERS, _STATES, _FP16_MASTERS)),
        "masters and optimizer states in 16 bits exist at stages 1 to 3 only",
        "choose one of these stages, or turn them off",
        "run: AssertionError, is only supported with ZeRO Stage 1, 2, or 3",
    ),
    Rule(
        "bf16-states-need-masters",
        (_STATES,),
        lambda view, _: view.get(_STATES) and not view.get(_MASTERS) and view.stage > 0,
        "optimizer states in bf16 need masters in bf16",
        f"turn {_MASTERS} on too",
        "run: AssertionError, bf16_optimizer_states requires bf16_master_weights_and_grads",
    ),
    Rule(
        "bf16-masters-need-cpu-adam",
        (_MASTERS,),
        _masters_without_cpu_adam,
        "masters in bf16 need the optimizer on the CPU and DeepSpeed's own Adam, or without offload optimizer states "
        "in bf16 too",
        f"offload AdamW to cpu without torch_adam, or turn {_STATES} on without offload",
        "run: AssertionError, Master weights feature requires ZeRO Offload with DeepSpeedCPUAdam",
    ),
    Rule(
        "bf16-masters-on-nvme",
        (_MASTERS,),
        lambda view, _: view.get(_MASTERS) and view.stage == 3 and view.device("offload_optimizer") == "nvme",
        "masters in bf16 cannot be swapped to NVMe",
        "offload the optimizer to cpu",
        "run: AssertionError without a text; a run here needs the async_io extension",
    ),
    Rule(
        "fp32-parameters-on-nvme",
        ("zero_optimization.offload_param.device",),
        lambda view, run: (
            run.device == "cpu"
            and view.stage == 3
            and view.device("offload_param") == "nvme"
            and precision(view) == "fp32"
        ),
        "on a CPU parameters come back from NVMe in bf16, and the others stay in fp32: the first step fails",
        "turn bf16 on, or offload parameters to cpu",
        "run: RuntimeError, Input type (c10::BFloat16) and bias type (float) should be the same; _set_dtype in "
        "partition_parameters.py takes bf16 for any format where there is no fp16",
    ),
    Rule(
        "fp16-masters-need-cpu-adam",
        (_FP16_MASTERS,),
        lambda view, _: view.get(_FP16_MASTERS) and view.stage > 0 and not _cpu_adam(view),
        "masters in fp16 need the optimizer on the CPU and DeepSpeed's own Adam",
        "offload AdamW to cpu without torch_adam",
        "run on a GPU: AssertionError, Master weights feature requires ZeRO-2 Offload with DeepSpeedCPUAdam",
    ),
    Rule(
        "two-masters",
        (_FP16_MASTERS, _MASTERS),
        lambda view, _: view.get(_FP16_MASTERS) and view.get(_MASTERS),
        "masters cannot be in bf16 and fp16",
        "turn one off",
        "run: AssertionError, mutually exclusive",
    ),
    Rule(
        "masters-not-exact",
        (_MASTERS, _FP16_MASTERS),
        lambda view, _: view.get(_MASTERS) or view.get(_FP16_MASTERS),
        "16-bit masters lose small updates, as DeepSpeed has no stochastic rounding: 92 % of the movement at a "
        "learning rate of 1e-5, 99 % at 1e-6, 29 % at 1e-4",
        "keep fp32 masters unless the learning rate is 1e-4 or more",
        "run: 20 steps against fp32 masters",
        Level.WARNING,
    ),
    Rule(
        "accumulation-format-at-stage-0",
        (_ACCUMULATION,),
        lambda view, _: view.stage == 0 and view.get(_ACCUMULATION) not in (None, precision(view)),
        "at stage 0 gradients are accumulated in the format they have",
        "take it out, or choose a stage",
        "run: NotImplementedError, unsupported mix",
    ),
    Rule(
        "accumulation-in-fp32-on-nvme",
        (_ACCUMULATION,),
        lambda view, _: (
            view.stage == 1
            and view.get(_ACCUMULATION) == "fp32"
            and precision(view) == "bf16"
            and view.device("offload_optimizer") == "nvme"
        ),
        "stage 1 with nvme and fp32 accumulation takes an optimizer that offloads nothing, and CPUAdam in it",
        "offload to cpu",
        "code: deepspeed/runtime/engine.py, _do_optimizer_sanity_check; a GPU shows it: CPUAdam refuses its tensors",
    ),
    Rule(
        "immediate-update-ignored",
        ("bf16.immediate_grad_update",),
        lambda view, _: (
            view.get("bf16.immediate_grad_update")
            and not (view.stage == 1 and view.get(_ACCUMULATION) == "fp32" and not view.offloads)
        ),
        "has no effect but at stage 1 with data_types.grad_accum_dtype fp32 and no offload",
        "take it out",
        "run: the same weights with and without it",
        Level.WARNING,
    ),
    Rule(
        "autocast-beside-16-bits",
        ("torch_autocast.enabled",),
        lambda view, _: view.get("torch_autocast.enabled") and precision(view) != "fp32",
        lambda view, _: f"has no effect: the weights are {precision(view)} already",
        "turn one off",
        "run: the same weights with and without it",
        Level.WARNING,
    ),
    Rule(
        "weights-in-another-format",
        ("data_types.param_dtype",),
        lambda view, _: view.get("data_types.param_dtype") not in (None, precision(view)),
        lambda view, _: f"the weights are {precision(view)} by the bf16 and fp16 sections",
        "take it out, or say the same",
        "run: AssertionError, conflicts with the enabled precision mode",
    ),
)
