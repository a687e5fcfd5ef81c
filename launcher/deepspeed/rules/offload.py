"""What can be offloaded where, and what NVMe needs."""

from launcher.config.setting import Level
from launcher.deepspeed.fields import FIELDS
from launcher.deepspeed.nvme import (
    MOMENTS,
    drive_life,
    largest_group,
    no_path,
    parameters_on_nvme,
    partition_of_largest,
)
from launcher.deepspeed.rules.rule import Rule
from launcher.deepspeed.run_facts import RunFacts
from launcher.deepspeed.view import View

_Z = "zero_optimization"
_PREFETCH = f"{_Z}.stage3_prefetch_bucket_size"
_OPTIMIZER = f"{_Z}.offload_optimizer"
_PARAM = f"{_Z}.offload_param"
_RATIO = f"{_OPTIMIZER}.ratio"
_SUPER = f"{_OPTIMIZER}.super_offload"


def _needs_path(part: str) -> Rule:
    def broken(view: View, _: RunFacts) -> bool:
        return view.stage == 3 and view.device(part) == "nvme" and no_path(view.raw(f"{_Z}.{part}.nvme_path"))

    return Rule(
        "nvme-needs-path",
        (f"{_Z}.{part}.nvme_path",),
        broken,
        "NVMe offload needs a folder",
        "set it, or the run's offload_param_path",
        "run: TypeError, expected str, bytes or os.PathLike object, not NoneType",
    )


def _buffers_needed(view: View) -> int:
    return 2 + MOMENTS.get(view.optimizer, 2)


def _ratio_with(view: View) -> bool:
    return view.stage == 3 and view.offloads and view.get(_RATIO) < 1


