"""What a rehearsal measured, for people."""

from launcher.runs.rehearsed import Rehearsed, WholeRun
from simpletuner_tui.text import duration, size


def rehearsal_lines(rehearsed: Rehearsed) -> list[str]:
    """What a rehearsal measured beside what was predicted, and what the whole run takes by it."""
    if rehearsed.whole_run is None:
        return ["  nothing was measured: it did not get through its first step"]
    measured, predicted = rehearsed.measured, rehearsed.predicted
    figures = (
        ("GPU, torch", measured.gpu_reserved_mib, predicted.gpu_reserved_mib, size),
        ("GPU, process", measured.gpu_process_mib, predicted.gpu_process_mib, size),
        ("Host RAM", measured.host_mib, predicted.host_mib, size),
        ("A step", measured.step_seconds, predicted.step_seconds, _step_seconds),
    )
    lines = [_labelled("", f"{'measured':>9}  {'predicted':>9}")]
    for name, was, expected, shown in figures:
        if was is not None:
            beside = f"{'-':>9}" if expected is None else f"{shown(expected):>9}  {_off(was, expected)}"
            lines.append(_labelled(name, f"{shown(was):>9}  {beside}"))
    lines.append(_labelled("", ", ".join(f"{name} {each:.2f}" for name, each in rehearsed.seconds.items()) + " s"))
    losses = ", ".join(f"{loss:.4f}" for loss in rehearsed.losses)
    lines.append(_labelled("Loss", f"{losses}: {'finite' if rehearsed.finite else 'not finite'}"))
    if rehearsed.skipped:
        lines.append(
            _labelled("Overflows", f"{rehearsed.skipped} of {len(rehearsed.losses)} steps made no update in fp16")
        )
    if len(rehearsed.losses) == 1:
        lines.append(_labelled("", "one step only, and the first is the slowest"))
    lines.append(_labelled("Whole run", _whole_run(rehearsed.whole_run)))
    return lines


def _labelled(name: str, text: str) -> str:
    return f"  {name:12}  {text}"


def _step_seconds(seconds: float) -> str:
    return f"{seconds:.2f} s"


def _off(measured: float, predicted: float) -> str:
    """How far a prediction is from what was measured."""
    percent = (predicted / measured - 1) * 100 if measured else 0.0
    return f"{abs(percent):.1f} % {'under' if percent < 0 else 'over'}"


def _whole_run(whole_run: WholeRun) -> str:
    saves = f"{whole_run.saves:,} save" + ("s" if whole_run.saves > 1 else "")
    known = whole_run.save_seconds
    saved = f"{saves} not counted" if known is None else f"{saves} {duration(known)}"
    steps = f"{whole_run.steps:,} steps {duration(whole_run.step_seconds)}"
    return f"{duration(whole_run.seconds)}: {steps}, {saved}"
