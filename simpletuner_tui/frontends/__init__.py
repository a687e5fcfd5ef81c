"""Ways to walk the registry."""
