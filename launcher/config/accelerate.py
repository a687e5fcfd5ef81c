"""accelerate's two files: the one its questionnaire writes, and the one a launch is given.

The questionnaire's file is kept as it is; the launch file is derived, because ``accelerate launch`` refuses
a ``deepspeed_config_file`` beside an inline stage, accumulation or precision.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launcher.config.setting import Problem

PATHS_FROM_DEEPSPEED_CONFIG: dict[str, str] = {
    "zero_stage": "zero_optimization.stage",
    "offload_optimizer_device": "zero_optimization.offload_optimizer.device",
    "offload_param_device": "zero_optimization.offload_param.device",
    "offload_optimizer_nvme_path": "zero_optimization.offload_optimizer.nvme_path",
    "offload_param_nvme_path": "zero_optimization.offload_param.nvme_path",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "gradient_clipping": "gradient_clipping",
    "zero3_save_16bit_model": "zero_optimization.stage3_gather_16bit_weights_on_model_save",
}
"""Which DeepSpeed setting each answer in ``deepspeed_config`` owns."""

_OTHER_ACCELERATOR = "not launched from here: NVIDIA GPUs and CPUs only"

LAUNCHED = ("NO", "MULTI_GPU", "MULTI_CPU", "DEEPSPEED")
"""What a file's distributed_type may be to be launched from here."""

NOT_LAUNCHED: dict[str, str] = {
    "AMAZON_SAGEMAKER": "not launched from here",
    "MULTI_XPU": _OTHER_ACCELERATOR,
    "MULTI_HPU": _OTHER_ACCELERATOR,
    "MULTI_NPU": _OTHER_ACCELERATOR,
    "MULTI_MLU": _OTHER_ACCELERATOR,
    "MULTI_SDAA": _OTHER_ACCELERATOR,
    "MULTI_MUSA": _OTHER_ACCELERATOR,
    "MULTI_NEURON": _OTHER_ACCELERATOR,
    "XLA": _OTHER_ACCELERATOR,
    "FSDP": "not launched: training runs through DeepSpeed or plain PyTorch, not FSDP",
    "MEGATRON_LM": "not launched: training runs through DeepSpeed or plain PyTorch, not Megatron-LM",
    "mpirun": "not launched: processes of one machine are started without mpirun",
    "several machines on CPUs": "not launched: on CPUs without DeepSpeed a run is started on one machine",
    "other launcher": "not launched: several machines are started by standard, on each of them, or by pdsh",
    "fp8": "not launched: SDXL trains in bf16, fp16 or fp32 here",
    "MoE": "not launched: SDXL has no mixture of experts",
}
"""Why what a file says is not launched from here: by the value it holds, or by what it is about."""


BACKENDS = ("EAGER", "AOT_EAGER", "INDUCTOR", "CUDAGRAPHS")
"""What may compile the U-Net, as accelerate names torch's backends."""

_NO_SUCH_BACKEND = "not launched: torch has no backend of this name any more; choose inductor"

BACKENDS_NOT_LAUNCHED: dict[str, str] = {
    "AOT_TS_NVFUSER": _NO_SUCH_BACKEND,
    "NVPRIMS_NVFUSER": _NO_SUCH_BACKEND,
    "OFI": _NO_SUCH_BACKEND,
    "FX2TRT": _NO_SUCH_BACKEND,
    "ONNXRT": _NO_SUCH_BACKEND,
    "TENSORRT": _NO_SUCH_BACKEND,
    "AOT_TORCHXLA_TRACE_ONCE": _NO_SUCH_BACKEND,
    "TORCHXLA_TRACE_ONCE": _NO_SUCH_BACKEND,
    "TVM": "not launched: TVM compiles models for use, not for training; choose inductor",
    "HPU_BACKEND": _OTHER_ACCELERATOR,
    "NEURON": _OTHER_ACCELERATOR,
}
"""Why the others of accelerate's backends are not, by name."""


@dataclass(frozen=True, slots=True)
class Dynamo:
    """How ``torch.compile`` treats the U-Net."""

    backend: str = "INDUCTOR"
    """What turns the traced model into code: one of :data:`BACKENDS`."""
    mode: str = "default"
    """``default``, ``reduce-overhead`` or ``max-autotune``; inductor alone knows it."""
    fullgraph: bool = False
    """A model that does not compile in one piece is refused."""
    dynamic: bool = False
    """Compiled once for all shapes instead of once for each."""
    regional: bool = False
    """Blocks that repeat are compiled one by one, instead of the model as a whole."""

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> "Dynamo | None":
        """What a file of accelerate says; None where nothing is to be compiled.

        Args:
            content: the file as an object.
        """
        said = content.get("dynamo_config") or {}
        backend = str(said.get("dynamo_backend", "NO")).upper()
        if backend == "NO":
            return None
        return cls(
            backend,
            said.get("dynamo_mode", "default"),
            said.get("dynamo_use_fullgraph", False),
            said.get("dynamo_use_dynamic", False),
            said.get("dynamo_use_regional_compilation", False),
        )

    def to_yaml_object(self) -> dict[str, Any]:
        """``dynamo_config`` of accelerate's file."""
        return {
            "dynamo_backend": self.backend,
            "dynamo_mode": self.mode,
            "dynamo_use_fullgraph": self.fullgraph,
            "dynamo_use_dynamic": self.dynamic,
            "dynamo_use_regional_compilation": self.regional,
        }


