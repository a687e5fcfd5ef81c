"""torch's caching allocator on a GPU, simulated: what it reserves for what is asked of it.

Source: ``c10/cuda/CUDACachingAllocator.cpp`` of torch 2.11 to 2.13. Sizes are rounded up to 512 bytes; up to 1 MiB they
come from a pool of their own; the smallest free block that is large enough is taken, and split. Blocks that are freed
are joined with free neighbours and stay reserved. Each stream has its own blocks.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from math import inf

MIB = 2**20
ROUNDED_TO = 512
SMALL = MIB
"""The largest allocation of the small pool."""
SMALL_PAGES, LARGE_PAGES = 2 * MIB, 20 * MIB
"""What pools grow by."""
OWN_SEGMENT = 10 * MIB
"""From here on, without expandable segments, an allocation that finds no free block gets a segment of its own size."""


@dataclass(slots=True)
class _Pool:
    """One address range; of segments that cannot grow into each other a gap keeps the blocks apart."""

    small: bool
    expandable: bool
    end: int = 0
    free: list[tuple[int, int]] = field(default_factory=list)
    """Size and address, in order."""
    begins: dict[int, int] = field(default_factory=dict)
    """Size of the free block that begins at an address."""
    ends: dict[int, int] = field(default_factory=dict)
    """The same for where it ends."""
    gone: dict[int, int] = field(default_factory=dict)
    """Size of the pages given back that begin at an address: address space which is taken first where it suffices."""

    def take(self, size: int) -> tuple[int, int, int]:
        """Address and size of a block, and by how much the pool grew for it."""
        grown = 0
        place = bisect_left(self.free, (size, 0))
        if place == len(self.free):
            grown = self._grow(size)
            place = bisect_left(self.free, (size, 0))
        found, address = self.free[place]
        self._forget(found, address)
        left = found - size
        if left >= (ROUNDED_TO if self.small or self.expandable else SMALL + 1):
            self._remember(left, address + size)
            found = size
        return address, found, grown

    def give(self, address: int, size: int) -> None:
        """Takes a block back, and joins it with free neighbours."""
        if before := self.ends.get(address):
            address -= before
            self._forget(before, address)
            size += before
        if after := self.begins.get(address + size):
            self._forget(after, address + size)
            size += after
        self._remember(size, address)

    def empty(self) -> int:
        """Gives free pages back to the GPU; returns how many bytes those are."""
        given = 0
        for size, address in self.free[:]:
            first, end = self._whole_pages(size, address)
            if first < end:
                given += end - first
                self._forget(size, address)
                self._leave(first, end - first)
                if first > address:
                    self._remember(first - address, address)
                if address + size > end:
                    self._remember(address + size - end, end)
        return given

    def spare(self) -> int:
        """How many bytes :meth:`empty` would give back."""
        return sum(max(0, end - first) for first, end in (self._whole_pages(*block) for block in self.free))

    def _whole_pages(self, size: int, address: int) -> tuple[int, int]:
        return _up(address, self._pages), (address + size) // self._pages * self._pages

    @property
    def _pages(self) -> int:
        return SMALL_PAGES if self.small else LARGE_PAGES

    def _grow(self, size: int) -> int:
        if self.expandable:
            return self._map(size)
        grown = self._pages if self.small or size < OWN_SEGMENT else _up(size, SMALL_PAGES)
        address = self.end + ROUNDED_TO
        self.end = address + grown
        self.give(address, grown)
        return grown

    def _map(self, size: int) -> int:
        """Makes a free block of at least this size where address space of it is lowest; returns by how much it grew."""
        begin = next(each for each in (*sorted(self.gone), self.end) if self._room(self._free_before(each)) >= size)
        start, grown = self._free_before(begin), 0
        while (held := self.begins.get(start, 0)) < size:
            address, wanted = start + held, _up(size - held, self._pages)
            if address == self.end:
                self.end += wanted
            else:
                there = self.gone.pop(address)
                wanted = min(there, wanted)
                if there > wanted:
                    self.gone[address + wanted] = there - wanted
            self.give(address, wanted)
            grown += wanted
        return grown

    def _free_before(self, address: int) -> int:
        """Where the free block begins that ends at an address; the address itself where none does."""
        return address - self.ends.get(address, 0)

    def _room(self, address: int) -> float:
        """Bytes from an address on that nothing lies in: free, given back, or beyond the end, which has no limit."""
        begin = address
        while address != self.end:
            size = self.begins.get(address) or self.gone.get(address)
            if size is None:
                return address - begin
            address += size
        return inf

    def _leave(self, address: int, size: int) -> None:
        """Remembers the address space of pages that are given back."""
        for begin in [each for each, of in self.gone.items() if each + of == address]:
            address, size = begin, size + self.gone.pop(begin)
        self.gone[address] = size + self.gone.pop(address + size, 0)

    def _remember(self, size: int, address: int) -> None:
        insort(self.free, (size, address))
        self.begins[address] = self.ends[address + size] = size

    def _forget(self, size: int, address: int) -> None:
        del self.free[bisect_left(self.free, (size, address))]
        del self.begins[address], self.ends[address + size]


class Allocator:
    """A GPU's memory as torch sees it, in bytes."""

    def __init__(self, *, expandable: bool = True) -> None:
        """Reserves nothing.

        Args:
            expandable: whether segments grow (``expandable_segments:True``, which this launcher sets).
        """
        self._expandable = expandable
        self._pools: dict[tuple[int, bool], _Pool] = {}
        self._blocks: dict[int, tuple[_Pool, int, int]] = {}
        self._next = 0
        self.allocated = self.reserved = 0
        """Now."""

    def allocate(self, size: float, stream: int = 0) -> int:
        """Allocates so many bytes; what it returns frees them."""
        size = _up(max(1, int(size)), ROUNDED_TO)
        small = size <= SMALL
        if (pool := self._pools.get((stream, small))) is None:
            pool = self._pools[stream, small] = _Pool(small, self._expandable)
        address, size, grown = pool.take(size)
        self.reserved += grown
        self.allocated += size
        self._next += 1
        self._blocks[self._next] = (pool, address, size)
        return self._next

    def release(self, block: int) -> None:
        """Frees what :meth:`allocate` returned; it stays reserved."""
        pool, address, size = self._blocks.pop(block)
        self.allocated -= size
        pool.give(address, size)

    def empty_cache(self) -> None:
        """Gives free memory back to the GPU, in whole pages; meant for expandable segments."""
        self.reserved -= sum(pool.empty() for pool in self._pools.values())

    @property
    def needed(self) -> int:
        """What is reserved and cannot be given back now."""
        return self.reserved - sum(pool.spare() for pool in self._pools.values())


def _up(size: int, step: int) -> int:
    return -(-size // step) * step
