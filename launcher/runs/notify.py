"""``python -m launcher.runs.notify RUN_DIR OUTCOME``: tells a person that a run has ended, by a command and a webhook.

It is a process of its own, which the supervisor starts at the end, or rank 0 where the supervisor died before it: so it
happens once, and neither waits for it. What went wrong with it stands in the run's log.
"""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from launcher.config.setting import read_topic
from launcher.config.training.notification import NotificationSettings
from launcher.runs.diagnosis import explained
from launcher.runs.directory import RunDirectory, read_json
from launcher.runs.heartbeat import SUPERVISOR_VARIABLE, supervisor_of_this_process
from launcher.runs.outcome import Outcome, read_outcome
from launcher.runs.processes import RUN_VARIABLE
from launcher.runs.rehearsal import rehearsal_of

WEBHOOK_VARIABLE = "SIMPLETUNER_NOTIFY_WEBHOOK"
"""Holds over the setting: an address with a token in it is not to be written down."""
COMMAND_SECONDS = 60.0
"""After which the command is ended."""
WEBHOOK_SECONDS = 10.0
"""For one try."""
WAITS = (2.0, 5.0)
"""Seconds before each further try."""
LONGEST = 1900
"""Characters of a message; Discord takes no more than 2000."""
TRY_AGAIN = frozenset({408, 425, 429})
"""Answers of a server below 500 that may be others the next time."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """By what a person wants to be told."""

    command: str
    webhook: str


def wanted_by(run: RunDirectory, environment: Mapping[str, str]) -> Wanted | None:
    """By what the owner of a run wants to be told; None where by nothing.

    Nobody is told of a rehearsal, nor by a later machine of a run: the first one does it.
    """
    if rehearsal_of(run) or run.trains() != run:
        return None
    chosen, _ = read_topic(NotificationSettings, read_json(run.training_json) or {}, "training")
    wanted = Wanted(
        str(chosen["notify_command"]), environment.get(WEBHOOK_VARIABLE, "") or str(chosen["notify_webhook"])
    )
    return wanted if wanted.command or wanted.webhook else None


def start_notifying(run: RunDirectory, outcome: Outcome) -> None:
    """Has the owner told, if that is wanted, and waits for nothing; a run's end does not fail with it."""
    if wanted_by(run, os.environ) is None:
        return
    # It is no process of the run: nobody should end it, or wait for it before the next start.
    environment = {name: value for name, value in os.environ.items() if name not in (RUN_VARIABLE, SUPERVISOR_VARIABLE)}
    command = [sys.executable, "-m", "launcher.runs.notify", str(run.path), json.dumps(asdict(outcome))]
    with suppress(OSError), run.log.open("ab") as log:
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )


def notify_if_orphaned(run: RunDirectory, code: int) -> None:
    """Has the owner told in the place of a supervisor that died: rank 0 calls it, last of all.

    Args:
        run: that has ended.
        code: the exit code, where there is no outcome.
    """
    supervisor = supervisor_of_this_process()
    if supervisor is None or supervisor.alive:
        return
    outcome = read_outcome(run) or Outcome("failed", code, "the training lost another of its processes")
    start_notifying(run, explained(outcome, run, read_json(run.state_json) or {}))


def main() -> int:
    """Tells of the outcome on the command line; always 0."""
    run, outcome = RunDirectory(Path(sys.argv[1])), Outcome(**json.loads(sys.argv[2]))
    wanted = wanted_by(run, os.environ)
    if wanted is None:
        return 0
    if wanted.command:
        _say(run_command(wanted.command, run, outcome))
    if wanted.webhook:
        _say(post(wanted.webhook, message_of(run, outcome)))
    return 0


def _say(what: str) -> None:
    print(f"notification: {what}", flush=True)  # noqa: T201 - to the log


def run_command(command: str, run: RunDirectory, outcome: Outcome) -> str:
    """Runs a person's command, in the run directory; returns what became of it."""
    about = {
        "RUN_NAME": run.name,
        "RUN_DIR": str(run.path),
        "RESULT": outcome.result,
        "EXIT_CODE": str(outcome.exit_code),
        "MESSAGE": outcome.message,
    }
    try:
        process = subprocess.Popen(
            command,
            shell=True,
            cwd=run.path,
            env={**os.environ, **about},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return f"the command did not start: {error}"
    try:
        return f"the command ended with exit code {process.wait(COMMAND_SECONDS)}"
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"the command was ended after {COMMAND_SECONDS:.0f} s"


def message_of(run: RunDirectory, outcome: Outcome) -> dict[str, object]:
    """What a webhook gets: the same sentence under the names that chat services look for, and its parts."""
    host = socket.gethostname()
    text = f"{run.name} on {host} {outcome.result}: {outcome.message}"[:LONGEST]
    return {
        "text": text,
        "content": text,
        "run": run.name,
        "path": str(run.path),
        "host": host,
        "result": outcome.result,
        "exit_code": outcome.exit_code,
        "message": outcome.message,
    }


def post(address: str, message: Mapping[str, object]) -> str:
    """Posts a message; returns what became of it, without the address, which may be a secret.

    Args:
        address: begins with http:// or https://.
        message: an object.
    """
    if not re.match(r"https?://", address):
        return f"{WEBHOOK_VARIABLE} does not begin with http:// or https://"
    said = ""
    for wait in (*WAITS, None):
        try:
            request = urllib.request.Request(
                address,
                data=json.dumps(message).encode(),
                headers={"Content-Type": "application/json", "User-Agent": "simpletuner-tui"},
                method="POST",
            )
            with urllib.request.urlopen(request, timeout=WEBHOOK_SECONDS):
                return f"{_host(address)} was told"
        except urllib.error.HTTPError as error:
            said = f"it answered {error.code}"
            if error.code < 500 and error.code not in TRY_AGAIN:
                break
        except (OSError, ValueError, http.client.HTTPException) as error:  # the network, or an address that is none
            said = str(getattr(error, "reason", "")) or type(error).__name__
        if wait is not None:
            time.sleep(wait)
    return f"{_host(address)} was not told: {said}"


def _host(address: str) -> str:
    try:
        return urlsplit(address).hostname or "the webhook"
    except ValueError:
        return "the webhook"


if __name__ == "__main__":
    sys.exit(main())
