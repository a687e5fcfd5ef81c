"""What settings cost, and on which card: the machine's own as it is now, or one of those that are sold."""

from collections.abc import Iterator
from dataclasses import dataclass

from launcher.config.accelerate import LaunchSettings
from launcher.config.settings import Settings
from launcher.estimate import Estimate, Verdict, verdict
from launcher.estimate.traces import UNetStep, is_to_come
from launcher.machine.cards import CARDS, usable_mib
from launcher.machine.gpu_processes import GpuProcess
from launcher.machine.gpus import Gpus, visible_to
from launcher.machine.host import Host
from launcher.machine.measuring import ToMeasure
from launcher.plan import Plan, to_measure
from launcher.preflight import Machine
from simpletuner_tui.preview import cost, facts_of_run, traced_step
from simpletuner_tui.text import size


@dataclass(frozen=True, slots=True)
class Card:
    """What a plan is held against; memory in MiB."""

    name: str
    """``GPU 0``, or ``a 12 GB card``."""
    model: str
    """As the driver calls it; empty for a card that is not here."""
    free_mib: int
    held_mib: int = 0
    """By the processes of others."""
    holders: tuple[GpuProcess, ...] = ()
    """As far as it is known which."""

    @property
    def usable_mib(self) -> int:
        """Once nobody else holds any."""
        return self.free_mib + self.held_mib


@dataclass(frozen=True, slots=True)
class Priced:
    """An estimate beside the one before, and what it is held against."""

    before: Estimate
    now: Estimate
    host: Host
    gpus: Gpus
    """Those it would train on, or how none can be had."""
    card: Card | None
    """None on a CPU, and where there is no GPU and no card is large enough."""
    uses_gpu: bool
    to_measure: ToMeasure | None
    """What the seconds of a step wait for; None where it trains on no GPU of this machine, and where they are known."""
    to_trace: UNetStep | None = None
    """The step without whose trace GPU memory is a formula's for now."""


def price(before: Settings, now: Settings, machine: Machine, chosen: int | None) -> Priced:
    """Prices settings; from a thread, since models and pictures are looked at and the driver is asked.

    Args:
        before: at the answer before.
        now: of a run.
        machine: what it would run on.
        chosen: GB of the card it is held against; None: this machine's own, or without one the smallest that it fits.
    """
    costs, launch = (cost(before), cost(now)), now.launch
    gpus = visible_to(machine.gpus(), launch.gpu_ids)
    card: Card | None = None
    if chosen is not None:
        card = sold(chosen)
    elif not launch.use_cpu:
        card = tightest(gpus, launch, machine) or next(fitting(costs[1]), None)
    uses_gpu = not launch.use_cpu or chosen is not None
    to_trace = next(filter(is_to_come, map(traced_step, (now, before))), None) if uses_gpu else None
    return Priced(*costs, machine.host(), gpus, card, uses_gpu, measurable(now, gpus), to_trace)


def measurable(settings: Settings, gpus: Gpus) -> ToMeasure | None:
    """What the seconds of a step wait for, where measuring this machine would tell them.

    Args:
        settings: of a run.
        gpus: those of this machine that it would train on.
    """
    return to_measure(settings, facts_of_run(settings)[0]) if gpus.gpus else None


def card_for(plan: Plan, vram_mib: int | None = None) -> Card | None:
    """What a plan is held against outside the wizard.

    Args:
        plan: as it would be launched.
        vram_mib: of a card with so much free; None: this machine's own, and nothing where it trains on none.
    """
    if vram_mib is not None:
        return Card(f"a card with {size(vram_mib)} free", "", vram_mib)
    launch, machine = plan.settings.launch, Machine()
    return None if launch.use_cpu else tightest(visible_to(machine.gpus(), launch.gpu_ids), launch, machine)


def tightest(gpus: Gpus, launch: LaunchSettings, machine: Machine) -> Card | None:
    """Of the GPUs that a launch would use, the one with the least memory free; None without any.

    Args:
        gpus: those that the launch sees.
        launch: how many of them it uses.
        machine: says who holds the rest.
    """
    used = gpus.gpus[: launch.processes_here]
    if not used:
        return None
    gpu = min(used, key=lambda each: each.free_mib)
    return Card(f"GPU {gpu.index}", gpu.name, gpu.free_mib, gpu.used_mib, machine.gpu_processes(gpu.uuid))


def sold(gigabytes: int) -> Card:
    """A card of the list, with nobody else on it."""
    return Card(f"{'an' if gigabytes == 8 else 'a'} {gigabytes} GB card", "", usable_mib(gigabytes))


def fitting(priced: Estimate) -> Iterator[Card]:
    """The cards of the list that a plan fits, the smallest first."""
    return (sold(size) for size in CARDS if verdict(priced, usable_mib(size)) is Verdict.FITS)
