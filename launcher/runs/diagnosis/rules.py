"""What runs are known to die of, as data: by which signs it is told, what happened, and what to do."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

LOST_ANOTHER = ("Connection closed by peer", "Connection reset by peer", "NCCL communicator was aborted")
"""What gloo and NCCL say when a process at the other end is gone."""
COMPILER = (r"(?:fatal )?error: ", r"command not found", r"No such file or directory", r"ninja: build stopped")
AGAIN = "start the run again: it continues from its newest checkpoint"


@dataclass(frozen=True, slots=True)
class Rule:
    """One known failure.

    ``happened`` and ``advice`` may name facts in braces: what the groups of ``facts`` found in the lines with a sign,
    else what ``unless`` has; and of its plan: ``python``, which trains, and ``extensions``, the folder it compiles to.
    """

    name: str
    """For programs; it stays as it is."""
    what: str
    """In a few words."""
    happened: str
    """A sentence without its full stop."""
    advice: tuple[str, ...]
    """What helps, the likeliest first."""
    signs: tuple[str, ...] = ()
    """Regular expressions; one that is found in what the training said, or in its log, is enough."""
    signals: frozenset[int] = frozenset()
    """Signals that end a process so; where there are signs too, either is enough."""
    both: bool = False
    """A signal and a sign are needed."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Regular expressions with one group each, by the name of the fact."""
    unless: Mapping[str, str] = field(default_factory=dict)
    """What stands for a fact that is not found."""
    shown: tuple[str, ...] = ()
    """Which lines of the log tell of it, beside those with a sign."""

    def sign_in(self, text: str) -> bool:
        """Whether a line has one of the signs."""
        return any(re.search(sign, text) for sign in self.signs)


