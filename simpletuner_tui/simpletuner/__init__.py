"""SimpleTuner's configuration read into answers."""
