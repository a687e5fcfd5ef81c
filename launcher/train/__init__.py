"""Training: from here on torch is imported. Started as ``accelerate launch … -m launcher.train RUN_DIR``."""
