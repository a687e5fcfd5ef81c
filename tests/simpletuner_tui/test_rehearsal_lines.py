"""What a rehearsal measured, for people."""

from dataclasses import replace

from harness.rehearsals import REHEARSED
from simpletuner_tui.rehearsal_lines import rehearsal_lines


def test_a_rehearsal_puts_what_was_measured_beside_what_was_predicted():
    lines = rehearsal_lines(REHEARSED)
    assert lines[:4] == [
        "                 measured  predicted",
        "  GPU, torch     14.0 GiB   14.1 GiB  1.0 % over",
        "  GPU, process   15.3 GiB   15.5 GiB  0.8 % over",
        "  Host RAM       60.4 GiB   59.8 GiB  1.0 % under",
    ]
    assert lines[-1] == "  Whole run     39 min 31 s: 1,000 steps 38 min 30 s, 2 saves 1 min 01 s"
    assert max(map(len, lines)) < 78, "as wide as the review is in 80 columns"


def test_a_rehearsal_says_what_is_not_known_and_what_is_odd():
    assert rehearsal_lines(replace(REHEARSED, whole_run=None)) == [
        "  nothing was measured: it did not get through its first step"
    ]
    unsaved = replace(REHEARSED.whole_run, save_seconds=None)
    measured = replace(REHEARSED.measured, gpu_reserved_mib=None, gpu_process_mib=None)
    odd = replace(REHEARSED, losses=(0.5,), skipped=1, whole_run=unsaved, measured=measured)
    said = "\n".join(rehearsal_lines(odd))
    assert "GPU" not in said
    assert "1 of 1 steps made no update in fp16" in said
    assert "one step only, and the first is the slowest" in said
    assert said.endswith("38 min 30 s: 1,000 steps 38 min 30 s, 2 saves not counted")
