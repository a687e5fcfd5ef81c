"""A tiny SDXL and a small captioned data set, made here, so the real code runs anywhere in minutes."""