RULES: tuple[Rule, ...] = (
    Rule(
        "host-memory-kernel",
        "host RAM ran out",
        "the kernel killed the training because host RAM ran out",
        (
            "lower training.train_batch_size or the number of processes",
            "turn off pinned memory: it cannot be swapped and is rounded up",
            "free RAM, or raise the limit of the container or job; `simpletuner-tui estimate` says what the run takes",
        ),
        signals=frozenset({9}),
        both=True,
        # mm/oom_kill.c and mm/memcontrol.c of the kernel; the last line is the supervisor's own
        signs=(
            r"kernel: .*(?:oom-kill:|[Oo]ut of memory: Killed process)",
            r"processes killed for memory since the start",
        ),
    ),
    Rule(
        "host-memory-likely",
        "killed",
        "the training was killed (signal 9), most likely by the kernel because host RAM ran out",
        (
            "lower training.train_batch_size or the number of processes",
            "turn off pinned memory",
            "free RAM, or raise the limit of the container or job; `simpletuner-tui estimate` says what the run takes",
        ),
        signals=frozenset({9}),
        shown=(r"exitcode *: -9", r"SIGKILL"),
    ),
    Rule(
        "shared-memory",
        "shared memory ran out",
        "the training met a bus error or had no shared memory left: /dev/shm is too small, or a file that it had "
        "mapped was cut short or lies on a full disk",
        (
            "give the container more (docker run --shm-size=8g, or --ipc=host); `df -h /dev/shm` shows what it has",
            "make sure that nothing replaces the model or the caches while it trains, and that their disk has room",
        ),
        signals=frozenset({7}),
        signs=(
            r"Bus error",
            r"insufficient shared memory \(shm\)",
            r"unable to (?:open|allocate|resize) shared memory",
            r"[Ee]rror while creating shared memory segment",
        ),
        shown=(r"exitcode *: -7", r"SIGBUS"),
    ),
    Rule(
        "other-processor",
        "compiled for another processor",
        "an extension has instructions that this processor does not know (signal 4): it was compiled on another one",
        ("remove the folder of compiled extensions (`rm -r {extensions}`) and start the run again",),
        signals=frozenset({4}),
        signs=(r"[Ii]llegal instruction",),
        shown=(r"exitcode *: -4", r"SIGILL"),
    ),
    Rule(
        "locked-memory",
        "memory may not be locked",
        "NVMe offload could not lock its buffers in memory: the limit for locked memory is too low",
        (
            "raise it (`ulimit -l unlimited`; docker run --ulimit memlock=-1)",
            "lower deepspeed.zero_optimization.sub_group_size",
        ),
        signs=(r"mlock failed to allocate",),
    ),
    Rule(
        "gpu-memory",
        "out of GPU memory",
        "the GPU ran out of memory",
        (),  # follows from the settings: gpu_memory.changes
        signs=(
            r"the GPU is out of memory",
            r"CUDA out of memory",
            r"CUDA error: out of memory",
            r"CUBLAS_STATUS_ALLOC_FAILED",
        ),
    ),
    Rule(
        "gpu-lost",
        "the GPU was lost",
        "the driver lost the GPU, or the GPU met a fault of its hardware",
        (
            "look at `nvidia-smi` and `dmesg | grep -i xid`; a reset or a restart of the machine brings most back",
            f"{AGAIN}; where it happens again, look at power, temperature and the seat of the card",
        ),
        # Xids of faults, not of programs: docs.nvidia.com/deploy/xid-errors
        signs=(
            r"NVRM: Xid .*: (?:48|62|63|64|74|79|92|94|95|119|120|140)\b",
            r"fallen off the bus",
            r"GPU is lost",
            r"uncorrectable (?:ECC|NVLink) error",
            r"CUDA error: (?:unspecified launch failure|unknown error|hardware stack error|the launch timed out)",
        ),
    ),
    Rule(
        "driver",
        "the driver does not fit",
        "the NVIDIA driver shows this process no GPU that it could use",
        (
            "look at `nvidia-smi`: it must list the GPU here, in this container",
            "after an update of the driver restart the machine; a torch for an older CUDA needs no newer driver",
        ),
        signs=(
            r"CUDA driver version is insufficient",
            r"Driver/library version mismatch",
            r"no CUDA-capable device is detected",
            r"CUDA-capable device\(s\) is/are busy or unavailable",
        ),
    ),
    Rule(
        "async-io-build",
        "NVMe offload without libaio",
        "NVMe offload needs DeepSpeed's async_io extension, which does not compile here",
        (
            "install a C++ compiler and the headers of Python and libaio (Debian, Ubuntu: apt install g++ python3-dev "
            "libaio-dev; Fedora: dnf install gcc-c++ python3-devel libaio-devel)",
            "offload to cpu instead",
        ),
        signs=(
            r"async_io extension, which does not compile",
            r"Unable to JIT load the async_io op",
            r"Error building extension 'async_io'",
            r"libaio\.h: No such file",
        ),
        shown=(*COMPILER, r"requires the dev libaio"),
    ),
    Rule(
        "cuda-compiler",
        "two versions of CUDA",
        "the CUDA compiler here ({nvcc}) is not of the version that torch is built for ({torch})",
        (
            "install the CUDA toolkit of torch's version, and let CUDA_HOME name it",
            "offload the optimizer with deepspeed.optimizer.params.torch_adam: nothing is compiled then",
        ),
        signs=(r"Installed CUDA version \S+ does not match the version torch was compiled with",),
        facts={
            "nvcc": r"Installed CUDA version (\S+) does not",
            "torch": r"torch was compiled with ([\d.]+\d)",
        },
        unless={"nvcc": "nvcc", "torch": "another"},
    ),
    Rule(
        "extension-build",
        "an extension does not compile",
        "DeepSpeed's {extension} extension does not compile here",
        (
            "install a C++ compiler and Python's headers (Debian, Ubuntu: apt install g++ python3-dev; Fedora: dnf "
            "install gcc-c++ python3-devel), and ninja beside torch (`{python} -m pip install ninja`)",
            "choose AdamW with deepspeed.optimizer.params.torch_adam: nothing is compiled then",
        ),
        signs=(
            r"extension, which does not compile",
            r"Error building extension '",
            r"Unable to JIT load the \w+ op",
            r"Ninja is required to load C\+\+ extensions",
            r"requires the \w+ op, which failed to build/load",
            r"object has no attribute 'ds_opt_adam'",
        ),
        facts={"extension": r"(?:DeepSpeed's (?=\w+ extension)|building extension '|load the |requires the )(\w+)"},
        unless={"extension": "CPU Adam"},
        shown=COMPILER,
    ),
    Rule(
        "port",
        "a port is in use",
        "another process has the port {port} at which the processes of this run meet",
        (
            "answer accelerate.main_process_port with another, the same on every machine",
            "see who has it (`ss -ltnp`): it may be an earlier launch, which `simpletuner-tui runs` shows",
        ),
        signs=(r"EADDRINUSE", r"[Aa]ddress already in use", r"port `\d+`, but another process is utilizing it"),
        facts={"port": r"(?:on port `|port[:=] ?|\]:|\d\.\d+:)(\d{2,5})\b"},
        unless={"port": "of accelerate.main_process_port"},
    ),
    Rule(
        "disk-full",
        "no space left",
        "no space left on the disk of {file}",
        (f"make room there and {AGAIN}", "lower training.checkpoints_total_limit"),
        signs=(r"No space left on device", r"Disk quota exceeded", r"\(0\.0 GiB free there\)"),
        facts={"file": r"(?:No space left on device|Disk quota exceeded): '([^']+)'"},
        unless={"file": "the run or of its caches"},
    ),
    Rule(
        "package",
        "a package is missing",
        "the Python package {package} is not installed where it trains",
        ("install what holds it (`{python} -m pip install {package}`), or this project with what it needs",),
        signs=(r"No module named '", r"PackageNotFoundError: No package metadata"),
        facts={"package": r"(?:No module named '|No package metadata was found for )([\w.-]+)"},
        unless={"package": "it needs"},
    ),
    Rule(
        "host-memory",
        "host RAM is used up",
        "host RAM is used up",
        (
            "lower training.train_batch_size or the number of processes",
            "offload less of the training to the CPU",
        ),
        # c10/core/impl/alloc_cpu.cpp for the first of torch
        signs=(
            r"MemoryError\b",
            r"DefaultCPUAllocator: can't allocate memory",
            r"Cannot allocate memory",
            r"std::bad_alloc",
        ),
    ),
    Rule(
        "peer-lost",
        "another process was lost",
        "a process of this run, or the network between its machines, was lost, and the others could not go on",
        (
            "look at the log of the other machines: the process that went first says why",
            f"{AGAIN}; NCCL_DEBUG=INFO in the environment has NCCL tell more",
        ),
        signs=(
            *map(re.escape, LOST_ANOTHER),
            r"remote process exited or there was a network error",
            r"Watchdog caught collective operation timeout",
            r"NCCL error",
        ),
    ),
)
"""In this order: the first that fits is the cause, a later one may come of it."""
