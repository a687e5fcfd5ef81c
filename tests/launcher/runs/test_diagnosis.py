"""Known failures, provoked where that takes seconds and no GPU, else from the lines that they leave in a log."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness.fake_model import write_model, write_pictures
from harness.runs import CLI, cli, end_run, stand_in_run, wait_for, wait_until_over
from harness.terminal import Terminal
from launcher.config.accelerate import LaunchSettings, Machines
from launcher.config.settings import Settings
from launcher.config.training import DataSettings, ModelSettings, TrainingSettings
from launcher.errors import ExitCode
from launcher.plan import make_plan
from launcher.runs import diagnosis as module
from launcher.runs.diagnosis import diagnose, diagnose_hang, explain
from launcher.runs.diagnosis.evidence import Evidence
from launcher.runs.diagnosis.rules import RULES
from launcher.runs.directory import RunDirectory, create
from launcher.runs.outcome import Outcome, write_outcome
from launcher.runs.spawn import launch
from launcher.runs.state import RunState, RunStatus, Status, status, write_state
from launcher.runs.vitality import vitality

DOCUMENT = Path(__file__).parents[3] / "docs/troubleshooting.md"
STALE_LOCK, RESTARTED = "a compile waits for a build that was killed", "the machine was restarted"


@pytest.fixture(autouse=True)
def own_index(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def ran(tmp_path):
    """The run of a command, over."""
    runs = []

    def run_of(*argv: str, seconds: float = 60, **environment: str) -> RunDirectory:
        plan = {"argv": list(argv), "environment": environment}
        run = create(tmp_path / "run", {"plan.json": json.dumps(plan).encode()})
        runs.append(run)
        launch(run)
        wait_until_over(run, seconds)
        return run

    yield run_of
    for run in runs:
        end_run(run)


def told(run: RunDirectory):
    """What a run that failed is known to have died of; the supervisor says the same."""
    known = diagnose(run)
    assert known is not None, run.log.read_text()
    assert status(run).state["message"] == str(known)
    return known


# provoked


def test_a_port_that_another_process_has(ran, tmp_path):
    """Behind the real accelerate, as the first of two machines."""
    write_model(tmp_path / "model")
    write_pictures(tmp_path / "pictures")
    training = TrainingSettings(
        model=ModelSettings(pretrained_model_name_or_path=str(tmp_path / "model")),
        data=DataSettings(instance_data_dir=str(tmp_path / "pictures"), resolution=64),
    )
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        machines = LaunchSettings(use_cpu=True, num_processes=2, machines=Machines(2, 0, "127.0.0.1", port))
        plan = make_plan(Settings(launch=machines, training=training), b"{}\n", tmp_path / "run")
        create(tmp_path / "run", plan.files)
        known = told(ran(*plan.argv))
    assert known.name == "port"
    assert known.happened == f"another process has the port {port} at which the processes of this run meet"
    assert "accelerate.main_process_port" in known.advice[0]
    assert f"port `{port}`, but another process" in known.lines[-1]


def test_a_process_that_is_killed(ran):
    known = told(ran(sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"))
    assert (known.name, "most likely by the kernel" in known.happened) == ("host-memory-likely", True)


def test_a_log_that_takes_nothing_more_keeps_no_end_from_being_told(ran):
    run = ran(sys.executable, "-c", "import os; os.remove('train.log'); os.mkdir('train.log'); os.kill(os.getpid(), 9)")
    assert status(run).status is Status.FAILED
    assert told(run).name == "host-memory-likely"


def test_a_package_that_is_missing(ran):
    known = told(ran(sys.executable, "-c", "import no_such.package"))
    assert known.happened == "the Python package no_such is not installed where it trains"
    assert f"`{sys.executable} -m pip install no_such`" in known.advice[0]
    assert known.lines == ("ModuleNotFoundError: No module named 'no_such'",)


def test_a_full_disk(ran):
    known = told(ran(sys.executable, "-c", "f = open('/dev/full', 'w', buffering=1); f.write('\\n')"))
    assert (known.name, known.happened) == ("disk-full", "no space left on the disk of the run or of its caches")
    assert "make room there and start the run again: it continues" in known.advice[0]


def test_a_mapped_file_that_was_cut_short(ran):
    code = "import mmap; f = open('x', 'w+b'); f.write(b'x' * 8192); f.flush(); m = mmap.mmap(f.fileno(), 8192)"
    known = told(ran(sys.executable, "-c", f"{code}; f.truncate(0); m[5000]"))
    assert (known.name, known.advice[0][:26]) == ("shared-memory", "give the container more (d")


def test_an_extension_that_does_not_compile(ran):
    """torch's own way of building one, with a source that needs a header which is not there."""
    code = (
        "import pathlib; from torch.utils.cpp_extension import load\n"
        "pathlib.Path('a.cpp').write_text('#include <{header}>\\n')\n"
        "pathlib.Path('build').mkdir()\n"
        "load('{name}', ['a.cpp'], build_directory='build')"
    )
    known = told(ran(sys.executable, "-c", code.format(header="no_such.h", name="cpu_adam")))
    assert (known.name, known.happened) == (
        "extension-build",
        "DeepSpeed's cpu_adam extension does not compile here",
    )
    assert any("fatal error: no_such.h: No such file or directory" in line for line in known.lines)
    assert "apt install g++ python3-dev" in known.advice[0]


