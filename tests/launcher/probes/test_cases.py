"""A case that hangs or takes its process with it costs no other case."""

import sys

import pytest

from launcher.probes import cases
from launcher.probes.cases import Case, run_cases

WORKER = """
import json, os, sys, time
for case in json.load(sys.stdin):
    what = case["config"].get("does")
    if what == "hang":
        time.sleep(600)
    if what == "crash":
        os.abort()
    if what == "leave":
        print("RuntimeError: enough", file=sys.stderr)
        sys.exit(3)
    if what == "compile":
        print("builds it", flush=True)
        time.sleep(1.5)
    print("noise", flush=True)
    print("told", json.dumps({"name": case["name"], "ran": True}), flush=True)
    if what == "break":
        os.abort()
"""


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """Stands in for DeepSpeed, which cannot be made to crash."""
    package = tmp_path / "launcher" / "probes"
    package.mkdir(parents=True)
    (package / "engines.py").write_text(WORKER)
    monkeypatch.setattr(cases, "ENGINES", (sys.executable, str(package / "engines.py")))


def does(*what: str) -> list[Case]:
    return [Case(f"{number} {name}", {"does": name}) for number, name in enumerate(what)]


def test_each_is_told(worker):
    told = run_cases(does("run", "run"))
    assert told == {f"{number} run": {"name": f"{number} run", "ran": True} for number in (0, 1)}
    assert run_cases([]) == {}


def test_what_hangs_is_ended_and_the_rest_runs(worker):
    told = run_cases(does("run", "hang", "run"), seconds=1)
    assert told["1 hang"] == {"name": "1 hang", "error": "nothing was heard for 1 s", "phase": "process"}
    assert told["0 run"]["ran"]
    assert told["2 run"]["ran"]


@pytest.mark.parametrize(
    ("what", "error"),
    [("crash", "the process ended with -6: "), ("leave", "the process ended with 3: RuntimeError: enough")],
)
def test_what_takes_its_process_with_it_is_named_and_the_rest_runs(worker, what, error):
    told = run_cases(does("run", what, what, "run"))
    assert [seen.get("error") for seen in told.values()] == [None, error, error, None]
    assert [seen.get("phase") for seen in told.values()] == [None, "process", "process", None]


def test_a_process_that_breaks_after_its_last_word_lost_nothing(worker):
    assert run_cases(does("run", "break"))["1 break"]["ran"]


def test_compiling_may_take_longer(worker):
    assert run_cases(does("compile"), seconds=1)["0 compile"]["ran"]
