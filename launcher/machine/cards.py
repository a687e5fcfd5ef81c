"""Cards to choose from where the one that will train is elsewhere."""

from collections.abc import Mapping
from types import MappingProxyType

CARDS: Mapping[int, int] = MappingProxyType(
    {8: 8188, 10: 10240, 12: 12282, 16: 16376, 24: 24564, 40: 40960, 48: 49140, 80: 81559, 141: 143_771}
)
"""GB as cards are sold by; MiB as nvidia-smi prints them for an RTX 4060, RTX 3080, RTX 4070, RTX 4080, RTX 4090, A100,
RTX 6000 Ada, H100 and H200: of each size the card with the least."""

RESERVED_MIB = 616
"""What the driver keeps to itself: measured on an H200, and less on smaller cards."""


def usable_mib(gigabytes: int) -> int:
    """What a process may take of a card that nobody else uses.

    Args:
        gigabytes: one of :data:`CARDS`.
    """
    return CARDS[gigabytes] - RESERVED_MIB