def test_a_compile_that_waits_for_a_build_that_was_killed_is_told_while_it_hangs(started, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "STANDS_FOR", 1.0)
    lock = tmp_path / "extensions/cpu_adam/lock"
    lock.parent.mkdir(parents=True)
    subprocess.run([sys.executable, "-c", f"import os; os.open({str(lock)!r}, os.O_CREAT); os._exit(9)"], check=False)
    run = started("waits for a build", TORCH_EXTENSIONS_DIR=str(tmp_path / "extensions"))
    hang = wait_for(lambda: diagnose_hang(run, vitality(run, time.time())))
    assert (hang.name, hang.what) == ("stale-build-lock", STALE_LOCK)
    assert str(lock) in hang.happened
    attached = Terminal(CLI, "attach", run.name, "--plain")
    try:
        attached.read_until("was left by a build that was killed")
        (command,) = (part for part in hang.advice[0].split("`") if part.startswith("rm "))
        subprocess.run(command, shell=True, check=True)
        assert attached.wait() == ExitCode.OK
    finally:
        attached.close()
    assert status(run).status is Status.COMPLETED


def test_a_build_that_another_process_is_at_is_no_hang(started, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "STANDS_FOR", 0.5)
    lock = tmp_path / "extensions/cpu_adam/lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w"):
        run = started("waits for a build", TORCH_EXTENSIONS_DIR=str(tmp_path / "extensions"))
        wait_for(lambda: vitality(run, time.time()).phase == "compile")
        time.sleep(1.5)
        assert diagnose_hang(run, vitality(run, time.time())) is None


def test_a_machine_that_was_restarted(tmp_path):
    run = stand_in_run(tmp_path / "run", "long")
    before = psutil.boot_time() - 100
    write_state(run, RunState("train", supervisor={"pid": 1, "started": before}, heartbeat=before, started=before))
    known = diagnose(run)
    assert (known.name, known.happened) == (
        "restarted",
        f"{RESTARTED}, or lost its power, while it trained",
    )
    done = cli("attach", str(run.path))
    assert "died without a word (the machine was restarted" in done.stderr


def test_what_is_not_known_keeps_its_words_and_shows_the_end_of_its_log(ran):
    run = ran(
        sys.executable, "-c", "print('\\n'.join(map(str, range(20))) + '\\nodd\\rlast words'); raise SystemExit(7)"
    )
    assert diagnose(run) is None
    done = cli("attach", str(run.path))
    assert "error: the training ended with exit code 7 and no word" in done.stderr
    assert f"  | 19\n  | last words\n  log  {run.log}\n  exit 7\n" in done.stderr
    assert "| 12\n" not in done.stderr


# recorded


@pytest.fixture
def evidence(tmp_path):
    plan = {"argv": ["/env/bin/python"], "environment": {"TORCH_EXTENSIONS_DIR": "/env/torch_extensions"}}
    run = create(tmp_path / "run", {"plan.json": json.dumps(plan).encode()})

    def of(*log: str, said: str = "", foreseen: bool = False, **more) -> Evidence:
        outcome = Outcome("failed", 1, said, unforeseen=not foreseen) if said else None
        return dataclasses.replace(Evidence(run, outcome, 1, log, None), **more)

    return of


