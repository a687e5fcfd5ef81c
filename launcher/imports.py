"""Importing torch and what stands on it: hundreds of thousands of objects of which none is garbage."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collecting() -> Iterator[None]:
    """Nothing that is imported within is looked through for garbage, now or later.

    Python does so as the number of its objects grows, and once more as it ends: half of the seconds between a training
    process's start and its first line. DeepSpeed asks for it whenever it builds an engine.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if before:
            gc.enable()
