"""How long, how much at once and how fast it learns."""

from dataclasses import dataclass

from launcher.config.setting import setting


@dataclass(frozen=True, slots=True)
class OptimizationSettings:
    """How long, how much at once and how fast it learns."""

    max_train_steps: int = setting(1000, "Optimizer steps to train for.", unit="steps", minimum=1)
    train_batch_size: int = setting(
        1,
        "Pictures per GPU and micro-batch. The global batch is this times accumulation times processes.",
        unit="pictures",
        minimum=1,
    )
    learning_rate: float = setting(1e-5, "Learning rate after warm-up.", minimum=0.0, maximum=1.0)
    lr_warmup_steps: int = setting(
        100, "Steps over which the learning rate rises; DeepSpeed refuses 0.", unit="steps", minimum=1
    )
    weight_decay_exclude: str = setting(
        "none",
        "What weight decay leaves alone: nothing, as SDXL's usual trainers do, or norms and biases, as is usual for "
        "transformers: all parameters with one dimension. SDXL's U-Net has no embedding tables.",
        choices=("none", "norms_and_biases"),
    )
    gradient_checkpointing: bool = setting(
        True, "Recompute activations in the backward pass: far less VRAM, about a quarter more GPU time."
    )
    gradient_checkpointing_granularity: str = setting(
        "all",
        "What is recomputed: all blocks, or transformer blocks only, which keeps the resnets' activations: two thirds "
        "more VRAM for activations, less GPU time.",
        choices=("all", "transformer_blocks"),
    )
    seed: int = setting(42, "Seed of data order, noise and timesteps.", minimum=0, maximum=2**63 - 1)
    num_eval_images: int = setting(
        8,
        "Pictures whose loss on fixed, held-out noise is measured before and after training. 0 measures nothing.",
        unit="pictures",
        minimum=0,
    )
