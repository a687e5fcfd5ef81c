"""What an unforeseen failure means to the person."""

import errno

import pytest
import torch

from launcher.train.__main__ import explain


def test_host_ram_that_is_used_up_is_said_in_words():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert explain(caught.value).startswith("host RAM is used up; lower training.train_batch_size")
    assert explain(MemoryError()).startswith("host RAM is used up")


def test_a_full_disk_names_the_file():
    error = OSError(errno.ENOSPC, "No space left on device", "/out/samples/grid.png")
    assert explain(error).startswith("no space left on the disk of /out/samples/grid.png; make room")


def test_anything_else_is_named_by_its_kind():
    assert explain(ZeroDivisionError("division by zero")) == "ZeroDivisionError: division by zero"
