"""Costs in words, and what they are held against."""

from dataclasses import replace

import pytest

from harness.h200 import H200, keep
from harness.screens import CARD, MACHINE, NO_GPU
from launcher.config.accelerate import Dynamo, LaunchSettings
from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.settings import Settings
from launcher.config.training import RuntimeSettings, TrainingSettings
from launcher.estimate import SDXL, Part, Phase, Verdict, estimate
from launcher.estimate.step_time import Share, StepTime
from launcher.estimate.traffic import Traffic, Transfer
from launcher.machine.bandwidths import DriveSpeed
from launcher.machine.cards import CARDS, usable_mib
from launcher.machine.gpu_processes import GpuProcess
from launcher.machine.gpus import Gpus
from launcher.machine.host import Host
from simpletuner_tui.costs import (
    beside_gpu,
    change,
    estimate_lines,
    held_lines,
    holders,
    judged,
    moved_lines,
    phase_table,
    step_lines,
)
from simpletuner_tui.pricing import Card, price, sold


def phase(name: str, process: int, least: int | None = None) -> Phase:
    parts = (Part("CUDA context", 400), Part("weights", process - 500), Part("held by torch between tensors", 100))
    return Phase(name, parts, process - 500, process - 400, process - 100 if least is None else least)


def taking(seconds: float) -> StepTime:
    return StepTime(seconds / 4, seconds / 2, seconds / 4, (Share("transfers", seconds),), "NVIDIA RTX")


COST = replace(
    estimate(Settings(), SDXL),
    gpu=(phase("init", 9_000, 6_000), phase("step", 8_000, 7_000)),
    host=(Part("optimizer, pinned", 4_096), Part("optimizer, pageable", 1_024)),
    host_pinned_mib=4_096,
    disk=(Part("checkpoints", 2_048),),
    notes=("a note",),
    step_time=taking(2.5),
)


def on(free: int, held: int = 0, *named: GpuProcess) -> Card:
    return Card("GPU 0", "NVIDIA RTX", free, held, named)


@pytest.mark.parametrize(
    ("card", "verdict", "sentence"),
    [
        (on(9_000), Verdict.FITS, "Fits: 9,000 of 9,000 MiB free on GPU 0."),
        (
            on(8_999),
            Verdict.TIGHT,
            "Tight: 8,999 MiB free on GPU 0 for 9,000; torch can do with 7,000, and is slower then.",
        ),
        (on(7_000), Verdict.TIGHT, None),
        (on(6_999), Verdict.DOES_NOT_FIT, "Does not fit: needs 7,000 MiB, GPU 0 has 6,999."),
        (
            on(6_999, 1),
            Verdict.DOES_NOT_FIT,
            "Does not fit now: 6,999 MiB free on GPU 0, 7,000 needed; others hold 1.",
        ),
        (sold(12), Verdict.FITS, "Fits: 9,000 of 11,666 MiB of a 12 GB card."),
    ],
)
def test_a_verdict_is_a_word_with_its_reason(card, verdict, sentence):
    assert judged(COST, card) == (verdict, sentence or judged(COST, card)[1])


@pytest.mark.parametrize(
    ("gpu", "seconds", "said"),
    [
        (1_912, 2.1, "+1,912 MiB, -0.4 s/step"),
        (-1_912, None, "-1,912 MiB"),
        (0, 2.9, "+0.4 s/step"),
        (0, 2.51, ""),
        (0, None, ""),
    ],
)
def test_a_change_is_told_and_seconds_only_where_both_are_known(gpu, seconds, said):
    now = replace(COST, gpu=(phase("init", 9_000 + gpu),), step_time=seconds and taking(seconds))
    assert change(COST, now) == said
    assert change(now, now) == ""


def test_a_change_of_host_ram_and_disk_is_told_too():
    now = replace(COST, host=(Part("a", 7_168),), disk=(Part("b", 1_024),))
    assert change(COST, now) == "RAM +2.0 GiB, disk -1.0 GiB"


