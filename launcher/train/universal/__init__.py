"""The universal form of a checkpoint: what any engine, ZeRO stage and number of processes continues."""
