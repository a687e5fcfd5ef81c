"""What a training process leaves of a failure that nobody foresaw, and what is made of it."""

import errno

import pytest
import torch

from launcher.runs.diagnosis import explained
from launcher.runs.directory import create
from launcher.runs.outcome import read_outcome
from launcher.train.__main__ import _fail


@pytest.fixture
def told(tmp_path):
    """What a person is told of an exception that ended the training."""

    def told(error: Exception) -> str:
        run = create(tmp_path / "run", {"plan.json": b"{}"})
        _fail(run, error)
        return explained(read_outcome(run), run, {}).message

    return told


def test_host_ram_that_is_used_up_is_said_in_words(told):
    """By torch itself, whose words may be others in its next version."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert told(caught.value).startswith("host RAM is used up; lower training.train_batch_size")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "host RAM is used up; lower training.train_batch_size"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/out/grid.png"), "no space left on the disk of /out/grid.png; "),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
    ],
)
def test_an_exception_is_told_from_its_own_words(told, error, said):
    assert told(error).startswith(said)
