"""Settings as answers give them, for tests of what is made from settings."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from launcher.config.setting import Level
from launcher.config.settings import Settings, read_settings
from launcher.plan import Plan, make_plan

NOBODY = 65534
HUB_ID = "stabilityai/stable-diffusion-xl-base-1.0"

DEEPSPEED_KEYS = (
    "zero_stage",
    "offload_optimizer_device",
    "offload_optimizer_nvme_path",
    "offload_param_device",
    "offload_param_nvme_path",
    "gradient_accumulation_steps",
)
ACCELERATE_KEYS = ("num_processes", "use_cpu", "mixed_precision")


def settings_of(**changed: object) -> Settings:
    """SDXL at stage 2 with the optimizer on the CPU, but for what is changed.

    Names are those of accelerate's file and of ``training.json``; one with a dot is a place in DeepSpeed's JSON.
    """
    accelerate = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "DEEPSPEED",
        "num_processes": 1,
        "mixed_precision": "bf16",
    }
    inline = {"zero_stage": 2, "offload_optimizer_device": "cpu", "gradient_clipping": 1.0}
    training: dict[str, object] = {"pretrained_model_name_or_path": HUB_ID, "instance_data_dir": "/nowhere"}
    deepspeed: dict[str, object] = {}
    for key, value in changed.items():
        if "." in key:
            deepspeed[key] = value
        elif key in DEEPSPEED_KEYS:
            inline[key] = value
        else:
            (accelerate if key in ACCELERATE_KEYS else training)[key] = value
    settings, problems = read_settings({**accelerate, "deepspeed_config": inline}, deepspeed, training)
    assert not [problem for problem in problems if problem.level is Level.ERROR]
    return settings


@pytest.fixture(scope="session")
def make_settings() -> Callable[..., Settings]:
    return settings_of


@pytest.fixture
def plan_of(tmp_path) -> Callable[..., Plan]:
    """A plan of a run below the test's folder."""

    def plan(**changed: object) -> Plan:
        return make_plan(settings_of(**changed), b"{}\n", tmp_path / "runs" / "a")

    return plan


@dataclass(frozen=True)
class Guarded:
    """A folder in which permissions bind whoever runs the tests, root included."""

    path: Path

    @contextmanager
    def ordinary_user(self) -> Iterator[None]:
        if os.geteuid() != 0:
            yield
            return
        os.setresuid(NOBODY, NOBODY, 0)
        try:
            yield
        finally:
            os.setresuid(0, 0, 0)


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    # Not below pytest's own folder, which nobody else may enter.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield Guarded(folder)
        for place, folders, _ in os.walk(folder):
            for inside in folders:
                Path(place, inside).chmod(0o755)
