"""The probe as a process beside whoever began it: its figures, its faults, and nothing that is left of it."""

import os
import sys
from dataclasses import replace

import psutil
import pytest

from harness.h200 import H200
from harness.runs import wait_for
from launcher.errors import CannotRunHereError, RunFailedError
from launcher.machine import measuring, probing
from launcher.machine.bandwidths import bandwidths_file
from launcher.machine.host import read_host
from launcher.machine.measuring import Measuring, ToMeasure, begin

WANTED = ToMeasure(H200.hardware)


@pytest.fixture
def probe(tmp_path, monkeypatch):
    """Has a few lines of Python stand for the probe; ``out`` is the file to write."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def stand_in(lines: str) -> None:
        code = f"import sys, time; out = sys.argv[1]; {lines}"
        monkeypatch.setattr(measuring, "PROBE", (sys.executable, "-S", "-c", code))

    return stand_in


def told(begun) -> str:
    assert isinstance(begun, Measuring)
    wait_for(lambda: begun.ended)
    with pytest.raises((CannotRunHereError, RunFailedError)) as raised:
        begun.result()
    return str(raised.value)


def test_the_drive_is_measured_where_it_is_asked_for(probe, tmp_path):
    asked = tmp_path / "asked"
    probe(f"open({str(asked)!r}, 'a').write(' '.join(sys.argv[1:]) + chr(10)); sys.exit(1)")
    told(begin(WANTED))
    told(begin(replace(WANTED, nvme="/other")))
    file = bandwidths_file(H200.hardware)
    assert asked.read_text().splitlines() == [
        f"{file} --threads 16",
        f"{file} --threads 16 --nvme /other",
    ]
    assert str(file).startswith(os.environ["XDG_CACHE_HOME"])


def test_its_figures_are_its_result(probe, tmp_path):
    (tmp_path / "figures").write_bytes(H200.to_bytes())
    probe(f"open(out, 'w').write(open({str(tmp_path / 'figures')!r}).read())")
    begun = begin(WANTED)
    wait_for(lambda: begun.ended)
    assert begun.result() == H200


@pytest.mark.parametrize(
    ("lines", "error", "said"),
    [
        ("print('warned'); print('the GPU has no room'); sys.exit(3)", CannotRunHereError, "the GPU has no room"),
        ("raise OSError('broken')", RunFailedError, "this machine could not be measured: OSError: broken"),
        ("sys.exit(1)", RunFailedError, "this machine could not be measured: it said nothing"),
        ("print('done')", RunFailedError, "this machine could not be measured: done"),
        (
            "import os; os.kill(os.getpid(), 9)",
            RunFailedError,
            "the probe was ended by SIGKILL before it had measured anything",
        ),
    ],
)
def test_a_fault_is_told_in_its_last_words(probe, lines, error, said):
    probe(lines)
    begun = begin(WANTED)
    wait_for(lambda: begun.ended)
    with pytest.raises(error, match=f"^{said}$"):
        begun.result()


def test_one_that_is_stopped_is_gone_though_it_would_not_hear(probe, tmp_path, monkeypatch):
    monkeypatch.setattr(probing, "PATIENCE", 0.1)
    deaf = tmp_path / "deaf"
    ignores = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    probe(f"{ignores}; open({str(deaf)!r}, 'w').close(); time.sleep(60)")
    begun = begin(WANTED)
    wait_for(deaf.exists)
    begun.stop()
    assert not psutil.pid_exists(begun.pid)
    assert list(bandwidths_file(H200.hardware).parent.iterdir()) == []


def test_where_figures_cannot_be_kept_nothing_is_begun(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(CannotRunHereError, match="cannot be written: Not a directory; set XDG_CACHE_HOME"):
        begin(WANTED)


@pytest.mark.parametrize(
    ("threads", "nvme", "typed"),
    [
        (0, "", ""),
        (1, "", " --threads 1001"),
        (0, "/nvme", " --nvme /nvme"),
        (1, "/a b", " --threads 1001 --nvme '/a b'"),
    ],
)
def test_it_says_what_to_type(threads, nvme, typed):
    hardware = replace(H200.hardware, threads=1001 if threads else read_host().cores)
    assert ToMeasure(hardware, nvme).command == f"simpletuner-tui measure{typed}"
