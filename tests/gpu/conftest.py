"""On a GPU training compiles what it takes as it starts; what it takes on a CPU, minutes more, nobody waits for."""

import pytest


@pytest.fixture(scope="session")
def extensions():
    """In place of those for the CPU."""
