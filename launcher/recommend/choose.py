"""The search: placement after placement, each first in its most frugal form, as far as a slower one could be better."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from launcher.config.setting import Level
from launcher.config.settings import Settings
from launcher.data.extent import NOTHING, Extent
from launcher.data.sources import bucketings
from launcher.estimate import Estimate, ModelFacts, estimate
from launcher.judge import judge
from launcher.machine.bandwidths import Bandwidths
from launcher.recommend.budget import Budget, Kind, Miss, misses, vram_needed
from launcher.recommend.placements import CHECKPOINTING, PLACEMENTS, Placement, Variant
from launcher.recommend.speed import pictures_per_second
from launcher.recommend.words import MANY_WEIGHTS, RECOMPUTED, described

SATURATED = 8 * 1024**2
"""Pixels of a micro-batch from which on hardly more gets done in a second: an H200 computes as long as it copies."""
LARGEST_BATCH = 32
"""Where small pictures would allow more: how large a batch should be is no question of speed alone."""
ANY_NVME = "/nvme"
"""Stands for a folder while it is found out whether NVMe would help; accelerate's own default."""
SURE, ROUGH = 1.02, 1.15
"""Within so much two settings are equally fast, and the lower stage is preferred: where the time of a step is known,
and where only the order is."""
TRUSTED = 2.0
"""By how much the order is at most believed to be wrong about a machine whose steps are known."""


@dataclass(frozen=True, slots=True)
class Option:
    """One setting, priced."""

    variant: Variant
    settings: Settings
    cost: Estimate

    def __str__(self) -> str:
        return described(self.variant, self.settings.deepspeed.gradient_accumulation_steps)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A setting that does not fit."""

    option: Option
    missed: tuple[Miss, ...]
    title: str
    """The whole setting, or what would be other than in the one that was chosen."""

    @property
    def is_whole(self) -> bool:
        """Whether it is a placement in its most frugal form."""
        return self.title == str(self.option)

    @property
    def overshoot(self) -> float:
        """How many times the budget it needs, of what it misses most of."""
        return max(miss.needed_mib / max(1, miss.has_mib) for miss in self.missed)


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What fits, or what comes nearest."""

    chosen: Option | None
    refused: tuple[Refusal, ...]
    """What would be faster; where nothing fits, every placement."""
    ruled_out: tuple[tuple[str, str], ...] = ()
    """Placements that a rule refuses, and its message."""
    instead: tuple[Option, str] | None = None
    """Where nothing fits: what does when something else may change, and what that is."""

    @property
    def nearest(self) -> Refusal | None:
        """Where nothing fits: the smallest setting that works."""
        return None if self.chosen else min(self.refused, key=lambda refusal: refusal.overshoot, default=None)


def recommend(
    base: Settings,
    model: ModelFacts,
    budget: Budget,
    *,
    batch: int | None = None,
    nvme: str = "",
    data: Extent = NOTHING,
    speed: Bandwidths | None = None,
) -> Recommendation:
    """The fastest setting that fits: of those equally fast, the lowest stage.

    Args:
        base: what is not to be chosen: resolution, precision, optimizer, accumulation, number of GPUs and all else.
        model: its sizes.
        budget: what there is.
        batch: pictures per GPU and micro-batch; as many as are faster and fit where it is None.
        nvme: a folder for NVMe offload; empty where it is not allowed.
        data: how much there is of the data set, for its caches.
        speed: of the machine, where it was measured; else the order of :mod:`launcher.recommend.speed` counts.
    """
    search = _Search(base, model, budget, data, speed, nvme, batch or 1, batch or _auto_limit(base))
    if chosen := search.run():
        return Recommendation(chosen, search.faster_than(chosen), tuple(search.ruled_out))
    instead = next(((found, how) for find, how in _others(search) if (found := find())), None)
    return Recommendation(None, tuple(search.refused), tuple(search.ruled_out), instead)


