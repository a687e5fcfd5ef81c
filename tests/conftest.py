"""What every test stands on: an environment of its own, and the demo's model and pictures."""

import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import pytest

from harness.runs import end_run, stand_in_run
from launcher.imports import without_collecting
from launcher.runs.spawn import launch

ROOT = Path(__file__).parents[1]


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Test modules import torch, which is no garbage, and DeepSpeed collects it with every engine."""
    with without_collecting():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Under CI nothing but GPU tests may skip: what they need, `make test` installs."""
    report = yield
    expected = item.get_closest_marker("gpu") or hasattr(report, "wasxfail")
    if report.skipped and not expected and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} would skip under CI: {report.longrepr[-1]}"
    return report


@pytest.fixture(scope="session", autouse=True)
def own_environment(tmp_path_factory):
    """Nothing of the person who runs the tests is read or written; compiled extensions are kept."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(home / "state"))
        patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        patch.setenv("HF_HOME", str(home / "huggingface"))
        # Tests share cores: a thread with nothing to do sleeps instead of keeping a core busy.
        patch.setenv("OMP_WAIT_POLICY", "PASSIVE")
        patch.setenv(
            "TORCH_EXTENSIONS_DIR", os.environ.get("TORCH_EXTENSIONS_DIR", str(ROOT / ".venv/torch_extensions"))
        )
        patch.setenv(
            "PYTHONPATH", os.pathsep.join([str(ROOT / "tests/lib"), os.environ.get("PYTHONPATH", "")]).strip(":")
        )
        for variable in ("ACCESSIBLE", "HF_HUB_OFFLINE", "HF_ENDPOINT", "OMP_NUM_THREADS", "PYTHONUNBUFFERED"):
            patch.delenv(variable, raising=False)
        for variable in ("COLUMNS", "LINES"):  # set for tests side by side; a terminal has a size of its own
            patch.delenv(variable, raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def ordinary_signals():
    """Under nohup, or in a shell's background, processes started here would ignore a hang-up or Ctrl-C as well."""
    for number in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@pytest.fixture(scope="session")
def extensions(own_environment):
    """DeepSpeed's extensions, compiled before any test waits for a run that would compile them first."""
    _compile_extensions()


@pytest.fixture(scope="session")
def async_io(extensions):
    """What NVMe offload takes too: only the tests that need it wait for it."""
    _compile_extensions("nvme")


def _compile_extensions(*more: str) -> None:
    """Once for all sessions: only to look whether there is something to compile takes seconds."""
    compiled = Path(os.environ["TORCH_EXTENSIONS_DIR"])
    compiled.mkdir(parents=True, exist_ok=True)
    versions = [version(name) for name in ("torch", "deepspeed")]
    asked = repr([sys.prefix, *versions, *more]).encode() + (ROOT / "tests/lib/harness/extensions.py").read_bytes()
    done = compiled / f"tested-{hashlib.sha256(asked).hexdigest()[:16]}"
    with (compiled / "tested.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if done.exists():
            return
        environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "DS_ACCELERATOR": "cpu",
            "CUDA_VISIBLE_DEVICES": "",
        }
        subprocess.run([sys.executable, "-m", "harness.extensions", *more], check=True, cwd=ROOT, env=environment)
        done.touch()


@pytest.fixture
def in_memory():
    """A folder on tmpfs, which takes any alignment: what DeepSpeed swaps there comes back right."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


@pytest.fixture(scope="session")
def assets(pytestconfig, extensions) -> Path:
    """The demo's pictures and tiny SDXL, made by the project's own command; kept until that command changes."""
    sources = sorted((ROOT / "launcher/train/demo").glob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    folder = Path(pytestconfig.cache.mkdir(f"demo-assets-{digest}"))
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # where tests run side by side, the first makes them
        # One thread: where cores are shared, several wait for each other longer than they compute.
        one = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-m", "launcher.train.demo", str(folder)], check=True, cwd=ROOT, env=one)
    return folder


@pytest.fixture
def started(tmp_path):
    """Starts stand-in runs and leaves nothing of them behind."""
    runs = []

    def start(mode: str, name: str = "", **planned):
        run = stand_in_run(tmp_path / (name or mode.replace(" ", "-")), mode, **planned)
        runs.append(run)
        launch(run)
        return run

    yield start
    for run in runs:
        end_run(run)
