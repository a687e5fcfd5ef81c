"""A run's events as lines: one for each that is worth telling, and one that moves."""

from typing import Any

from simpletuner_tui.progress import Progress
from simpletuner_tui.text import bar, duration

TITLES = {
    "join": "processes meet",
    "scan": "look for pictures",
    "compile_communication": "compile communication",
    "compile": "compile DeepSpeed's optimizer",
    "download": "download the model",
    "contents": "look through pictures and caches",
    "convert": "convert the model",
    "captions": "prompt embeddings",
    "latents": "latents",
    "verify": "verify the checkpoint",
    "load": "load the U-Net",
    "engine": "start the optimizer",
    "evaluate": "loss on held-out noise",
    "train": "train",
    "save": "save",
    "export": "export the pipeline",
    "pictures": "validation pictures",
    "samples": "sample pictures",
}
"""Phases as people read them."""


def line_of(event: dict[str, Any]) -> str:
    """What an event says to people; empty where it says nothing by itself."""
    kind, text = event["event"], ""
    if kind == "phase" and event.get("state") == "end":
        text = f"  {TITLES.get(event['phase'], event['phase']):30} {duration(float(event['seconds']))}"
    elif kind == "data":
        text = f"  {event['pictures']} pictures, {event['captions']} captions"
    elif kind == "model":
        width = f"{event['world_size']} process" + ("es" if event["world_size"] > 1 else "")
        stage = event["zero_stage"]
        engine = "plain PyTorch" if stage is None else f"ZeRO-{stage}"
        text = f"  {_trained(event)} in {event['dtype']}, {engine}, {width} on {event['device']}"
    elif kind == "evaluation":
        text = f"  loss on held-out noise {event['when']}: {event['loss']:.4f}"
    elif kind == "resumed":
        text = f"  continues from step {event['step']}: {event['path']}"
    elif kind == "checkpoint":
        text = f"  checkpoint of step {event['step']}: {event['bytes'] / 2**20:,.0f} MiB"
    elif kind == "swap_removed":
        text = f"  removed what a dead run left on NVMe, {event['bytes'] / 2**20:,.0f} MiB: {event['path']}"
    elif kind == "rows_removed":
        size = f"{event['bytes'] / 2**20:,.0f} MiB"
        text = f"  removed what {event['source']} was unpacked to before it changed, {size}: {event['path']}"
    elif kind == "warning":
        text = f"warning: {event['message']}"
    return text


def moving_line(progress: Progress, width: int, *, ascii_only: bool) -> str:
    """Where a run is in its phase; empty between phases.

    Args:
        progress: of the run.
        width: columns there are.
        ascii_only: whether a terminal has no more.
    """
    if not progress.phase:
        return ""
    parts = [f"  {TITLES.get(progress.phase, progress.phase)}"]
    if progress.total:
        parts.append(bar(progress.done, progress.total, max(8, width // 5), ascii_only=ascii_only))
        parts.append(_amount(progress.done, progress.total))
    else:
        parts.append("..." if ascii_only else "…")
    if progress.phase == "train" and progress.step:
        parts += _training_figures(progress)
    elif progress.seconds_left:
        parts.append(f"{duration(progress.seconds_left)} left")
    return " ".join(parts)[:width]


def _trained(model: dict[str, Any]) -> str:
    rank, whole = model.get("lora_rank"), f"{model['parameters'] / 1e6:,.1f} M"
    if rank is None:
        return f"U-Net with {whole} parameters"
    trained = model["trainable"]
    some = f"{trained / 1e6:,.1f} M" if trained >= 100_000 else f"{trained:,}"
    return f"LoRA of rank {rank}, {some} of {whole} parameters trained,"


def _amount(done: float, total: float) -> str:
    if total >= 10 * 2**20:  # bytes of a download
        return f"{done / 2**20:,.0f}/{total / 2**20:,.0f} MiB"
    return f"{done:.0f}/{total:.0f}"


def _training_figures(progress: Progress) -> list[str]:
    step, speed = progress.step, progress.steps_per_second
    figures = [f"loss {float(step['loss']):.4f}", f"lr {step['lr']:.1e}"]
    memory = step.get("vram_mib") or []
    if memory:
        figures.append(f"{max(rank['peak'] for rank in memory) / 1024:.1f} GiB")
    if speed:
        figures.append(f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s")
        figures.append(f"{duration((progress.total - progress.done) / speed)} left")
    return figures
