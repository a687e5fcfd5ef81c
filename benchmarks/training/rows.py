"""What is measured and what it may take, as data."""

from dataclasses import dataclass, field, replace

from benchmarks.answers import COMMON, RESIDENT, STREAMED, TWO, Answers

STEPS = 7
"""Of each measurement, unless others are asked for."""
ZERO = "deepspeed.zero_optimization."
PLAIN: Answers = {"accelerate.use_deepspeed": False}


@dataclass(frozen=True, slots=True)
class Setting:
    """What is trained: the same for this launcher, stock DeepSpeed and peers."""

    resolution: int
    batch: int
    """Pictures of one GPU in one micro-batch."""
    accumulation: int = 1
    gpus: int = 1

    @property
    def name(self) -> str:
        """As keys and tables have it."""
        return self.named("")

    def named(self, way: str) -> str:
        """The same, trained in some way."""
        accumulation = f" accumulation {self.accumulation}" if self.accumulation > 1 else ""
        return f"{self.resolution}x{self.batch}{accumulation}{way and f' {way}'}{', two GPUs' * (self.gpus > 1)}"

    @property
    def pictures(self) -> int:
        """Of a step."""
        return self.batch * self.accumulation * self.gpus


@dataclass(frozen=True, slots=True)
class Row:
    """One setting of this launcher beside stock DeepSpeed, and what it may take."""

    setting: Setting
    way: str
    answers: Answers
    most_mib: int
    """Of the process on the GPU, from its start to its end."""
    most_times: float
    """Seconds of a step, times stock's."""
    most_host_gib: float | None = None
    """Resident."""
    bare: bool = False
    """Whether the engine is measured without the loop around it, too."""

    @property
    def name(self) -> str:
        """As keys and tables have it."""
        return self.setting.named(self.way)


@dataclass(frozen=True, slots=True)
class Peer:
    """Another way to train the same U-Net on the same card, without limits."""

    name: str
    not_exact: str
    """What it does not do that all others do: fp32 masters and states, clipping."""
    answers: Answers | None = None
    """Of this launcher."""
    command: tuple[str, ...] = ()
    """A module of this folder and its arguments."""
    package: str | None = None
    """Which it needs."""
    setting: Setting = field(default=Setting(1024, 8))


_ONE_GPU = (
    Row(Setting(1024, 8), "streamed", STREAMED, 8_300, 1.0, bare=True),
    Row(Setting(1024, 8), "resident", RESIDENT, 12_400, 0.95, most_host_gib=46, bare=True),
    Row(Setting(1024, 1), "streamed", STREAMED, 3_000, 1.2),
    Row(Setting(768, 4), "streamed", STREAMED, 4_500, 1.1),
    Row(Setting(128, 8), "streamed", STREAMED, 2_400, 1.2),
    Row(Setting(1024, 8, accumulation=4), "resident", RESIDENT, 12_400, 0.6, most_host_gib=46),
)
ROWS = {
    row.name: row
    for gpus in (1, 2)
    for row in (replace(row, setting=replace(row.setting, gpus=gpus), bare=row.bare and gpus == 1) for row in _ONE_GPU)
}
"""On several GPUs each has the batch that one has alone."""
STOCK = ("benchmarks.stock_zero", "--stage", "2", "--opt", "cpu")
PEERS = {
    peer.name: peer
    for peer in (
        Peer("this launcher, plain PyTorch, nothing offloaded", "", answers=PLAIN),
        Peer("stock DeepSpeed, stage 2, nothing offloaded", "", command=("benchmarks.stock_zero", "--opt", "none")),
        Peer(
            "torchao's CPUOffloadOptimizer, gradients offloaded",
            "no clipping; bf16 weights without fp32 masters, bf16 states",
            command=("benchmarks.training.peers", "torchao"),
            package="torchao",
        ),
        Peer(
            "bitsandbytes' PagedAdamW8bit",
            "bf16 weights without fp32 masters, 8-bit states; nothing leaves a GPU that has room",
            command=("benchmarks.training.peers", "bitsandbytes"),
            package="bitsandbytes",
        ),
    )
}


def answers_of(setting: Setting, answers: Answers, steps: int) -> Answers:
    """All answers of a run of so many steps but for where its model and pictures are."""
    common = {
        **COMMON,
        "training.resolution": setting.resolution,
        "training.train_batch_size": setting.batch,
        "training.max_train_steps": steps,
        "training.checkpointing_steps": steps,
        "accelerate.gas": setting.accumulation,
    }
    return common | (TWO if setting.gpus > 1 else {}) | answers


TINY: Answers = {
    "accelerate.use_cpu": True,
    "training.cpu_threads": 1,
    f"{ZERO}reduce_bucket_size": 200_000,
    f"{ZERO}stage3_prefetch_bucket_size": 50_000,
    f"{ZERO}stage3_max_live_parameters": 300_000,
}


def tiny(row: Row) -> Row:
    """Its shape, in seconds on a CPU."""
    resolution, batch = max(32, row.setting.resolution // 16), min(row.setting.batch, 2)
    setting = replace(row.setting, resolution=resolution, batch=batch)
    return replace(row, setting=setting, answers=row.answers | TINY)