def test_each_phase_has_three_numbers():
    assert phase_table(COST) == [
        "MiB           allocated reserved process",
        "engine start      8,500    8,600   9,000",
        "training step     7,500    7,600   8,000",
    ]


@pytest.mark.parametrize(
    ("total", "available", "said"),
    [
        (8_192, 8_192, "fits in 8.0 GiB"),
        (8_192, 2_048, "tight: 2.0 GiB free"),
        (4_096, 4_096, "does not fit in 4.0 GiB"),
    ],
)
def test_host_ram_is_held_against_the_machine_with_what_is_pinned(total, available, said):
    lines = beside_gpu(COST, Host(total, available, 8))
    assert lines == [
        f"Host RAM  5.0 GiB (4.0 pinned)  {said}",
        "Disk      2.0 GiB",
        "A step    2.5 s                 on this machine's NVIDIA RTX",
    ]


def test_who_holds_the_rest_is_named_as_far_as_it_is_known():
    xorg, python = GpuProcess(7, "Xorg", 300), GpuProcess(9, "", 500)
    assert list(held_lines(on(1, 10))) == [], "a card without processes shows a few MiB as used"
    assert list(held_lines(on(1, 900))) == ["Held by others on GPU 0: 900 MiB"]
    assert list(held_lines(on(1, 900, python, xorg))) == [
        "Held by others on GPU 0: 900 MiB",
        "      500 MiB  a process (pid 9)",
        "      300 MiB  Xorg (pid 7)",
        "      100 MiB  not told by whom",
    ]
    assert holders(on(1, 900)) == ""
    assert holders(on(1, 900, python, xorg)) == "Others: pid (9) 500, Xorg (7) 300."
    assert holders(on(1, 900, xorg, xorg, python)) == "Others: Xorg (7) 300, Xorg (7) 300 and 1 more."


def test_a_name_from_elsewhere_gives_a_terminal_no_orders():
    evil = on(1, 900, GpuProcess(7, "\x1b[2Jx", 900))
    assert all(line.isprintable() for line in (holders(evil), *held_lines(evil)))


def test_an_estimate_is_told_as_a_whole():
    told = estimate_lines(COST, on(9_000, 900, GpuProcess(7, "Xorg", 900)))
    assert told[0] == "GPU memory, each GPU: 8.8 GiB, engine start"
    assert "GPU memory, training step: 7.8 GiB" in told
    assert "Host RAM: 5.0 GiB, 4.0 GiB of it pinned" in told
    step = told.index("A step: 2.5 s on this machine's NVIDIA RTX: forward 0.6, backward 1.2, optimizer 0.6")
    assert told[step + 1] == "  most of it: transfers 2.5 s"
    assert "Fits: 9,000 of 9,000 MiB free on GPU 0. (GPU 0 is a NVIDIA RTX)" in told
    assert told[-1] == "Note: a note."
    assert not [line for line in estimate_lines(COST, None) if "GPU 0" in line]


def test_what_a_step_moves_is_told_in_a_line_and_nvme_in_another():
    gib = 2**30
    nothing = Transfer()
    moved = Traffic(Transfer(up=gib), Transfer(up=gib, down=3 * gib), nothing, nothing, host=7 * gib)
    (line,) = moved_lines(moved)
    assert line == "A step moves: 2.0 GiB up to each GPU, 3.0 GiB down, 7.0 GiB in host memory"
    swapped = replace(moved, nvme_read=4 * gib, nvme_written=5 * gib)
    assert moved_lines(swapped) == [line, "  NVMe: 4.0 GiB read, 5.0 GiB written"]
    assert moved_lines(Traffic(nothing, nothing, nothing, nothing, host=0)) == []


