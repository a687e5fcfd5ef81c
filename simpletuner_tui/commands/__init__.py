"""The commands, one module for each idea."""
