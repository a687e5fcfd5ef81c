"""The supervisor: starts the training of one run directory, watches it, ends it, and says how it went."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO

import psutil

from launcher.errors import ExitCode, RefusedToOverwriteError
from launcher.machine.host import oom_kills
from launcher.machine.kernel_log import kernel_log
from launcher.runs.checkpoint_request import withdraw_checkpoint_request
from launcher.runs.diagnosis import explained
from launcher.runs.directory import RunDirectory
from launcher.runs.events import EventLog
from launcher.runs.heartbeat import SUPERVISOR_VARIABLE, read_heartbeat
from launcher.runs.index import register
from launcher.runs.notify import start_notifying
from launcher.runs.outcome import Outcome, read_outcome
from launcher.runs.processes import RUN_VARIABLE, ProcessIdentity, end_processes, processes_of_run
from launcher.runs.state import RunState, refuse_beside_orphans, write_state
from launcher.runs.stop import StopRequest, request_stop, stop_requested
from launcher.runs.vitality import silence, stands_after, standstill

OF_A_GROUP = frozenset({"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"})
"""What a launcher tells its processes; of another group, in whose shell this may run, it would mislead ours."""

TICK = 0.25
STATE_INTERVAL = 1.0
SILENCE = 60.0
"""Seconds without a heartbeat after which it is told among the events."""

TOLD = frozenset(
    {"PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR", "SSH_AUTH_SOCK", "PYTHONPATH", "LD_LIBRARY_PATH"}
    | {"CUDA_HOME", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "XDG_CACHE_HOME", "XDG_STATE_HOME"}
)
"""Of the shell's environment, what processes on other machines are told where they are started over SSH."""
TOLD_GROUPS = ("NCCL_", "GLOO_", "UCX_", "PDSH_", "CUDA_DEVICE_")


