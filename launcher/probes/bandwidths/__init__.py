"""``python -m launcher.probes.bandwidths [OUT]``: what the time of a step follows from, measured on this machine."""
