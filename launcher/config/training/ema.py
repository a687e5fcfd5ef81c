"""Whether the weights are averaged while it trains."""

from dataclasses import dataclass

from launcher.config.setting import setting


@dataclass(frozen=True, slots=True)
class EmaSettings:
    """Whether the weights are averaged while it trains."""

    use_ema: bool = setting(
        False,
        "Keep an exponential moving average of the weights, taken from the fp32 masters: 4 bytes a parameter in host "
        "RAM and in each checkpoint. The exported pipeline has it in place of the last weights.",
    )
    ema_decay: float = setting(
        0.9999,
        "How much of the average stays at each update. It rises to this as the number of updates n does: "
        "(1 + n) / (10 + n).",
        minimum=0.0,
        maximum=1.0,
    )
    ema_update_interval: int = setting(
        1,
        "The average is updated every so many steps. Without offload each update brings the masters to the CPU, while "
        "the next step computes.",
        unit="steps",
        minimum=1,
    )
    ema_device: str = setting(
        "cpu",
        "Where the average is kept; `accelerator` takes its memory from the GPU.",
        choices=("cpu", "accelerator"),
    )