OFFLOAD = (
    Rule(
        "offload-needs-zero",
        (f"{_OPTIMIZER}.device",),
        lambda view, _: view.stage == 0 and view.offloads,
        "the optimizer cannot be offloaded at stage 0: nothing is moved, and CPUAdam refuses the GPU's tensors",
        "choose stage 1, 2 or 3, or no offload",
        "run on a GPU: AssertionError, CPUAdam param is on cuda:0 and must be 'cpu'",
    ),
    Rule(
        "param-offload-needs-stage-3",
        (f"{_PARAM}.device",),
        lambda view, _: view.stage < 3 and view.device("offload_param") != "none",
        "parameters are offloaded at stage 3 only; below it DeepSpeed ignores this without a word and saves no memory",
        "what saves memory there is offload_optimizer: take it out, or choose stage 3",
        "run: the same weights and memory with and without it",
        Level.WARNING,
    ),
    Rule(
        "nvme-needs-stage-3",
        (f"{_OPTIMIZER}.device",),
        lambda view, _: view.stage in (1, 2) and view.device("offload_optimizer") == "nvme",
        "NVMe is used at stage 3 only; below it nvme means cpu: everything stays in host memory and no file is written",
        "choose cpu, or stage 3",
        "run: no file in the folder, the same weights as with cpu",
        Level.WARNING,
    ),
    _needs_path("offload_optimizer"),
    _needs_path("offload_param"),
    Rule(
        "nvme-buffers-too-few",
        (f"{_OPTIMIZER}.buffer_count",),
        lambda view, _: (
            view.stage == 3
            and view.device("offload_optimizer") == "nvme"
            and view.get(f"{_OPTIMIZER}.buffer_count") < _buffers_needed(view)
        ),
        lambda view, _: (
            f"{view.get('optimizer.type')} needs {_buffers_needed(view)} buffers: weight, gradient and moments"
        ),
        "set as many",
        "run: ValueError, range() arg 3 must not be zero",
    ),
    Rule(
        "nvme-buffers-too-small",
        (f"{_PARAM}.buffer_size",),
        lambda view, run: (
            view.stage == 3
            and view.device("offload_param") == "nvme"
            and view.get(f"{_PARAM}.buffer_size") < partition_of_largest(run)
        ),
        lambda view, run: (
            f"a buffer of {view.get(f'{_PARAM}.buffer_size'):.0f} elements does not hold the model's largest "
            f"parameter: {partition_of_largest(run)} elements on one GPU"
        ),
        "take it out to have it fitted",
        "run: AssertionError, More elements than buffer size",
    ),
    Rule(
        "nvme-parameters-fetched-ahead",
        (_PREFETCH,),
        lambda view, run: parameters_on_nvme(view, run) and view.get(_PREFETCH) > 0,
        "DeepSpeed cannot fetch parameters ahead from NVMe: where forward ends it swaps one in twice, and stops",
        "take it out to have it set to 0",
        "run: AssertionError, param 4 already assigned swap buffer id 3, at the second step",
    ),
    Rule(
        "nvme-parameters-alone",
        (f"{_PARAM}.device",),
        lambda view, run: parameters_on_nvme(view, run) and view.device("offload_optimizer") != "nvme",
        "with parameters on NVMe and the optimizer elsewhere DeepSpeed cannot load its own checkpoints: the run "
        "cannot be resumed",
        "offload the optimizer to nvme too, or parameters to cpu",
        "run: AttributeError, 'NoneType' object has no attribute 'data', in load_checkpoint",
        Level.WARNING,
    ),
    Rule(
        "nvme-fast-init",
        (f"{_PARAM}.buffer_size", f"{_OPTIMIZER}.fast_init"),
        lambda view, run: (
            parameters_on_nvme(view, run)
            and view.device("offload_optimizer") == "nvme"
            and view.get(f"{_OPTIMIZER}.fast_init")
            and view.get(f"{_PARAM}.buffer_size") < largest_group(view, run)
        ),
        lambda view, run: (
            f"with fast_init a buffer for parameters holds a sub-group: up to {largest_group(view, run):,} elements"
        ),
        "take fast_init out, or make buffer_size as large",
        "run: AssertionError, numel of fp16 buffers is too small for initializing fp32 params",
    ),
    Rule(
        "nvme-wears",
        (f"{_OPTIMIZER}.device", f"{_PARAM}.device"),
        lambda view, _: view.uses_nvme,
        drive_life,
        "offload to cpu where host memory suffices",
        "run: 16 bytes a parameter written for each step, 18 with parameters; DeepSpeed warns of it too",
        Level.WARNING,
    ),
    Rule(
        "ratio-needs-stage-3",
        (_RATIO,),
        lambda view, _: view.stage < 3 and view.get(_RATIO) < 1,
        "part of the optimizer can be offloaded at stage 3 only",
        "take it out, or choose stage 3",
        "run: AssertionError, Partial offloading only supported for ZeRO Stage 3",
    ),
    Rule(
        "ratio-needs-cpu-adam",
        (_RATIO,),
        lambda view, _: (
            _ratio_with(view)
            and (view.optimizer not in ("adam", "adamw") or bool(view.get("optimizer.params.torch_adam")))
        ),
        "part of the optimizer can be offloaded with DeepSpeed's own Adam only",
        "choose AdamW without torch_adam, or take it out",
        "run: AssertionError, Hybrid Optimizer Only Supports DeepSpeedCPUAdam",
    ),
    Rule(
        "ratio-needs-cpu",
        (_RATIO,),
        lambda view, _: _ratio_with(view) and view.device("offload_optimizer") == "nvme",
        "part of the optimizer can be offloaded to cpu only, not to NVMe",
        "offload to cpu, or take it out",
        "DeepSpeed's issue 4872; a GPU shows it",
    ),
    Rule(
        "ratio-forgets",
        (_RATIO,),
        lambda view, _: _ratio_with(view) and view.device("offload_optimizer") == "cpu",
        "the GPU's share keeps its first learning rate whatever the schedule, and its moments are not saved",
        "set 1.0, unless the learning rate is constant and the run is never resumed",
        "run: with the accelerator's name changed, the rate stayed while the schedule was at 0",
        Level.WARNING,
    ),
    Rule(
        "super-offload-needs-cuda",
        (_SUPER,),
        lambda view, run: view.stage == 3 and view.get(_SUPER) and run.device != "cuda",
        "super_offload needs an NVIDIA GPU",
        "take it out",
        "run: AssertionError, SuperOffload only supports NVIDIA CUDA GPUs",
    ),
    Rule(
        "io-settings-without-nvme",
        tuple(path for path in FIELDS if path.startswith("aio.")),
        lambda view, _: view.stage == 3 and not view.uses_nvme and isinstance(view.raw("aio"), dict),
        "has no effect without NVMe offload",
        "take the section out, or offload to nvme",
        "run: the same weights with and without it",
        Level.WARNING,
    ),
    Rule(
        "direct-storage-needs-cuda",
        ("aio.use_gds",),
        lambda view, run: view.get("aio.use_gds") and run.device != "cuda",
        "GPUDirect Storage needs an NVIDIA GPU",
        "take it out",
        "run: AssertionError, GDS currently only supported for CUDA accelerator",
    ),
)
