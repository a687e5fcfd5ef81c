"""Each rule both ways, by running DeepSpeed: what is refused fails or does nothing, what is allowed trains.

All configurations run in one process, on a tiny model with a convolution and linear layers, on the CPU.
"""

import json
from typing import Any

import pytest

from harness.deepspeed_cases import (
    ALLOWED,
    CASES,
    CPU,
    INSTALLED,
    LARGE,
    ON_NVME,
    RUN,
    Case,
    Ends,
    Fails,
    NoFp16,
    NotHere,
    SameAs,
    Share,
    Z,
    at,
    config_of,
)
from launcher.config.setting import Level
from launcher.deepspeed.fields import FIELDS
from launcher.deepspeed.normalise import normalise
from launcher.deepspeed.rules import RULES, judge
from launcher.deepspeed.run_facts import RunFacts
from launcher.deepspeed.view import View
from launcher.probes import cases as probes


def neighbour(case: Case) -> dict[str, Any] | None:
    """The case without one of its values, or mended as it says, where no rule refuses and its own does not speak."""
    fewer = ({key: value for key, value in case.paths.items() if key != left_out} for left_out in case.paths)
    return next((paths for paths in ([case.mended] if case.mended else fewer) if _speaks_not(case, paths)), None)


def _speaks_not(case: Case, paths: dict[str, Any]) -> bool:
    config = config_of(paths)
    problems = judge(config, RUN.given(**case.run), INSTALLED)
    view = View(config)
    # DeepSpeed's own Adam on the device is an extension that is not compiled here.
    compiled = view.offloads or view.get("optimizer.params.torch_adam") or view.optimizer == "adagrad"
    return compiled and not any(problem.rule == case.rule or problem.level is Level.ERROR for problem in problems)


def named(paths: dict[str, Any], case: Case) -> str:
    return f"{json.dumps(config_of(paths))} {case.together}"


@pytest.fixture(scope="module")
def ran(async_io) -> dict[str, dict[str, Any]]:
    """What became of every configuration, by name."""
    cases = [
        probes.Case(f"allowed {name}", config_of(paths), "large" if name in ON_NVME else "small")
        for name, paths in ALLOWED.items()
    ]
    cases.append(probes.Case("large on the CPU", config_of(at(3, **CPU)), "large"))
    for case in CASES:
        if not isinstance(case.proof, NotHere):
            resume = isinstance(case.proof, Ends) and not {"saved", "loaded"}.isdisjoint(case.proof.facts)
            cases.append(
                probes.Case(case.name, config_of(case.paths), resume=resume, marked=case.marked, **case.together)
            )
        others = [case.proof.paths] if isinstance(case.proof, SameAs | Share) else []
        if (paths := neighbour(case)) is not None:
            others.append(paths)
        cases += [probes.Case(named(paths, case), config_of(paths), **case.together) for paths in others]
    # First what is swapped: an engine that fails as it is built leaves DeepSpeed taking nvme for a device of torch's.
    return probes.run_cases(sorted(cases, key=lambda case: case.model != "large"))


def run_of(name: str) -> RunFacts:
    return RUN.given(**LARGE) if name in ON_NVME else RUN


@pytest.mark.parametrize("name", ON_NVME)
def test_on_nvme_the_weights_are_those_of_the_cpu(name, ran):
    seen = ran[f"allowed {name}"]
    assert seen["weights"] == ran["large on the CPU"]["weights"]
    assert seen["files"] > 0


def problems_of(case: Case):
    return judge(config_of(case.paths), RUN.given(**case.run), INSTALLED)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_rule_fires_and_no_other_refuses(case):
    problems = problems_of(case)
    assert case.rule in {problem.rule for problem in problems}
    assert {problem.rule for problem in problems if problem.level is Level.ERROR} <= {case.rule}


@pytest.mark.parametrize("case", [case for case in CASES if not isinstance(case.proof, NotHere)], ids=lambda c: c.name)
def test_deepspeed_does_what_the_rule_says(case, ran):
    seen = ran[case.name]
    match case.proof:
        case NoFp16(text):
            assert text in seen.get("error", text)
        case Fails(text):
            assert text in seen.get("error", "it ran")
            assert "error" in seen
        case SameAs(paths):
            assert "error" not in seen
            assert seen["weights"] == ran[named(paths, case)]["weights"]
            assert seen["files"] == 0
        case Share(fact, most, paths, least):
            other = ran[named(paths, case)]
            assert "error" not in seen
            assert least * other[fact] < seen[fact] <= most * other[fact]
        case Ends(facts):
            assert "error" not in seen
            assert {key: seen[key] for key in facts} == facts


def test_every_rule_has_a_case():
    assert {rule.id for rule in RULES} - {case.rule for case in CASES} == {
        # What the run says too: DeepSpeed knows nothing of it.
        "not-the-runs-train-batch-size",
        "not-the-runs-gradient-accumulation-steps",
        "not-the-runs-gradient-clipping",
        "not-the-runs-learning-rate",
        "not-the-runs-precision",
    }


def test_what_no_run_proves_is_known():
    proven = {case.rule for case in CASES if not isinstance(case.proof, NotHere)}
    assert {case.rule: case.proof.needs for case in CASES if case.rule not in proven} == {
        # A CPU has nowhere to offload to.
        "offload-needs-zero": "a GPU",
        "ratio-needs-cpu": "a GPU",
        "ratio-forgets": "a GPU",
        "accumulation-in-fp32-on-nvme": "a GPU",
        "stage-1-moves-less": "counters of bytes",
        "muon-travels": "counters of bytes",
        # Nor fp16.
        "fp16-masters-need-cpu-adam": "a GPU",
        "fp16-needs-zero": "a GPU, and the optimizer's moments",
        "unfused-on-the-cpu": "a clock and 100 million parameters",
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_next_to_it_the_rule_is_silent_and_deepspeed_trains(case, ran):
    paths = neighbour(case)
    assert paths is not None
    seen = ran[named(paths, case)]
    assert "error" not in seen
    assert seen["finite"]
    assert seen["moved"] > 0.9


@pytest.mark.parametrize("name", ALLOWED)
def test_what_is_allowed_trains(name, ran):
    seen = ran[f"allowed {name}"]
    assert "error" not in seen
    assert seen["finite"]
    assert seen["moved"] > 0.9


@pytest.mark.parametrize("name", ALLOWED)
def test_what_trains_is_allowed(name):
    problems = judge(config_of(ALLOWED[name]), run_of(name), INSTALLED)
    assert [problem for problem in problems if problem.level is Level.ERROR] == []


@pytest.mark.parametrize("name", ALLOWED)
def test_what_trains_is_left_as_it_is(name):
    config = config_of(ALLOWED[name])
    normalised = normalise(config, run_of(name), INSTALLED).config
    added = {key: value for key, value in normalised.items() if key not in config}
    assert set(added) <= {"scheduler", "gradient_clipping"}
    assert {key: normalised[key] for key in config} == config


def test_rules_are_about_known_places():
    sections = {
        "optimizer",
        "optimizer.params",
        "scheduler.params",
        "checkpoint.writer",
        "managed_gradient_accumulation",
        "optimizer.params.per_head_muon",
    }
    of_old = {f"{Z}.{key}" for key in ("legacy_stage1", "elastic_checkpoint", "cpu_offload_use_pin_memory", "zenflow")}
    assert {path for rule in RULES for path in rule.fields} <= FIELDS.keys() | sections | of_old