def test_the_largest_shares_of_a_step_are_told():
    parts = tuple(Share(f"share {tenths}", tenths / 10) for tenths in (1, 4, 2, 3))
    assert step_lines(StepTime(0.2, 0.3, 0.5, parts, "NVIDIA RTX")) == [
        "A step: 1.0 s on this machine's NVIDIA RTX: forward 0.2, backward 0.3, optimizer 0.5",
        "  most of it: share 4 0.4 s, share 3 0.3 s, share 2 0.2 s",
    ]


# what would have to be measured


def waits(machine, **settings):
    asked = replace(Settings(), **settings)
    return price(asked, asked, machine, None).to_measure


@pytest.mark.parametrize(
    ("machine", "settings"),
    [
        (NO_GPU, {}),
        (MACHINE, {"launch": LaunchSettings(use_cpu=True)}),
        (MACHINE, {"deepspeed": DeepSpeedSettings(precision="no")}),
        (MACHINE, {"launch": LaunchSettings(dynamo=Dynamo())}),
    ],
)
def test_where_measuring_would_tell_nothing_it_is_not_offered(machine, settings):
    assert waits(MACHINE) is not None
    assert waits(machine, **settings) is None


def test_once_it_is_measured_it_is_not_offered_but_for_the_drive(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("launcher.plan._hardware", lambda threads: replace(H200.hardware, threads=threads))
    swaps = DeepSpeedSettings(stage=3, offload_optimizer_device="nvme", offload_optimizer_nvme_path=f"{tmp_path}/swap/")
    threads = TrainingSettings(runtime=RuntimeSettings(cpu_threads=4))
    two = LaunchSettings(num_processes=2)
    wanted = waits(MACHINE, training=threads, launch=two)
    assert wanted.hardware.threads == 8, "those of all processes"
    keep(replace(H200, hardware=wanted.hardware))
    assert waits(MACHINE, training=threads, launch=two) is None
    assert waits(MACHINE, training=threads, launch=two, deepspeed=swaps).nvme == f"{tmp_path}/swap"
    keep(replace(H200, hardware=wanted.hardware, drive=DriveSpeed(f"{tmp_path}/swap", 2.0, 4.0)))
    assert waits(MACHINE, training=threads, launch=two, deepspeed=swaps) is None


# which card


TWO = replace(
    MACHINE,
    gpus=lambda: Gpus((CARD, replace(CARD, index=1, uuid="GPU-1", free_mib=9_000, used_mib=15_000))),
    gpu_processes=lambda uuid: (GpuProcess(7, uuid, 300),),
)


def priced(machine, chosen=None, **launch):
    settings = Settings(LaunchSettings(**launch))
    return price(settings, settings, machine, chosen)


def test_of_the_gpus_that_are_used_the_one_with_the_least_free_counts(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert priced(TWO).card.name == "GPU 0", "one process uses the first"
    held = priced(TWO, num_processes=2).card
    assert (held.name, held.free_mib, held.held_mib, held.holders[0].name) == ("GPU 1", 9_000, 15_000, "GPU-1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert priced(TWO).card.name == "GPU 1"


def test_a_card_that_was_chosen_counts_whatever_is_here():
    for machine, launch in ((TWO, {}), (NO_GPU, {}), (TWO, {"use_cpu": True})):
        found = priced(machine, 16, **launch)
        assert (found.card, found.uses_gpu) == (sold(16), True)


def test_without_a_gpu_the_smallest_card_that_fits_counts():
    found = priced(NO_GPU)
    fits = [size for size in CARDS if found.now.gpu_mib <= usable_mib(size)]
    assert found.card == sold(min(fits))


def test_on_the_cpu_no_card_counts():
    found = priced(TWO, use_cpu=True)
    assert (found.card, found.uses_gpu) == (None, False)


def test_where_nothing_is_large_enough_no_card_counts(monkeypatch):
    monkeypatch.setattr("simpletuner_tui.pricing.usable_mib", lambda card: 6_000)
    found = priced(NO_GPU)
    assert (found.card, found.uses_gpu) == (None, True)
