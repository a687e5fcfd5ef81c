"""Run directories: what is in them, who runs them, how they are stopped and found again. Torch-free."""
