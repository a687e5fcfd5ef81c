"""Which setting is the fastest that fits a budget of GPU memory, host memory and disk, and why no faster one does."""

from launcher.recommend.budget import Budget, Miss, misses
from launcher.recommend.choose import Option, Recommendation, Refusal, recommend
from launcher.recommend.placements import TUNED
from launcher.recommend.words import deficit

__all__ = [
    "TUNED",
    "Budget",
    "Miss",
    "Option",
    "Recommendation",
    "Refusal",
    "deficit",
    "misses",
    "recommend",
]