@dataclass(frozen=True, slots=True)
class Machines:
    """Several machines that train together.

    The same run is started on each of them with its own rank, or pdsh starts it on all of them from the first one.
    """

    count: int
    rank: int
    """This machine's number, from 0."""
    main_process_ip: str
    """Of the machine with rank 0, as the others reach it."""
    main_process_port: int
    same_network: bool = True
    """Without it they meet at the main machine by ``rdzv_backend``, and not by address and port alone."""
    rdzv_backend: str = "static"
    launcher: str = "standard"
    """``standard`` or ``pdsh``."""
    hostfile: str = ""
    """For pdsh: a line for each machine, ``hostname slots=GPUS``."""
    inclusion_filter: str = ""
    exclusion_filter: str = ""

    @property
    def over_ssh(self) -> bool:
        """Whether they are all started from the first one."""
        return self.launcher == "pdsh"

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> "Machines | None":
        """What a file of accelerate says; None for one machine.

        Args:
            content: the file as an object.
        """
        if content.get("num_machines", 1) <= 1:
            return None
        return cls(
            content["num_machines"],
            content.get("machine_rank", 0),
            str(content.get("main_process_ip", "")),
            content.get("main_process_port", 29500),
            content.get("same_network", True),
            content.get("rdzv_backend", "static"),
            *_started_by(content),
        )

    def deepspeed_part(self) -> dict[str, Any]:
        """Their part of ``deepspeed_config``."""
        part = {
            "deepspeed_multinode_launcher": self.launcher,
            "deepspeed_hostfile": self.hostfile,
            "deepspeed_inclusion_filter": self.inclusion_filter,
            "deepspeed_exclusion_filter": self.exclusion_filter,
        }
        return {key: value for key, value in part.items() if value}

    def to_yaml_object(self) -> dict[str, Any]:
        """Their part of accelerate's file."""
        return {
            "machine_rank": self.rank,
            "main_process_ip": self.main_process_ip,
            "main_process_port": self.main_process_port,
            "num_machines": self.count,
            "rdzv_backend": self.rdzv_backend,
            "same_network": self.same_network,
        }


