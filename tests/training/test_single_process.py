"""One process exchanges nothing: its engines train what they train through gloo, and no collective reaches torch."""

import pytest
import torch
from deepspeed import comm as dist

from harness.many_collectives import CASES, STEPS, exercise
from harness.ranks import run_ranks
from harness.small_engines import assert_same
from launcher.train.single_process import SingleProcess


@pytest.fixture(scope="module")
def through_gloo(tmp_path_factory) -> dict[str, dict]:
    """Each case as DeepSpeed's own backend has it, in a process of its own."""
    folder = tmp_path_factory.mktemp("gloo")
    run_ranks("harness.many_collectives", {}, folder)
    return torch.load(folder / "told.pt")


@pytest.mark.parametrize("name", CASES)
def test_an_engine_trains_and_resumes_as_through_gloo_to_the_bit(group, through_gloo, tmp_path, name):
    assert isinstance(dist.comm.cdb, SingleProcess)
    told, expected = exercise(group, CASES[name], tmp_path), through_gloo[name]
    assert told.losses == expected["losses"]
    # A norm is summed up by as many threads as a process has, in another order in the last bits.
    assert _told(told.norms) == pytest.approx(_told(expected["norms"]), rel=1e-12)
    assert_same(told.masters, expected["masters"])
    assert len(set(told.losses)) == 2 * STEPS
    assert expected["collectives"]  # what is counted is seen there
    assert not told.collectives


def _told(norms: list[float | None]) -> list[float]:
    """Without ZeRO DeepSpeed does not tell them in fp32."""
    return [-1.0 if norm is None else norm for norm in norms]


def test_torch_knows_the_group_as_gloos(group):
    assert torch.distributed.get_backend() == "gloo"
    assert (dist.get_rank(), dist.get_world_size()) == (group.rank, group.world_size) == (0, 1)
    part = dist.new_group([0])
    assert (dist.get_rank(part), dist.get_world_size(part), dist.get_global_rank(part, 0)) == (0, 1, 0)


REDUCTIONS = {
    "all_reduce": dist.all_reduce,
    "all_reduce, of the largest": lambda tensor, **how: dist.all_reduce(tensor, op=dist.ReduceOp.MAX, **how),
    "all_reduce, averaged": lambda tensor, **how: dist.all_reduce(tensor, op=dist.ReduceOp.AVG, **how),
    "all_reduce_coalesced": lambda tensor, **how: dist.all_reduce_coalesced([tensor, tensor[:1]], **how),
    "reduce": lambda tensor, **how: dist.reduce(tensor, 0, **how),
    "broadcast": lambda tensor, **how: dist.broadcast(tensor, 0, **how),
}
COPIES = {
    "all_gather": lambda given, got, **how: dist.all_gather([got], given, **how),
    "all_gather_into_tensor": lambda given, got, **how: dist.all_gather_into_tensor(got, given, **how),
    "allgather_fn": lambda given, got, **how: dist.allgather_fn(got, given, **how),
    "all_gather_coalesced": lambda given, got, **how: dist.all_gather_coalesced([got], [given], **how),
    "reduce_scatter": lambda given, got, **how: dist.reduce_scatter(got, [given], **how),
    "reduce_scatter_tensor": lambda given, got, **how: dist.reduce_scatter_tensor(got, given, **how),
    "reduce_scatter_fn": lambda given, got, **how: dist.reduce_scatter_fn(got, given, **how),
    "all_to_all": lambda given, got, **how: dist.all_to_all([got], [given], **how),
    "all_to_all_single": lambda given, got, **how: dist.all_to_all_single(got, given, **how),
    "gather": lambda given, got, **how: dist.gather(given, [got], **how),
    "scatter": lambda given, got, **how: dist.scatter(got, [given], **how),
}


def check_handle(handle, asynchronous: bool) -> None:
    if not asynchronous:
        assert handle is None
    else:
        handle.wait()
        assert handle.is_completed()


@pytest.mark.parametrize("asynchronous", [False, True], ids=["at once", "asynchronous"])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_what_is_reduced_stays_as_it_is(group, name, asynchronous):
    tensor = torch.tensor([1.5, -2.0, 3.0])
    check_handle(REDUCTIONS[name](tensor, async_op=asynchronous), asynchronous)
    assert tensor.tolist() == [1.5, -2.0, 3.0]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["at once", "asynchronous"])
@pytest.mark.parametrize("name", COPIES)
def test_what_is_gathered_or_scattered_is_copied(group, name, asynchronous):
    given, got = torch.arange(6.0, requires_grad=True), torch.zeros(6, requires_grad=True)
    check_handle(COPIES[name](given, got, async_op=asynchronous), asynchronous)
    assert torch.equal(got, given)
    assert got.is_leaf
    assert got.data_ptr() != given.data_ptr()


def test_a_part_of_what_is_reduced_may_be_where_it_goes(group):
    """As stage 3 reduces its gradients."""
    flat = torch.arange(6.0)
    dist.reduce_scatter_fn(flat.chunk(1)[0], flat)
    assert flat.tolist() == [0, 1, 2, 3, 4, 5]


def test_another_shape_is_filled_and_another_size_is_not(group):
    got = torch.zeros(1, 2, 3)
    dist.all_gather_into_tensor(got, torch.arange(6.0))
    assert got.flatten().tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(RuntimeError, match="invalid for input of size 5"):
        dist.all_gather_into_tensor(got, torch.arange(5.0))
    with pytest.raises(ValueError, match="argument 2 is longer"):
        dist.reduce_scatter(got, [torch.zeros(6), torch.zeros(6)])


def test_objects_and_barriers(group):
    box, every = [{"step": 3}], [None]
    dist.broadcast_object_list(box, src=0)
    dist.all_gather_object(every, box[0])
    assert every == box == [{"step": 3}]
    assert dist.barrier() is None
    check_handle(dist.barrier(async_op=True), asynchronous=True)
    dist.monitored_barrier()
