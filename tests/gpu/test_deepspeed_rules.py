"""The builder's rules on a real NVIDIA GPU: what they allow trains, and what only a GPU shows. Skipped without."""

import pytest

from harness.deepspeed_cases import ALLOWED, CASES, CPU, INSTALLED, ON_NVME, RUN, Ends, NotHere, at, config_of
from launcher.config.setting import Level
from launcher.deepspeed.rules import judge
from launcher.machine.gpus import read_nvml
from launcher.probes.cases import Case, run_cases

NVML = read_nvml()
ON_GPU = RUN.given(device="cuda")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not NVML.gpus, reason=NVML.reason or "no GPU"),
    pytest.mark.timeout(900),
]

FP16 = {"bf16": {}, "fp16.enabled": True}
TRAINS = {
    **{name: paths for name, paths in ALLOWED.items() if name not in ON_NVME},
    **{
        f"fp16, stage {stage}, optimizer on the {place}": at(stage, **(CPU if place == "CPU" else {}), **FP16)
        for stage in range(1, 4)
        for place in ("GPU", "CPU")
    },
    "DeepSpeed's own Adam": at(2, optimizer={"type": "AdamW", "params": {"lr": 0.01}}),
    "Lion on the CPU": at(
        2, optimizer={"type": "Lion", "params": {"lr": 0.01}}, **{"zero_optimization.offload_optimizer.device": "cpu"}
    ),
}
FAILS = {
    "adagrad-at-stage-0": "KeyError: 'sum'",
    "offload-needs-zero": "CPUAdam param is on cuda:0 and must be 'cpu'",
    "fp16-masters-need-cpu-adam": "Master weights feature requires ZeRO-2 Offload with DeepSpeedCPUAdam",
}
"""What a CPU cannot show, or shows otherwise, by rule."""
REFUSED = {case.rule: case.paths for case in CASES if case.rule in FAILS and isinstance(case.proof, NotHere | Ends)}


@pytest.fixture(scope="module")
def ran() -> dict[str, dict]:
    cases = [Case(name, config_of(paths)) for name, paths in (TRAINS | REFUSED).items()]
    return run_cases(cases, device="cuda")


@pytest.mark.parametrize("name", TRAINS)
def test_what_is_allowed_trains(name, ran):
    problems = judge(config_of(TRAINS[name]), ON_GPU, INSTALLED)
    assert [problem for problem in problems if problem.level is Level.ERROR] == []
    assert "error" not in ran[name]
    assert ran[name]["finite"]
    assert ran[name]["moved"] > 0.5


@pytest.mark.parametrize("rule", FAILS)
def test_what_a_cpu_cannot_show(rule, ran):
    assert rule in {problem.rule for problem in judge(config_of(REFUSED[rule]), ON_GPU, INSTALLED)}
    assert FAILS[rule] in ran[rule]["error"]