ELASTIC = "E1127 11:08:15.3 11344 torch/distributed/elastic/multiprocessing/api.py:1002] failed (exitcode: {}) local_"
RECORDED = {
    # the kernel's mm/oom_kill.c (v6.1), as dmesg prints it, behind the supervisor's word
    "host-memory-kernel": [
        ELASTIC.format(-9),
        "kernel: Memory cgroup out of memory: Killed process 4711 (python) total-vm:91204332kB, anon-rss:65011712kB",
    ],
    # real, of two processes on a CPU
    "host-memory-likely": [
        "W1127 11:08:15.3 11344 torch/distributed/elastic/multiprocessing/api.py:1028] Sending process 11424 closing",
        ELASTIC.format(-9),
        "  traceback : Signal 15 (SIGTERM) received by PID 11424",
    ],
    # torch/csrc/DataLoader.cpp
    "shared-memory": [
        "ERROR: Unexpected bus error encountered in worker. This might be caused by insufficient shared memory (shm)."
    ],
    "other-processor": [ELASTIC.format(-4)],
    # deepspeed/ops/csrc/pin_memory/page_alloc.cpp
    "locked-memory": ["mlock failed to allocate 2147483648 bytes with error no 12 msg Cannot allocate memory"],
    # c10/cuda/CUDACachingAllocator.cpp
    "gpu-memory": [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has a total capacity of 11.76 "
        "GiB of which 1.1 GiB is free."
    ],
    # docs.nvidia.com/deploy/xid-errors
    "gpu-lost": [
        "kernel: NVRM: Xid (PCI:0000:03:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
        "torch.AcceleratorError: CUDA error: unspecified launch failure",
    ],
    # torch/csrc/cuda/Module.cpp; cudaErrorInsufficientDriver
    "driver": ["RuntimeError: CUDA error: CUDA driver version is insufficient for CUDA runtime version"],
    # deepspeed/ops/op_builder/builder.py, jit_load
    "async-io-build": [
        "[WARNING] async_io requires the dev libaio .so object and headers but these were not found.",
        "RuntimeError: Unable to JIT load the async_io op due to it not being compatible due to hardware/software "
        "issue. None",
    ],
    # deepspeed/ops/op_builder/builder.py, assert_no_cuda_mismatch
    "cuda-compiler": [
        "deepspeed.ops.op_builder.builder.CUDAMismatchException: >- DeepSpeed Op Builder: Installed CUDA version 11.8 "
        "does not match the version torch was compiled with 12.4, unable to compile cuda/cpp extensions without a "
        "matching cuda version."
    ],
    "extension-build": [
        "fatal error: Python.h: No such file or directory",
        "ninja: build stopped: subcommand failed.",
        "RuntimeError: Error building extension 'cpu_adam'",
    ],
    # torch/csrc/distributed/c10d/socket.cpp
    "port": [
        "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network address. "
        "port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use"
    ],
    "disk-full": ["OSError: [Errno 28] No space left on device: '/out/samples/grid.png'"],
    "package": ["ModuleNotFoundError: No module named 'deepspeed'"],
    # real, of torch 2.13
    "host-memory": [
        "RuntimeError: [enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you "
        "tried to allocate 1152921504606846976 bytes. Error code 12 (Cannot allocate memory)"
    ],
    # torch/csrc/distributed/c10d/NCCLUtils.cpp
    "peer-lost": [
        "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:3356, remote process exited or there "
        "was a network error, NCCL version 2.27.5"
    ],
}
FACTS = {
    "cuda-compiler": "the CUDA compiler here (11.8) is not of the version that torch is built for (12.4)",
    "extension-build": "DeepSpeed's cpu_adam extension does not compile here",
    "port": "another process has the port 29500 at which the processes of this run meet",
    "disk-full": "no space left on the disk of /out/samples/grid.png",
    "package": "the Python package deepspeed is not installed where it trains",
}


def test_every_rule_has_a_record():
    assert list(RECORDED) == [rule.name for rule in RULES]


