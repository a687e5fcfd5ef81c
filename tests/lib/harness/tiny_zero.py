"""ZeRO's sizes for the tiny SDXL, whose U-Net has a million and a half parameters."""

TINY = {
    # Small ones, so that it fills several.
    "reduce_bucket_size": 200_000,
    "allgather_bucket_size": 200_000,
    "sub_group_size": 500_000,
    "stage3_prefetch_bucket_size": 50_000,
    "stage3_param_persistence_threshold": 1_000,
    # So many elements ahead stage 3 looks for another use before it releases a module's weights. By default it is more
    # than there are, so that each of hundreds of modules would be held against all that follow: seconds an engine.
    "stage3_max_reuse_distance": 20_000,
}
"""Settings of :class:`launcher.config.deepspeed.DeepSpeedSettings`."""
