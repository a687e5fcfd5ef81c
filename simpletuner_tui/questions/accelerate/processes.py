"""How many processes, on which devices; texts of accelerate 1.15.0."""

from simpletuner_tui.questions.accelerate.common import (
    ACCELERATORS,
    DEEPSPEED,
    MULTI_GPU,
    ON_CPU,
    TAKEN_OVER,
    Section,
    answer,
    at_least,
    needed,
)
from simpletuner_tui.questions.conditions import AllOf, Answer, AnyOf, Context, MoreThan, Not, Probe

ask = Section("accelerate")

UNITS = {
    "MULTI_CPU": "processes",
    "MULTI_XPU": "XPU(s)",
    "MULTI_HPU": "HPU(s)",
    "MULTI_GPU": "GPU(s)",
    "MULTI_NPU": "NPU(s)",
    "MULTI_MLU": "MLU(s)",
    "MULTI_SDAA": "SDAA(s)",
    "MULTI_MUSA": "MUSA(s)",
    "MULTI_NEURON": "NEURON cores",
    "XLA": "XLA(s)",
}
DEVICES = {
    "npu": "NPU(s)",
    "mlu": "MLU(s)",
    "sdaa": "SDAA(s)",
    "musa": "MUSA(s)",
    "xpu": "XPU(s)",
    "hpu": "HPU(s)",
    "neuron": "Neuron cores",
}
"""By probe, in the order accelerate tries them."""

ON_DEVICES = AllOf(
    answer("machine", "NO", *ACCELERATORS),
    Not(TAKEN_OVER),
    Not(ON_CPU),
    Not(Probe("mps")),
)


def processes_text(context: Context) -> str:
    """accelerate's wording, with the unit of the machine; DeepSpeed, FSDP and Megatron-LM always count GPUs."""
    machine = str(context.values.get("accelerate.machine"))
    unit = "GPU(s)" if TAKEN_OVER.holds(context) else UNITS.get(machine, "GPU(s)")
    return f"How many {unit} should be used for distributed training? [1]:"


def devices_text(context: Context) -> str:
    """accelerate's wording, with the first accelerator that is found here, whatever the machine was said to be."""
    unit = next((unit for name, unit in DEVICES.items() if Probe(name).holds(context)), "GPU(s)")
    return f"What {unit} (by id) should be used for training on this machine as a comma-separated list? [all]:"


def device_ids(given: Answer, context: Context) -> None:
    """Refuses what `accelerate launch` refuses later: a missing id, or one alone where several devices train."""
    needed(given, context)
    ids = [part.strip() for part in str(given).split(",")]
    if not all(ids):
        raise ValueError("an id is missing beside a comma; write them like 0,1")
    alone = answer("machine", *ACCELERATORS).holds(context) and context.number("accelerate.num_machines", 1) == 1
    if alone and len(ids) < 2 and given != "all":
        raise ValueError("several devices are to train: write at least two ids, such as 0,1, or all")


PROCESSES = (
    ask.number(
        "num_processes",
        processes_text,
        "num_processes",
        default=1,
        when=AnyOf(answer("machine", *UNITS), DEEPSPEED),
        check=at_least(1),
        help="One process for each GPU. They share the host's RAM and its CPU cores.",
    ),
    ask.stop(
        "stop_one_gpu",
        "Specified distributed type DistributedType.MULTI_GPU but only using 1 GPU on a single machine. Please select "
        "`No distributed training` for the type of machine you are using.",
        MULTI_GPU,
        Not(TAKEN_OVER),
        Not(MoreThan("accelerate.num_machines", 1)),
        Not(MoreThan("accelerate.num_processes", 1)),
        reason="multi-GPU needs at least two processes; one GPU is 'No distributed training'",
    ),
    ask.text(
        "gpu_ids",
        devices_text,
        "gpu_ids",
        default="all",
        when=ON_DEVICES,
        check=device_ids,
        help="Their numbers as nvidia-smi shows them, such as 0,1, or all.",
    ),
    ask.yes_no(
        "numa",
        "Would you like to enable numa efficiency? (Currently only supported on NVIDIA hardware). [yes/NO]: ",
        "enable_cpu_affinity",
        when=AllOf(ON_DEVICES, answer("machine", "NO", "MULTI_GPU")),
        help="Binds each process to the CPU cores nearest to its GPU. `accelerate launch` alone ignores the file here.",
    ),
)
