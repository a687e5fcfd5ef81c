"""What runs and what is true: settings, plans, run directories, training."""
