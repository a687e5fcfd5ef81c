"""Facts that only running DeepSpeed tells; each is a module of its own, started with ``python -m``."""
