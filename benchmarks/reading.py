"""One measurement out of what a process told (its events) and what was seen of it from outside."""

from bisect import bisect_right
from collections import defaultdict
from statistics import median
from typing import Any

from benchmarks.sampling import Look, Sampler

WARM_UP = 2
"""Steps before those whose seconds count."""
BEFORE, BETWEEN = "start", "between phases"
Event = dict[str, Any]


def result(events: list[Event], sampler: Sampler) -> dict[str, Any]:
    """What is kept of a measurement; MiB are of the GPU that holds the most.

    ``process_mib`` is what NVML says the training processes hold, null where it cannot tell them apart; ``device_mib``
    by how much the used memory of the whole GPU grew; ``torch_mib`` torch's own peaks of rank 0. Seconds are of the
    steps after the warm-up, all of them in ``steps``. ``cost`` is what the launcher's own run tells of each phase that is
    predicted, null of others.
    """
    ended = [event for event in events if event["event"] == "phase" and event["state"] == "end"]
    steps = [event for event in events if event["event"] == "step"]
    timed = [event["seconds"] for event in steps][WARM_UP:]
    process = sampler.process_mib()
    return {
        "process_mib": max(process) if process else None,
        "device_mib": max(sampler.device_mib(), default=None),
        "torch_mib": _torch_peaks(ended),
        "host_mib": sampler.host_mib,
        "phases": _phases(events, ended, sampler),
        "load_seconds": _seconds(ended, "load"),
        "engine_seconds": _seconds(ended, "engine"),
        "step_seconds": {name: round(median(each[name] for each in timed), 4) for name in timed[0]} if timed else None,
        "steps": [event["seconds"] for event in steps],
        "losses": [event["loss"] for event in steps],
        "cost": next((event["phases"] for event in events if event["event"] == "cost"), None),
        "warnings": [event["message"] for event in events if event["event"] == "warning"],
    }


def _seconds(ended: list[Event], phase: str) -> float | None:
    return next((event["seconds"] for event in ended if event["phase"] == phase), None)


def _torch_peaks(ended: list[Event]) -> dict[str, int] | None:
    held = [event["vram_mib"] for event in ended if event.get("vram_mib")]
    return {name: max(each[name] for each in held) for name in ("allocated", "reserved")} if held else None


def _phases(events: list[Event], ended: list[Event], sampler: Sampler) -> dict[str, dict[str, Any]]:
    """By phase, the innermost where they lie in each other: peaks from outside, and torch's own."""
    by_phase: dict[str, list[Look]] = defaultdict(list)
    times, names = _innermost(events)
    for look in sampler.looks:
        by_phase[names[bisect_right(times, look.time)]].append(look)
    told = {event["phase"]: event for event in ended}
    found = {}
    for name in dict.fromkeys((*told, *by_phase)):
        process = sampler.process_mib(by_phase[name])
        found[name] = {
            "seconds": told.get(name, {}).get("seconds"),
            "process_mib": max(process) if process else None,
            "device_mib": max(sampler.device_mib(by_phase[name]), default=None) if by_phase[name] else None,
            "torch_mib": told.get(name, {}).get("vram_mib"),
        }
    return found


def _innermost(events: list[Event]) -> tuple[list[float], list[str]]:
    """When the innermost phase changes, and its name before the first change, then after each."""
    times, names, under_way = [], [BEFORE], list[str]()
    for event in events:
        if event["event"] != "phase" or event["state"] == "progress":
            continue
        if event["state"] == "start":
            under_way.append(event["phase"])
        elif event["phase"] in under_way:
            under_way.remove(event["phase"])
        times.append(event["time"])
        names.append(under_way[-1] if under_way else BETWEEN)
    return times, names
