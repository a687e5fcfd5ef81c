"""What the processes get from the machine."""

from dataclasses import dataclass

from launcher.config.setting import setting


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """What the processes get from the machine."""

    cpu_threads: int = setting(
        0,
        "Threads of each process for work on the CPU, the offloaded optimizer first of all. 0: OMP_NUM_THREADS where "
        "the shell has it, else physical cores divided by processes.",
        unit="threads",
        minimum=0,
        maximum=4096,
    )
    max_workers: int = setting(
        0,
        "Threads of each process that read and decode pictures while latents are computed. 0: as many as it has "
        "for work on the CPU, 8 at the most.",
        unit="threads",
        minimum=0,
        maximum=256,
    )
    attention_mechanism: str = setting(
        "sdpa",
        "How attention is computed: `sdpa` takes the best kernel that torch has here, `flash` starts with flash "
        "attention only.",
        choices=("sdpa", "flash"),
    )
    offload_param_path: str = setting(
        "",
        "Folder for NVMe offload of parameters and optimizer states where their own paths are left out, blank or "
        "`none`. Empty: there is none.",
        path=True,
    )
