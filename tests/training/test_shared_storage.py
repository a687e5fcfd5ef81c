"""Ranks on several machines make sure that they see one folder; two ranks are played here by what each would find."""

import os

import pytest
import torch

from launcher.errors import CannotRunHereError, ExitCode
from launcher.train import distributed
from launcher.train.distributed import World


@pytest.fixture
def rank_of_two(monkeypatch):
    """One of two ranks, and what the other finds."""

    def make(rank: int, other: bool, *, told: str = "") -> World:
        monkeypatch.setattr(World, "barrier", lambda self: None)
        monkeypatch.setattr(World, "from_main", lambda self, value: told or value)
        monkeypatch.setattr(World, "from_all", lambda self, value: [value, other])
        monkeypatch.setattr(distributed, "SHARED_WITHIN", 0.0)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
        return World(rank=rank, world_size=2, device=torch.device("cpu"))

    return make


def test_one_folder_is_taken_and_nothing_is_left_in_it(rank_of_two, tmp_path):
    rank_of_two(0, True).require_shared(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "seen").touch()
    rank_of_two(1, True, told="seen").require_shared(tmp_path)


@pytest.mark.parametrize(("rank", "other"), [(0, False), (1, True)])
def test_another_folder_of_the_same_name_is_refused_on_every_rank(rank_of_two, tmp_path, rank, other):
    with pytest.raises(CannotRunHereError, match="is not one folder on all machines") as refused:
        rank_of_two(rank, other).require_shared(tmp_path)
    assert refused.value.exit_code is ExitCode.CANNOT_RUN_HERE
    assert list(tmp_path.iterdir()) == []


def test_ranks_of_one_machine_are_not_asked(rank_of_two, tmp_path, monkeypatch):
    world = rank_of_two(1, False)
    for name in ("LOCAL_WORLD_SIZE", "LOCAL_SIZE"):  # torch elastic's, DeepSpeed's
        monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
        monkeypatch.setenv(name, "2")
        world.require_shared(tmp_path / "nowhere")
    assert os.environ["LOCAL_SIZE"] == "2"
