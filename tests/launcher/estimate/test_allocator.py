"""What torch's allocator reserves, by its own rules."""

import random

import pytest

from launcher.estimate.allocator import MIB, Allocator


def test_sizes_are_rounded_and_small_ones_have_a_pool_of_their_own():
    memory = Allocator()
    memory.allocate(1)
    assert (memory.allocated, memory.reserved) == (512, 2 * MIB)
    memory.allocate(MIB + 1)
    assert (memory.allocated, memory.reserved) == (512 + MIB + 512, 22 * MIB)


@pytest.mark.parametrize(("expandable", "reserved"), [(True, 40), (False, 32)])
def test_without_expandable_segments_a_large_allocation_has_its_own(expandable, reserved):
    memory = Allocator(expandable=expandable)
    memory.allocate(31 * MIB)
    assert memory.reserved == reserved * MIB


def test_what_was_freed_is_used_again_and_joined():
    memory = Allocator()
    blocks = [memory.allocate(20 * MIB) for _ in range(3)]
    for block in blocks:
        memory.release(block)
    memory.allocate(60 * MIB)
    assert (memory.allocated, memory.reserved) == (60 * MIB, 60 * MIB)


def test_expandable_segments_grow_from_what_is_free_at_their_end():
    memory = Allocator()
    memory.allocate(20 * MIB)
    memory.release(memory.allocate(20 * MIB))
    memory.allocate(30 * MIB)
    assert memory.reserved == 60 * MIB


def test_a_free_block_that_is_too_small_stays_reserved():
    memory = Allocator(expandable=False)
    first = memory.allocate(30 * MIB)
    memory.allocate(30 * MIB)
    memory.release(first)
    memory.allocate(40 * MIB)
    assert memory.reserved == 100 * MIB


def test_streams_do_not_share():
    memory = Allocator()
    memory.release(memory.allocate(20 * MIB, stream=0))
    memory.allocate(20 * MIB, stream=1)
    assert memory.reserved == 40 * MIB


@pytest.mark.parametrize("expandable", [True, False])
def test_any_order_ends_with_nothing_allocated_and_one_block_again(expandable):
    memory, order = Allocator(expandable=expandable), random.Random(1)
    blocks = []
    for _ in range(2000):
        if blocks and order.random() < 0.5:
            memory.release(blocks.pop(order.randrange(len(blocks))))
        else:
            blocks.append(memory.allocate(order.choice([300, 5000, 700_000, 3 * MIB, 47 * MIB])))
        assert memory.allocated <= memory.reserved
    for block in blocks:
        memory.release(block)
    before = memory.reserved
    assert memory.allocated == 0
    if expandable:
        memory.allocate(before - 20 * MIB)
        assert memory.reserved == before


def test_what_was_given_back_is_address_space_that_is_taken_first_where_it_suffices():
    memory = Allocator()
    first, _, second, _ = (memory.allocate(size * MIB) for size in (100, 20, 60, 20))
    memory.release(first)
    memory.release(second)
    memory.empty_cache()
    assert memory.reserved == 40 * MIB
    memory.allocate(70 * MIB)  # lies where the first was, and leaves a piece of its pages
    assert memory.reserved == 120 * MIB
    memory.allocate(60 * MIB)  # where the second was
    memory.allocate(30 * MIB)  # what is left of the first, with the rest of its address space
    assert memory.reserved == 200 * MIB
    assert memory.allocated == 200 * MIB
