"""``sbatch FILE``: a script for Slurm that starts a run on every machine it gets."""

import shlex
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from launcher.errors import ExitCode, InvalidInputError, RefusedToOverwriteError
from launcher.plan import Plan, make_plan
from simpletuner_tui.answers import judge_answers, write_answers
from simpletuner_tui.commands.replay import answers_and_run_dir, typed
from simpletuner_tui.messages import tell
from simpletuner_tui.paths import typed_path
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.questions.resolving import resolve
from simpletuner_tui.saving import saving
from simpletuner_tui.session import probe_machine

HEAD = "the first machine that Slurm gives"
ROOM = 1.1
"""How much host RAM is asked for, in times of the estimate."""
MINUTES_TO_SAVE = 10
"""Slurm tells the script so long before it ends the job, so that a checkpoint can be saved."""


def sbatch(arguments: Namespace) -> ExitCode:
    """Writes the script; nothing is looked for on this machine, which need not be one that trains.

    Raises:
        InvalidInputError: lists every fault of the answers.
        RefusedToOverwriteError: another file is there.
    """
    if arguments.file == "-":
        raise InvalidInputError("the machines read the answers themselves: name a FILE that all of them see")
    answers, run_dir = answers_and_run_dir(arguments, arguments.file)
    values = dict(answers.values)
    if values.get("accelerate.num_machines", 1) != 1:
        # What Slurm knows, and each machine is told when it starts.
        values |= {"accelerate.ds_launcher": "standard", "accelerate.machine_rank": 0}
        values.setdefault("accelerate.main_process_ip", HEAD)
        values.setdefault("accelerate.main_process_port", 29500)
    resolved = resolve(REGISTRY, values, {**probe_machine(), "deepspeed": True})
    judgement = judge_answers(values, resolved, answers.base, REGISTRY, strict=arguments.strict)
    judgement.raise_errors()
    for problem in judgement.problems:
        tell(f"warning: {problem.field}: {problem.message}")
    run_dir = run_dir.absolute()
    plan = make_plan(judgement.settings, write_answers(resolved, answers.base, run_dir), run_dir)
    file, more = typed_path(arguments.file).absolute(), typed(arguments)
    planned = saving(typed_path(arguments.out), ("\n".join(script(plan, file, more)) + "\n").encode())
    if planned.before is not None and not planned.changes_nothing and not arguments.force:
        raise RefusedToOverwriteError(
            f"{planned.path} is there already; --force replaces it, and keeps it as {planned.backup.name}"
        )
    planned.write()
    queue, follow = f"sbatch {shlex.quote(str(planned.path))}", f"simpletuner-tui attach {shlex.quote(str(run_dir))}"
    tell(f"written to {planned.path}: `{queue}` queues it; `{follow}` follows it")
    return ExitCode.OK


def script(plan: Plan, answers: Path, more: dict[str, str]) -> Iterator[str]:
    """The lines of the script.

    Args:
        plan: what is started.
        answers: the file, as every machine sees it.
        more: answers over the file's, by id.
    """
    launch, run_dir = plan.settings.launch, plan.run_dir
    threads = int(plan.environment["OMP_NUM_THREADS"]) * launch.processes_here
    yield "#!/bin/bash"
    for option, value in {
        "job-name": run_dir.name,
        "nodes": launch.machine_count,
        "ntasks-per-node": 1,
        **({} if launch.use_cpu else {"gpus-per-node": launch.processes_here}),
        "cpus-per-task": threads,
        "mem": f"{round(plan.estimate.host_mib * ROOM)}M",
        "output": f"{run_dir.name}-%j.log",
        "signal": f"B:USR1@{MINUTES_TO_SAVE * 60}",
    }.items():
        yield f"#SBATCH --{option}={shlex.quote(str(value))}"
    command = ["simpletuner-tui", "--replay", str(answers), "--run-dir", str(run_dir)]
    for key, value in more.items():
        command += ["--set", f"{key}={value}"]
    yield ""
    yield "# Each machine runs the same command and knows its own number; the first one hosts the main process."
    yield "set -u"
    yield f"cd {shlex.quote(str(Path.cwd()))}"
    yield f'export PATH="$PATH":{shlex.quote(str(Path(sys.executable).parent))}'
    yield 'head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)'
    yield "port=$((20000 + SLURM_JOB_ID % 20000))  # the same on all machines, another for another job"
    yield f"trap {shlex.quote(f'simpletuner-tui stop {shlex.quote(str(run_dir))}')} USR1"
    on_each = shlex.join(command)
    if launch.machines:
        on_each += ' --set accelerate.ds_launcher=standard --set accelerate.machine_rank="$SLURM_NODEID"'
        on_each += ' --set accelerate.main_process_ip="$0" --set accelerate.main_process_port="$1"'
    yield f'srun --kill-on-bad-exit=1 bash -c {shlex.quote(on_each)} "$head" "$port" &'
    yield "while :; do"
    yield "    wait $!"
    yield "    code=$?"
    yield "    kill -0 $! 2>/dev/null || exit $code  # a signal ends the waiting, not what is waited for"
    yield "done"