def _started_by(content: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Launcher, hostfile and filters; what is not DeepSpeed has accelerate's standard launcher alone."""
    inline = (content.get("deepspeed_config") or {}) if uses_deepspeed(content) else {}
    if not inline:
        return "standard", "", "", ""
    launcher = str(inline.get("deepspeed_multinode_launcher", "pdsh"))
    keys = ("hostfile", "inclusion_filter", "exclusion_filter")
    hostfile, inclusion, exclusion = (str(inline.get(f"deepspeed_{key}") or "") for key in keys)
    return launcher, hostfile, inclusion, exclusion


@dataclass(frozen=True, slots=True)
class LaunchSettings:
    """What ``accelerate launch`` needs to know."""

    num_processes: int = 1
    """On all machines."""
    use_cpu: bool = False
    """Train on the CPU even where a GPU is."""
    deepspeed: bool = True
    """Without it plain PyTorch trains, everything on the device."""
    gpu_ids: str = "all"
    """Which GPUs, by index, joined by commas."""
    cpu_affinity: bool = False
    """Processes are bound to the NUMA node of their GPU."""
    dynamo: Dynamo | None = None
    """How the U-Net is compiled; None: it is not."""
    machines: Machines | None = None
    """None: this one alone."""

    @property
    def machine_count(self) -> int:
        """How many machines train."""
        return self.machines.count if self.machines else 1

    @property
    def processes_here(self) -> int:
        """How many processes train on each machine."""
        return max(1, self.num_processes // self.machine_count)

    def to_yaml_object(self) -> dict[str, Any]:
        """accelerate.yaml of a run directory; the JSON it names lies beside it."""
        several = "MULTI_CPU" if self.use_cpu else "MULTI_GPU"
        content = {
            "compute_environment": "LOCAL_MACHINE",
            "debug": False,
            "distributed_type": "DEEPSPEED" if self.deepspeed else several if self.num_processes > 1 else "NO",
            "downcast_bf16": "no",
            "enable_cpu_affinity": self.cpu_affinity,
            "machine_rank": 0,
            "main_training_function": "main",
            "num_machines": 1,
            "num_processes": self.num_processes,
            "rdzv_backend": "static",
            "same_network": True,
            "tpu_env": [],
            "tpu_use_cluster": False,
            "tpu_use_sudo": False,
            "use_cpu": self.use_cpu,
        }
        if self.dynamo:
            content["dynamo_config"] = self.dynamo.to_yaml_object()
        if self.machines:
            content |= self.machines.to_yaml_object()
        if self.deepspeed:
            part: dict[str, Any] = {"deepspeed_config_file": "deepspeed.json", "zero3_init_flag": False}
            if self.machines:
                part |= self.machines.deepspeed_part()
            return content | {"deepspeed_config": part}
        # The precision is the training's own business: deepspeed.json says it.
        return content | {"gpu_ids": self.gpu_ids, "mixed_precision": "no"}


def read_accelerate(
    content: Mapping[str, Any],
) -> tuple[LaunchSettings, dict[str, object], list[Problem]]:
    """What a questionnaire's file says to a launch on this machine.

    Args:
        content: the file as an object, as ``accelerate config`` writes it.

    Returns:
        Launch settings; the DeepSpeed values it owns, by JSON path; and what cannot be launched.
    """
    problems = _what_cannot_launch(content)
    deepspeed = (content.get("deepspeed_config") or {}) if uses_deepspeed(content) else {}
    values: dict[str, object] = {
        path: deepspeed[key] for key, path in PATHS_FROM_DEEPSPEED_CONFIG.items() if key in deepspeed
    }
    if "deepspeed_config_file" not in deepspeed:
        # Not asked below stage 2, and not answered means none; clipping not wanted means none too.
        values.setdefault("zero_optimization.offload_optimizer.device", "none")
        values.setdefault("zero_optimization.offload_param.device", "none")
        if uses_deepspeed(content):
            values.setdefault("gradient_clipping", 0.0)
        precision = content.get("mixed_precision", "no")
        values["precision"] = "no" if precision == "fp8" else precision
    launch = LaunchSettings(
        num_processes=content.get("num_processes", 1),
        use_cpu=content.get("use_cpu", False),
        deepspeed=uses_deepspeed(content),
        gpu_ids=str(content.get("gpu_ids") or "all"),
        cpu_affinity=content.get("enable_cpu_affinity", False),
        dynamo=Dynamo.read(content),
        machines=Machines.read(content),
    )
    if not launch.deepspeed:
        values["zero_optimization.stage"] = 0
    return launch, values, problems


def _what_cannot_launch(content: Mapping[str, Any]) -> list[Problem]:
    if content.get("compute_environment") == "AMAZON_SAGEMAKER":
        return [_unlaunchable("environment", "AMAZON_SAGEMAKER")]
    problems = []
    kind = content.get("distributed_type", "NO")
    if kind not in LAUNCHED:
        taken = {"FSDP": "use_fsdp", "MEGATRON_LM": "use_megatron"}
        problems.append(_unlaunchable(taken.get(kind, "machine"), kind))
    if content.get("mpirun_config"):
        problems.append(_unlaunchable("use_mpirun", "mpirun"))
    problems += _what_machines_cannot_launch(content)
    if content.get("num_processes", 1) < 1:
        problems.append(Problem("accelerate.num_processes", "must be at least 1"))
    dynamo = Dynamo.read(content)
    if dynamo and dynamo.backend not in BACKENDS:
        reason = BACKENDS_NOT_LAUNCHED.get(dynamo.backend, _NO_SUCH_BACKEND)
        problems.append(Problem("accelerate.dynamo_backend", f"{dynamo.backend.lower()}: {reason}", rule="launch"))
    if (content.get("deepspeed_config") or {}).get("deepspeed_moe_layer_cls_names"):
        problems.append(_unlaunchable("use_moe", "MoE"))
    if content.get("mixed_precision") == "fp8":
        problems.append(_unlaunchable("mixed_precision", "fp8"))
    return problems


def uses_deepspeed(content: Mapping[str, Any]) -> bool:
    """Whether a file of accelerate's says that DeepSpeed trains."""
    return bool(content.get("distributed_type") == "DEEPSPEED")


def _what_machines_cannot_launch(content: Mapping[str, Any]) -> list[Problem]:
    machines = Machines.read(content)
    if machines is None:
        return []
    problems = []
    if content.get("distributed_type") == "MULTI_CPU":
        problems.append(_unlaunchable("num_machines", "several machines on CPUs"))
    inline = content.get("deepspeed_config") or {}
    if uses_deepspeed(content) and inline.get("deepspeed_multinode_launcher", "pdsh") not in ("standard", "pdsh"):
        problems.append(_unlaunchable("ds_launcher", "other launcher"))
    if machines.over_ssh and machines.rank:
        message = "pdsh starts all machines from the one with rank 0: start the run there alone"
        problems.append(Problem("accelerate.machine_rank", message))
    if content.get("num_processes", 1) % machines.count:
        message = f"must be a multiple of the {machines.count} machines, each of which trains with equally many"
        problems.append(Problem("accelerate.num_processes", message))
    return problems


def _unlaunchable(question: str, what: str) -> Problem:
    return Problem(f"accelerate.{question}", NOT_LAUNCHED[what], rule="launch")
