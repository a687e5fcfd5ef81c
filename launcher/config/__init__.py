"""What every setting means and may be. Frozen, typed, torch-free."""