class Supervisor:
    """Supervises one launch of one run directory."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._events = EventLog(run.events_jsonl)
        identity = ProcessIdentity.of(os.getpid())
        self._identity = identity
        now = time.time()
        self._state = RunState(
            "starting", supervisor=identity.to_json(), heartbeat=now, started=now, log_start=_size(run.log)
        )
        self._warned: set[str] = set()
        self._oom_kills = oom_kills() or 0
        self._trains = run.trains()
        self._joins = self._trains != run
        """Whether rank 0 is on another machine, whose run this one only takes part in."""

    def supervise(self) -> int:
        """Runs the plan to its end; returns the exit code of the run.

        Raises:
            RefusedToOverwriteError: another supervisor holds the run directory, or the training of a dead one does.
        """
        lock = self._take_lock()  # kept open, and so held, until this process ends
        refuse_beside_orphans(self._run)
        of_a_launch = (self._run.stop_json, self._run.checkpoint_json, self._run.outcome_json, self._run.heartbeat_json)
        for leftover in of_a_launch:
            leftover.unlink(missing_ok=True)
        register(self._run)  # before its state says that it lives: whoever started it finds it by name from then on
        self._write()
        self._events.emit("start", supervisor=self._identity.pid)
        signal.signal(signal.SIGTERM, self._on_signal)
        # It is started with SIGINT blocked: one from the terminal it left is dropped, later ones are meant for it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGINT, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        with self._run.log.open("ab") as log:
            try:
                child = self._start(log)
            except OSError as error:
                outcome = Outcome("failed", int(ExitCode.CANNOT_RUN_HERE), f"training did not start: {error}")
            else:
                outcome = self._watch_and_record(child)
        self._environment_file.unlink(missing_ok=True)
        self._end(outcome)
        start_notifying(self._run, outcome)
        lock.close()
        return outcome.exit_code

    @property
    def _environment_file(self) -> Path:
        return self._run.path / ".deepspeed_env"

    def _take_lock(self) -> IO[bytes]:
        lock = self._run.lock.open("ab")
        deadline = time.monotonic() + 1.0
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return lock
            except BlockingIOError:
                # An interface that looks whether a supervisor lives holds the lock for an instant.
                if time.monotonic() > deadline:
                    raise RefusedToOverwriteError(f"{self._run.path} is being trained already") from None
                time.sleep(0.05)

    def _start(self, log: IO[bytes]) -> "subprocess.Popen[bytes]":
        plan = self._run.plan()
        inherited = {name: value for name, value in os.environ.items() if name not in OF_A_GROUP}
        if plan.get("over_ssh"):
            # accelerate writes all of it into a file, adds to that at every launch, and DeepSpeed tells it to the other
            # machines on their command lines: what may be secret must not be among it.
            inherited = {name: value for name, value in inherited.items() if _may_be_told(name)}
            self._environment_file.unlink(missing_ok=True)
        environment = {**inherited, **plan["environment"]}
        # ninja, which compiles DeepSpeed's extensions, is installed beside the interpreter.
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
        environment[RUN_VARIABLE] = str(self._run.path)
        environment[SUPERVISOR_VARIABLE] = f"{self._identity.pid}:{self._identity.started}:{socket.gethostname()}"
        child = subprocess.Popen(
            plan["argv"],
            cwd=self._run.path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
        )
        self._state = replace(self._state, child=ProcessIdentity.of(child.pid).to_json())
        self._write()
        return child

    def _watch_and_record(self, child: "subprocess.Popen[bytes]") -> Outcome:
        from launcher.runs.recording import recording  # noqa: PLC0415 - the training is started first

        readings = recording(self._run)
        readings.start()
        outcome = self._watch(child)
        readings.stop()
        return outcome

    def _watch(self, child: "subprocess.Popen[bytes]") -> Outcome:
        written = 0.0
        while child.poll() is None:
            request = self._stop_request()
            if request is not None and self._state.stop != asdict(request):
                self._state = replace(self._state, stop=asdict(request))
                written = 0.0
            if request is not None and request.now:
                return self._end_now(child, request.reason)
            if time.monotonic() - written > STATE_INTERVAL:
                written = time.monotonic()
                self._follow_heartbeat()
                self._write()
            time.sleep(TICK)
        self._follow_heartbeat()
        # Whatever the launcher left behind must not go on unnoticed.
        end_processes(processes_of_run(str(self._run.path)))
        self._state = replace(self._state, child_exit=child.returncode)
        outcome = self._outcome(child.returncode)
        if outcome.result == "failed":
            self._write_down_the_kernels_words()
        return explained(outcome, self._run, asdict(self._state))

    def _stop_request(self) -> StopRequest | None:
        """A request here, which is passed on to the run this machine takes part in, or one that was made there."""
        request = stop_requested(self._run)
        if not self._joins:
            return request
        if request is not None:
            if not request.now and self._state.stop is None:
                request_stop(self._trains, request.reason)
            return request
        request = stop_requested(self._trains)
        # One from before may be of an earlier launch, which the first machine has not cleared away yet.
        return request if request is not None and request.time > self._state.started else None

    def _outcome(self, code: int) -> Outcome:
        """How the training went, in its own words where it left any."""
        words = f"the training ended with exit code {code} and no word; {self._run.log} has its last lines"
        unsaid = Outcome("failed", int(ExitCode.RUN_FAILED), words, unforeseen=True)
        if not self._joins:
            return read_outcome(self._run) or unsaid
        if code == 0:
            stop = self._state.stop
            return Outcome("stopped", 0, str(stop["reason"])) if stop else Outcome("completed", 0, "its part is done")
        told = read_outcome(self._trains) if _written_since(self._trains.outcome_json, self._state.started) else None
        return told if told is not None and told.result == "failed" else unsaid

    def _write_down_the_kernels_words(self) -> None:
        """Into the log, as long as they can be had: whoever looks at the run may not read them, or not any more."""
        words = [f"kernel: {line}" for line in kernel_log(self._state.started)]
        killed = (oom_kills() or 0) - self._oom_kills
        if killed > 0:
            words.append(f"kernel: processes killed for memory since the start: {killed}")
        with suppress(OSError), self._run.log.open("a") as log:  # its disk may be what the training failed of
            log.writelines(f"{line}\n" for line in words)

    def _end_now(self, child: "subprocess.Popen[bytes]", reason: str) -> Outcome:
        tree = {process.pid: process for process in psutil.Process().children(recursive=True)}
        tree |= {process.pid: process for process in processes_of_run(str(self._run.path))}
        end_processes(tree.values())
        child.wait()
        return Outcome("stopped", 0, f"{reason}; ended at once, without a checkpoint")

    def _follow_heartbeat(self) -> None:
        beat = read_heartbeat(self._run)
        if beat is None:
            return
        phase, step, now = str(beat["phase"]), beat.get("step"), time.time()
        self._state = replace(self._state, phase=phase, step=step if isinstance(step, int) else None)
        silent = now - float(str(beat["time"]))
        if silent > SILENCE:
            self._warn("silence", silence("the training", silent, phase))
        standing = now - float(str(beat["progressed"]))
        if standing > stands_after(float(str(beat["pace"]))):
            self._warn(phase, standstill(standing, phase))

    def _warn(self, once: str, message: str) -> None:
        if once not in self._warned:
            self._warned.add(once)
            self._events.emit("warning", message=message)

    def _write(self) -> None:
        self._state = replace(self._state, heartbeat=time.time())
        try:
            write_state(self._run, self._state)
        except OSError as error:
            # A full disk is the trainer's to report; the lock still shows that the supervisor lives.
            print(f"state.json: {error}", file=sys.stderr, flush=True)  # noqa: T201

    def _end(self, outcome: Outcome) -> None:
        self._state = replace(
            self._state,
            phase="ended",
            result=outcome.result,
            exit_code=outcome.exit_code,
            message=outcome.message,
            ended=time.time(),
        )
        withdraw_checkpoint_request(self._run)
        self._write()
        with suppress(OSError):  # on a full disk state.json has said it, and its owner is still to be told
            self._events.emit("end", result=outcome.result, exit_code=outcome.exit_code, message=outcome.message)

    def _on_signal(self, number: int, _: object) -> None:
        request_stop(self._run, f"the supervisor got {signal.Signals(number).name}")


def _may_be_told(name: str) -> bool:
    return name in TOLD or name.startswith(TOLD_GROUPS)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _written_since(path: Path, time: float) -> bool:
    try:
        return path.stat().st_mtime > time
    except OSError:
        return False