def test_the_document_for_people_names_every_one():
    rows = [line.split("|")[1].strip() for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")][1:]
    assert set(rows) - {"---"} == {rule.what for rule in RULES} | {STALE_LOCK, RESTARTED}


@pytest.mark.parametrize("name", RECORDED)
def test_what_a_run_left_without_a_word_is_told_from_its_log(evidence, name):
    known = explain(evidence("step 3 of 10", *RECORDED[name], '  File "launch.py", line 1'))
    assert known.name == name
    assert known.happened == FACTS.get(name, known.happened)
    assert set(known.lines) <= set(RECORDED[name])
    assert known.lines[-1:] != ()
    assert "{" not in str(known)


@pytest.mark.parametrize("name", [name for name, lines in RECORDED.items() if "exitcode" not in str(lines)])
def test_what_an_exception_said_is_told_from_it_alone(evidence, name):
    assert explain(evidence("a harmless line", said=RECORDED[name][-1])).name == name
    assert explain(evidence(*RECORDED[name], said="ZeroDivisionError: division by zero")) is None


def test_extensions_of_another_processor_are_named_by_the_folder_that_the_run_compiles_to(evidence):
    (advice,) = explain(evidence(*RECORDED["other-processor"])).advice
    assert "`rm -r /env/torch_extensions`" in advice


def test_a_failure_that_was_foreseen_keeps_its_words(evidence):
    said = "NVMe offload needs DeepSpeed's async_io extension, which does not compile here (no c++); install one"
    known = explain(evidence("fatal error: libaio.h: No such file or directory", said=said, foreseen=True))
    assert (known.name, known.happened) == ("async-io-build", said)
    assert known.lines == ("fatal error: libaio.h: No such file or directory",)


def test_a_run_whose_training_ended_well_is_not_explained(evidence, tmp_path):
    lost = evidence(*RECORDED["disk-full"])
    assert explain(dataclasses.replace(lost, outcome=Outcome("completed", 0, "trained 3 steps"))) is None


def test_only_the_latest_launch_counts(tmp_path):
    run = stand_in_run(tmp_path / "run", "long")
    run.log.write_text("\n".join(RECORDED["port"]) + "\n")
    begin = run.log.stat().st_size
    run.log.write_text(run.log.read_text() + "something else\n")
    state = {"heartbeat": time.time(), "log_start": begin, "child_exit": 1}
    assert diagnose(run, RunStatus(Status.FAILED, state)) is None
    assert diagnose(run, RunStatus(Status.FAILED, {**state, "log_start": 0})).name == "port"


@pytest.mark.parametrize(
    ("code", "line", "signal"),
    [
        (-9, "", 9),
        (137, "", 9),
        (1, ELASTIC.format(-7), 7),
        (1, "subprocess.CalledProcessError: Command '[...]' died with <Signals.SIGKILL: 9>.", 9),
        (1, "[INFO] [launch.py:351:sigkill_handler] Process 71 exits with return code = -11", 11),
        (1, "", None),
        (255, "", None),
        (None, "", None),
    ],
)
def test_which_signal_ended_it(evidence, code, line, signal):
    assert evidence(line, exit_code=code).signal == signal


def test_out_of_gpu_memory_tells_the_phase_the_figures_and_what_to_change(plan_of, tmp_path):
    """The event is written where CUDA runs out; this one's figures are those of a card of 12 GB."""
    run = create(tmp_path / "run", plan_of(train_batch_size=8, resolution=1024).files)
    write_state(run, RunState("train", {}, 1e12, time.time(), result="failed", exit_code=1, message="as told"))
    said = "the GPU is out of memory in phase train: torch held 11,000 MiB and the process 11,520 MiB; lower"
    write_outcome(run, Outcome("failed", 1, said))
    measured = {"allocated": 10_800, "reserved": 11_000, "process": 11_520}
    event = {"event": "out_of_memory", "phase": "step", "measured": measured, "predicted_mib": 12_629}
    run.events_jsonl.write_text(json.dumps({"event": "start"}) + "\n" + json.dumps(event) + "\n")
    known = diagnose(run)
    assert known.happened == (
        "the GPU is out of memory in phase step: torch held 11,000 MiB and the process 11,520 MiB, where 12,629 MiB "
        "were predicted"
    )
    assert known.advice[0] == "lower training.train_batch_size"
    done = cli("attach", str(run.path))
    assert "  do   lower training.train_batch_size\n" in done.stderr
    assert "       or `simpletuner-tui --preset fits-12GB` begins with the next cheaper preset: " in done.stderr
    assert "       or `simpletuner-tui plan --vram 11520MiB --resolution 1024` finds" in done.stderr
    run.events_jsonl.write_text(run.events_jsonl.read_text().replace("11520", "7000"))
    assert "--preset fits-8GB`" in cli("attach", str(run.path)).stderr
    run.events_jsonl.write_text(run.events_jsonl.read_text().replace("7000", "3000"))
    assert "--preset" not in cli("attach", str(run.path)).stderr


def test_a_kernel_that_counts_killed_processes_is_believed(ran, monkeypatch, tmp_path):
    """The counter of this machine is read by the supervisor; a file stands in for it where it would take its RAM."""
    code = (
        "import sys; from pathlib import Path; import launcher.runs.supervisor as s\n"
        "counts = iter((3, 4)); s.oom_kills = lambda: next(counts)\n"
        "from launcher.runs.directory import RunDirectory as R\n"
        "s.Supervisor(R(Path(sys.argv[1]))).supervise()"
    )
    argv = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    run = create(tmp_path / "run", {"plan.json": json.dumps({"argv": argv, "environment": {}}).encode()})
    subprocess.run([sys.executable, "-c", code, str(run.path)], check=True, env={**os.environ})
    known = told(run)
    assert known.happened == "the kernel killed the training because host RAM ran out"
    assert known.lines == ("kernel: processes killed for memory since the start: 1",)
