"""Why a field has no effect with the rest as it is."""

from launcher.deepspeed.fields import FIELDS, Field
from launcher.deepspeed.fields.optimizer import parameters_of
from launcher.deepspeed.fields.scheduler import PARAMETERS
from launcher.deepspeed.view import View

_OF_NVME = {
    "zero_optimization.offload_optimizer": (
        "nvme_path",
        "buffer_count",
        "pipeline_read",
        "pipeline_write",
        "fast_init",
    ),
    "zero_optimization.offload_param": ("nvme_path", "buffer_count", "buffer_size", "max_in_cpu"),
}
"""What only swapping to NVMe reads, by section."""

_WITHOUT_THEIR_SWITCH = frozenset(
    {
        "bf16.bf16_master_weights_and_grads",
        "bf16.bf16_optimizer_states",
        "bf16.immediate_grad_update",
        "fp16.auto_cast",
        "fp16.fp16_master_weights_and_grads",
    }
)
"""Fields that DeepSpeed reads even where their section is not ``enabled``."""


def why_idle(field: Field, view: View) -> str:
    """Why a field has no effect with the rest as it is; empty where it has one."""
    asked = (_in_diffusers, _not_at_this_stage, _no_parameter, _not_offloaded, _switched_off)
    return next(filter(None, (reason(field, view) for reason in asked)), "")


def _in_diffusers(field: Field, _: View) -> str:
    return "diffusers checkpoints activations itself" if field.path.startswith("activation_checkpointing.") else ""


def _not_at_this_stage(field: Field, view: View) -> str:
    if field.stages is None or view.stage in field.stages:
        return ""
    *most, last = map(str, field.stages)
    where = f"stages {', '.join(most)} and {last}" if most else f"stage {last}"
    return f"only at {where}; the stage is {view.stage}"


def _no_parameter(field: Field, view: View) -> str:
    section, _, key = field.path.rpartition(".")
    if section == "optimizer.params":
        torch_adam = bool(view.get("optimizer.params.torch_adam"))
        known = parameters_of(view.optimizer, offloaded=view.offloads, torch_adam=torch_adam)
        where = "torch's own" if torch_adam else "on the CPU" if view.offloads else "on the GPU"
        name = f"{view.get('optimizer.type')} ({where})"
    elif section == "scheduler.params":
        known, name = PARAMETERS.get(view.scheduler), view.scheduler
    else:
        return ""
    return "" if known is None or key in known else f"{name} does not take it"


def _not_offloaded(field: Field, view: View) -> str:
    section, _, key = field.path.rpartition(".")
    if section == "aio":
        return "" if view.uses_nvme else "nothing is offloaded to NVMe"
    if section not in _OF_NVME or key == "device":
        return ""
    device = view.device(section.rpartition(".")[2])
    if device == "none":
        return f"nothing is offloaded: {section}.device is none"
    if key in _OF_NVME[section] and device != "nvme":
        return f"only for NVMe; {section}.device is {device}"
    if key == "cpuadam_cores_perc" and not view.get(f"{section}.super_offload"):
        return f"{section}.super_offload is false"
    return ""


def _switched_off(field: Field, view: View) -> str:
    path = field.path
    switch = f"{path.rpartition('.')[0]}.enabled"
    if switch not in FIELDS or path == switch or path in _WITHOUT_THEIR_SWITCH or view.get(switch):
        return ""
    return f"{switch} is false"