def _auto_limit(base: Settings) -> int:
    return min(LARGEST_BATCH, max(1, SATURATED // _pixels(base)))


def _pixels(settings: Settings) -> int:
    """Of the largest picture."""
    return max(bucketing.largest for bucketing in bucketings(settings.training))


def _others(search: "_Search") -> "Iterator[tuple[Callable[[], Option | None], str]]":
    """How to find what fits when something else may change, the least first, and what that is."""
    base, batch = search.base, search.lowest
    if not search.nvme and search.lacks_only(Kind.RAM):
        yield replace(search.anew(), nvme=ANY_NVME).run, "with NVMe offload, which wears a drive (--nvme DIR)"
    if batch > 1:
        yield partial(_divided, search), "with as many pictures in a step, in several micro-batches"
    if not search.lacks_only(Kind.DISK):
        return
    once = {"checkpoints_total_limit": 1, "checkpointing_steps": base.training.optimization.max_train_steps}
    for changes, how in (
        (once, "with one checkpoint, at the end"),
        ({**once, "checkpoint_contents": "weights"}, "with the weights alone saved at the end: no run is continued"),
    ):
        checkpoints = replace(base.training.checkpoints, **changes)
        training = replace(base.training, checkpoints=checkpoints)
        yield replace(search.anew(), base=replace(base, training=training)).run, how


def _divided(search: "_Search") -> Option | None:
    """As many pictures a step in the largest micro-batches that fit; where none do, they are among what was tried."""
    batch = search.lowest

    def accumulating(smaller: int) -> _Search:
        steps = search.base.deepspeed.gradient_accumulation_steps * batch // smaller
        deepspeed = replace(search.base.deepspeed, gradient_accumulation_steps=steps)
        base = replace(search.base, deepspeed=deepspeed)
        return replace(search.anew(), base=base, lowest=smaller, highest=batch // 2)

    by_one = accumulating(1)
    fits = by_one.run()
    if fits is None:
        search.refused += by_one.refused
        return None
    divisor = max(each for each in range(1, fits.variant.batch + 1) if batch % each == 0)
    return accumulating(divisor).price(replace(fits.variant, batch=divisor))[0]


@dataclass(slots=True)
class _Search:
    base: Settings
    model: ModelFacts
    budget: Budget
    data: Extent
    speed: Bandwidths | None
    nvme: str
    lowest: int
    highest: int
    """Of the batch."""
    refused: list[Refusal] = field(default_factory=list)
    ruled_out: list[tuple[str, str]] = field(default_factory=list)

    def anew(self) -> "_Search":
        """The same search before it began."""
        return replace(self, refused=[], ruled_out=[])

    def run(self) -> Option | None:
        """The fastest that fits."""
        found: list[Option] = []
        for placement in PLACEMENTS:
            if self._is_possible(placement) and self._could_be_better(placement, found):
                found += filter(None, [self._best(placement)])
        if not found:
            return None
        speeds, tie = self._speeds(found)
        fast = [option for option, speed in zip(found, speeds, strict=True) if speed * tie >= max(speeds)]
        return min(fast, key=lambda option: option.variant.placement.stage)

    def lacks_only(self, kind: Kind) -> bool:
        """Whether something would fit if there were more of one thing."""
        return any({miss.kind for miss in each.missed} == {kind} for each in self.refused)

    def faster_than(self, chosen: Option) -> tuple[Refusal, ...]:
        """What was refused of the same placement, and as a whole of those that would be faster, or as fast."""
        variant, speed = chosen.variant, self._order(chosen.variant)
        return tuple(
            each
            for each in self.refused
            if each.option.variant.placement is variant.placement
            or (each.is_whole and self._order(replace(variant, placement=each.option.variant.placement)) >= speed)
        )

    def _order(self, variant: Variant) -> float:
        return pictures_per_second(variant, _pixels(self.base), self.base.deepspeed.gradient_accumulation_steps)

    def _speeds(self, found: Sequence[Option]) -> tuple[Sequence[float], float]:
        """Pictures a second of each, and within which factor they are equally fast."""
        if all(option.cost.step_seconds for option in found):
            return [option.settings.global_batch_size / (option.cost.step_seconds or 1) for option in found], SURE
        return [self._order(option.variant) for option in found], ROUGH

    def _could_be_better(self, placement: Placement, found: Sequence[Option]) -> bool:
        """Whether a placement at its very best would be faster than what was found."""
        if not found:
            return True
        best = self._order(Variant(placement, self.highest, CHECKPOINTING[-1], roomy=True))
        known = all(option.cost.step_seconds for option in found)
        return best * (TRUSTED if known else 1 / ROUGH) > max(self._order(option.variant) for option in found)

    def _is_possible(self, placement: Placement) -> bool:
        if (placement.on_nvme and not self.nvme) or not placement.when(self.base):
            return False
        before = {problem.rule for problem in judge(self.base, self.model)}
        for problem in judge(Variant(placement, self.lowest).settings(self.base, self.nvme), self.model):
            if problem.level is Level.ERROR and problem.rule not in before:
                self.ruled_out.append((placement.name, problem.message))
                return False
        return True

    def _best(self, placement: Placement) -> Option | None:
        """The fastest form of a placement that fits."""
        option, missed = self.price(Variant(placement, self.lowest))
        if not missed:
            return self._with_less_recomputed(self._with_more_pictures(option))
        self.refused.append(Refusal(option, missed, str(option)))
        return None

    def price(self, variant: Variant) -> tuple[Option, tuple[Miss, ...]]:
        """What a variant costs and misses."""
        settings = variant.settings(self.base, self.nvme)
        option = Option(variant, settings, estimate(settings, self.model, self.data, self.speed))
        return option, misses(option.cost, self.budget)

    def _with_more_pictures(self, fits: Option) -> Option:
        """The largest batch that fits: memory is close to linear in it, so that few have to be priced."""
        too_large: Option | None = None
        guess = self.highest
        while fits.variant.batch < guess:
            variant = replace(fits.variant, batch=guess)
            option, missed = self.price(variant)
            if not missed:
                fits = option
            else:
                too_large, refusal = option, Refusal(option, missed, f"batch {guess}")
            if too_large is None:
                return fits
            guess = self._between(fits, too_large)
        if too_large:
            self.refused.append(refusal)
        return fits

    def _between(self, fits: Option, too_large: Option) -> int:
        """A batch between the two, or the one that fits where there is none."""
        low, high = fits.variant.batch, too_large.variant.batch
        if high - low < 2:
            return low
        (below, _), (above, _) = vram_needed(fits.cost), vram_needed(too_large.cost)
        share = (self.budget.vram_mib - below) / (above - below) if above > below else 0.5
        return min(high - 1, max(low + 1, low + int(share * (high - low))))

    def _with_less_recomputed(self, fits: Option) -> Option:
        """As little recomputed and, at stage 3, as many weights on the GPU as fit."""
        for checkpointing in CHECKPOINTING[1:]:
            less = self._try(replace(fits.variant, checkpointing=checkpointing), RECOMPUTED[checkpointing])
            if less is None:
                break
            fits = less
        if fits.variant.placement.stage == 3:
            fits = self._try(replace(fits.variant, roomy=True), MANY_WEIGHTS) or fits
        return fits

    def _try(self, variant: Variant, title: str) -> Option | None:
        """A form that would be faster, if it fits."""
        option, missed = self.price(variant)
        if missed:
            self.refused.append(Refusal(option, missed, title))
            return None
        return option
