"""Checkpoint settings that write nothing or cannot be resumed, and sections without effect here."""

from launcher.config.setting import Level
from launcher.deepspeed.fields import FIELDS
from launcher.deepspeed.rules.rule import Rule

_ACTIVATIONS = tuple(path for path in FIELDS if path.startswith("activation_checkpointing."))

DIAGNOSTICS = (
    Rule(
        "profiler-too-deep",
        ("flops_profiler.module_depth",),
        lambda view, run: (
            view.get("flops_profiler.enabled") and view.get("flops_profiler.module_depth") > run.module_levels
        ),
        lambda _, run: f"the profiled step fails: the model's modules are {run.module_levels} deep",
        "set -1 for all of them",
        "run: KeyError at the profiled step",
    ),
    Rule(
        "writer-needs-launcher",
        ("checkpoint.writer",),
        lambda view, _: isinstance(view.raw("checkpoint.writer"), dict),
        "a writer of checkpoints needs CROSS_SIZE in the environment, which DeepSpeed's own launcher alone sets",
        "take it out",
        "run: KeyError, 'CROSS_SIZE', with each type of writer",
    ),
    Rule(
        "resumes-universal-only",
        ("checkpoint.load_universal",),
        lambda view, _: view.get("checkpoint.load_universal"),
        "checkpoints written here are DeepSpeed's own: a run with it cannot be resumed",
        "take it out",
        "code: deepspeed/runtime/engine.py, load_checkpoint",
        Level.WARNING,
    ),
    Rule(
        "activations-elsewhere",
        _ACTIVATIONS,
        lambda view, _: any(view.has(path) and view.differs(path) for path in _ACTIVATIONS),
        "has no effect on diffusers, which checkpoints activations itself",
        "set training.gradient_checkpointing",
        "code: read by deepspeed.checkpointing.configure alone, which nothing calls here",
        Level.WARNING,
    ),
)
