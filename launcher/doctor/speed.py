"""How fast this machine moves and computes, as ``measure`` kept it."""

import time
from collections.abc import Iterator

from launcher.doctor.diagnosis import Diagnosis, Group, Status
from launcher.doctor.facts import Facts

SLOW_GB_S = 6.0
"""PCIe 3.0 with 16 lanes moves 12 GB/s; half of that are 8 lanes, or a slot behind a bridge."""
DAY = 86400


def speed(facts: Facts) -> Iterator[Diagnosis]:
    """Host memory, and the way to the first GPU."""
    found = facts.speed
    if found is None:
        told = "host memory and the way to the GPU: not measured yet"
        why = "without them no estimate tells the seconds of a step"
        mend = (facts.to_measure.command,)
        yield Diagnosis("speed", Group.SPEED, "bandwidths", Status.NOTE, told, why, mend)
        return
    days = int(max(0.0, time.time() - found.time) // DAY)
    when = "today" if days == 0 else f"{days} day{'s' if days > 1 else ''} ago"
    host = found.host
    told = f"{host.copy_gb_s:.1f} GB/s read and written, measured {when}"
    yield Diagnosis("speed-host", Group.SPEED, "host memory", Status.OK, told)
    if host.one_pass_elements_s is not None:
        told = f"{host.one_pass_elements_s / 1e6:,.0f} million elements a second, Adam in one pass"
    else:
        told = f"{host.adam_elements_s / 1e6:,.0f} million elements a second, {host.adam}"
    yield Diagnosis("speed-adam", Group.SPEED, "optimizer", Status.OK, told)
    if found.gpu is None:
        return
    told = f"{found.gpu.up_gb_s:.1f} GB/s up, {found.gpu.down_gb_s:.1f} down from pinned memory"
    if min(found.gpu.up_gb_s, found.gpu.down_gb_s) >= SLOW_GB_S:
        yield Diagnosis("speed-gpu", Group.SPEED, "GPU copies", Status.OK, told)
        return
    why = "offload waits for it at every step: look at the slot's lanes, and what else is on the bridge"
    mend = ("nvidia-smi --query-gpu=pcie.link.gen.current,pcie.link.width.current --format=csv",)
    yield Diagnosis("speed-gpu", Group.SPEED, "GPU copies", Status.NOTE, f"slow: {told}", why, mend)
