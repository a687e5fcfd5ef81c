"""The commands and their options: what may be asked for, and which function does it."""

import argparse
import importlib
import math
from collections.abc import Callable, Sequence

from launcher.errors import ExitCode
from simpletuner_tui.text import mib_of

LOWEST_REFRESH = 0.05
"""Seconds."""
FORCE = "start although the estimate says it does not fit"


def command_of(name: str) -> Callable[[argparse.Namespace], ExitCode]:
    """A command, by its module and name; loaded when it is run, as the others are not needed then."""
    module, function = name.split(".")

    def run(arguments: argparse.Namespace) -> ExitCode:
        command: Callable[[argparse.Namespace], ExitCode]
        command = getattr(importlib.import_module(f"simpletuner_tui.commands.{module}"), function)
        return command(arguments)

    return run


class _ShowVersion(argparse.Action):
    """Looks the version up when it is asked for: that brings e-mail and archives, a tenth of a start."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version  # noqa: PLC0415

        parser.exit(message=f"simpletuner-tui {version('simpletuner-tui')}\n")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """What a command line asks for: ``command`` does it, None where none is named.

    Raises:
        SystemExit: of argparse, for usage, help or the version.
    """
    parser = argparse.ArgumentParser(
        prog="simpletuner-tui",
        description="Fine-tune SDXL's whole U-Net, or a LoRA on it, with DeepSpeed ZeRO offload or without. Without a "
        "command it asks all questions.",
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show program's version number and exit")
    _add_front_end_options(parser)
    parser.add_argument("--replay", metavar="FILE", help="answers from a file, - for stdin; runs without questions")
    parser.add_argument("--dry-run", action="store_true", help="print files and command, write nothing")
    parser.add_argument("--detach", action="store_true", help="start the run and leave it to itself")
    parser.add_argument("--force", action="store_true", help=FORCE)
    parser.set_defaults(command=None)
    _add_answers_options(parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    for name, run, text in (
        ("check", "replay.check", "every fault of a file of answers, and of this machine, at once"),
        ("estimate", "replay.estimate", "what a file of answers costs: GPU memory, host RAM, disk"),
        ("rehearse", "replay.rehearse", "two real steps of a file of answers, what they measured, and nothing kept"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("file", metavar="FILE", help="answers, - for stdin")
        _add_answers_options(command)
        if name == "estimate":
            command.add_argument(
                "--vram", type=_size, metavar="SIZE", help="hold it against a card with so much free, such as 12GiB"
            )
        if name == "rehearse":
            command.add_argument("--force", action="store_true", help=FORCE)
        command.set_defaults(command=command_of(run))

    _add_plan(commands)
    _add_measure(commands)
    _add_doctor(commands)

    text = "accelerate's questionnaire alone; writes the file that accelerate config writes"
    command = commands.add_parser("accelerate-config", help=text, description=text)
    command.add_argument("--config_file", metavar="PATH", help="the file; accelerate's own place by default")
    command.add_argument("--from", dest="source", metavar="FILE", help="a file of accelerate's to start from")
    command.add_argument("--force", action="store_true", help="replace a file that is there, keeping it as PATH.bak")
    _add_front_end_options(command, default=argparse.SUPPRESS)  # what stands before the command holds
    command.set_defaults(command=command_of("accelerate_config.accelerate_config"))

    text = "the DeepSpeed builder: a configuration edited, or set right and judged"
    command = commands.add_parser("deepspeed", help=text, description=text)
    command.add_argument(
        "file", metavar="FILE", nargs="?", help="JSON, a config.json or accelerate's YAML that holds one; - for stdin"
    )
    command.add_argument("--template", metavar="NAME", help="a template to begin from; FILE is where it is saved")
    command.add_argument("--full", action="store_true", help="every field, not only those that matter")
    command.add_argument("--check", action="store_true", help="print it normalised, with every change and problem")
    command.add_argument("--json", action="store_true", help="with --check: machine-readable output on stdout")
    command.add_argument("--run", action="append", default=[], metavar="FIELD=VALUE", help="of the run it belongs to")
    _add_front_end_options(command, default=argparse.SUPPRESS)
    command.set_defaults(command=command_of("deepspeed.deepspeed"))

    _add_templates(commands)

    _add_import(commands)
    _add_sbatch(commands)

    command = commands.add_parser("questions", help="the questions and their ids")
    command.add_argument("--json", action="store_true")
    command.set_defaults(command=command_of("questions.questions"))

    _add_runs(commands)
    _add_serve(commands)
    _add_checkpoints(commands)
    return parser.parse_args(argv)


def _add_plan(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "the fastest setting that fits a budget of GPU memory, host RAM and disk, and why no faster one does"
    command = commands.add_parser("plan", help=text, description=f"{text}. What is left out is what is free here now.")
    command.add_argument("--vram", type=_size, metavar="SIZE", help="of each GPU, such as 12GiB")
    command.add_argument("--ram", type=_size, metavar="SIZE", help="host memory for the run")
    command.add_argument("--disk", type=_size, metavar="SIZE", help="for checkpoints, export, caches and NVMe offload")
    command.add_argument("--resolution", type=_count, default=1024, metavar="PX", help="1024")
    command.add_argument("--batch", type=_batch, metavar="N", help="per GPU and micro-batch; auto: what is fastest")
    command.add_argument("--accumulation", type=_count, default=1, metavar="N", help="micro-batches a step; 1")
    command.add_argument("--gpus", type=_count, metavar="N", help="1, or those of this machine without --vram")
    command.add_argument("--nvme", metavar="DIR", help="a folder for NVMe offload, which is left alone without")
    command.add_argument("--set", action="append", default=[], metavar="ID=VALUE", help="an answer it begins with")
    command.add_argument("-o", "--output", metavar="FILE", help="writes the answers it amounts to")
    command.add_argument("--force", action="store_true", help="replace a file that is there, keeping it as FILE.bak")
    command.add_argument("--json", action="store_true", help="machine-readable output on stdout")
    command.set_defaults(command=command_of("plan.plan"))

    text = "settings that come with the program, each for a budget, with their figures; without an action it lists them"
    command = commands.add_parser("presets", help=text, description=text)
    command.add_argument("--json", action="store_true", help="with the list: machine-readable output on stdout")
    command.set_defaults(command=command_of("presets.list_presets"))
    actions = command.add_subparsers(title="actions", metavar="ACTION")
    text = "its answers on stdout, as --replay takes them"
    action = actions.add_parser("show", help=text, description=text)
    action.add_argument("name", metavar="NAME", help="of the preset")
    action.set_defaults(command=command_of("presets.show"))


def _add_measure(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "how fast this machine moves and computes, so that estimates tell the seconds of a step"
    command = commands.add_parser("measure", help=text, description=f"{text}. It takes some 25 s of an idle machine.")
    command.add_argument("--nvme", metavar="FOLDER", help="also the drive below this folder, for NVMe offload to it")
    command.add_argument(
        "--threads", type=_count, metavar="N", help="of all processes of a run together; those a run takes by itself"
    )
    command.add_argument("--json", action="store_true", help="machine-readable output on stdout")
    command.set_defaults(command=command_of("measure.measure"))


def _add_doctor(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "what this machine can train, what is in the way, why it matters, and the command that mends it"
    command = commands.add_parser(
        "doctor",
        help=text,
        description=f"{text}. It compiles DeepSpeed's CPU Adam and steps it, a minute or two the first time. It ends "
        "with 3 where FILE cannot run here; without one, where nothing trains or an NVIDIA GPU cannot be used.",
    )
    command.add_argument("file", metavar="FILE", nargs="?", help="answers whose plan is judged too, - for stdin")
    _add_answers_options(command)
    command.set_defaults(command=command_of("doctor.doctor"))


def _add_runs(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("runs", help="the runs there are")
    command.add_argument("--json", action="store_true")
    command.set_defaults(command=command_of("runs.list_runs"))

    for name, run, text in (
        ("attach", "runs.attach", "a run's dashboard; without a screen to draw on, its lines until it ends"),
        ("checkpoint", "runs.checkpoint", "save a checkpoint now; the run goes on"),
        ("stop", "runs.stop", "save a checkpoint and end a run; a second time, end it at once"),
        ("logs", "runs.logs", "what a run's processes wrote"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("run", metavar="RUN", help="a run's name or folder")
        command.set_defaults(command=command_of(run))
        if name == "attach":
            command.add_argument("--json", action="store_true", help="events on stdout, one a line")
            command.add_argument("--refresh", type=_seconds, metavar="S", help="seconds between looks")
            command.add_argument("--read-only", action="store_true", help="look only: nothing can be stopped from here")
            command.add_argument(
                "--plain", action="store_true", default=argparse.SUPPRESS, help="lines, not a dashboard"
            )
            command.add_argument("--accessible", action="store_true", default=argparse.SUPPRESS, help="the same")
        elif name == "stop":
            command.add_argument("--now", action="store_true", help="without a checkpoint")
        elif name == "logs":
            command.add_argument("--follow", action="store_true", help="until the run ends")


def _add_serve(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "the full-screen app in a browser, for whoever has the address that it prints"
    description = f"{text}. SIMPLETUNER_SERVE_TOKEN may hold a token of your own."
    command = commands.add_parser("serve", help=text, description=description)
    command.add_argument("--port", type=_port, default=8000, metavar="N", help="8000; 0: any that is free")
    command.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="where it listens; 127.0.0.1")
    command.add_argument("--allow-remote", action="store_true", help="let --host be one that others reach")
    command.set_defaults(command=command_of("serve.serve"))


def _add_checkpoints(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "a checkpoint that any ZeRO stage, number of processes and plain PyTorch continue, made of one of a run"
    command = commands.add_parser("convert", help=text, description=text)
    command.add_argument("checkpoint", metavar="CHECKPOINT", help="a run's folder checkpoint-N; it stays as it is")
    command.add_argument("folder", metavar="FOLDER", nargs="?", help="of checkpoints; beside CHECKPOINT by default")
    command.set_defaults(command=command_of("convert.convert"))

    text = (
        "a checkpoint of any ZeRO stage and number of processes as a diffusers pipeline, its U-Net alone, or one file"
    )
    command = commands.add_parser("export", help=text, description=text)
    command.add_argument("checkpoint", metavar="CHECKPOINT", help="a run's folder checkpoint-N; it stays as it is")
    command.add_argument(
        "out", metavar="OUT", help="a folder, or NAME.safetensors with --single-file; must not be there"
    )
    form = command.add_mutually_exclusive_group()
    form.add_argument("--unet", action="store_true", help="the U-Net alone, in diffusers' layout")
    form.add_argument("--single-file", action="store_true", help="one .safetensors in the original layout of SDXL")
    command.add_argument("--dtype", choices=("bf16", "fp16", "fp32"), default="bf16", help="of the U-Net; bf16")
    command.add_argument("--ema", action="store_true", help="the moving average of the weights, where there is one")
    command.add_argument("--model", metavar="MODEL", help="has the other components; the one that was trained")
    command.set_defaults(command=command_of("export.export"))


def _add_import(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "answers from a configuration of SimpleTuner's, with what became of each of its keys"
    command = commands.add_parser("import", help=text, description=text)
    command.add_argument("config", metavar="CONFIG", help="SimpleTuner's config.json or config.env")
    command.add_argument("-o", "--out", metavar="FILE", default="answers.json", help="the answers; answers.json if not")
    command.add_argument("--force", action="store_true", help="replace a file that is there, keeping it as FILE.bak")
    command.add_argument("--json", action="store_true", help="the list of keys machine-readable on stdout")
    command.set_defaults(command=command_of("import_config.import_"))


def _add_sbatch(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "a script for Slurm that starts a run on every machine it gets"
    command = commands.add_parser("sbatch", help=text, description=text)
    command.add_argument("file", metavar="FILE", help="answers, where all machines see them")
    command.add_argument("-o", "--out", metavar="SCRIPT", default="run.sbatch", help="the script; run.sbatch if not")
    command.add_argument("--force", action="store_true", help="replace a file that is there, keeping it as SCRIPT.bak")
    _add_answers_options(command, as_json=False)
    command.set_defaults(command=command_of("sbatch.sbatch"))


def _add_templates(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "saved DeepSpeed configurations, and those that come with the program; without an action it lists them"
    command = commands.add_parser("templates", help=text, description=text)
    command.add_argument("--json", action="store_true", help="with the list: machine-readable output on stdout")
    command.set_defaults(command=command_of("templates.list_templates"))
    actions = command.add_subparsers(title="actions", metavar="ACTION")
    for name, text, *also in (
        ("show", "its JSON on stdout; what it is, and what was corrected, on stderr"),
        ("diff", "what it would change in a file", "file"),
        ("save", "keeps a file's configuration as a template", "file", "description", "force"),
        ("export", "writes it to a file to give away", "out", "force"),
        ("remove", "takes a saved one away"),
    ):
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument("name", metavar="NAME", help="of the template")
        _add_template_arguments(action, also)
        action.set_defaults(command=command_of(f"templates.{name}"))
    text = "keeps a template that someone gave you"
    action = actions.add_parser("import", help=text, description=text)
    action.add_argument("file", metavar="FILE", help="as export wrote it")
    action.add_argument("--as", dest="name", metavar="NAME", help="another name for it")
    _add_template_arguments(action, ("force",))
    action.set_defaults(command=command_of("templates.import_"))


def _add_template_arguments(action: argparse.ArgumentParser, names: Sequence[str]) -> None:
    if "file" in names:
        action.add_argument("file", metavar="FILE", help="a file that holds a configuration")
    if "out" in names:
        action.add_argument("out", metavar="OUT", help="the file to write")
    if "description" in names:
        action.add_argument("--description", default="", metavar="TEXT", help="what it is for")
    if "force" in names:
        action.add_argument("--force", action="store_true", help="replace one that is there")


def _add_front_end_options(parser: argparse.ArgumentParser, default: object = False) -> None:
    for option, text in (
        ("--accessible", "questions as numbered lines (also ACCESSIBLE=1)"),
        ("--plain", "questions as prompts, one after another"),
    ):
        parser.add_argument(option, action="store_true", default=default, help=text)


def _add_answers_options(parser: argparse.ArgumentParser, *, as_json: bool = True) -> None:
    parser.add_argument("--run-dir", metavar="DIR", help="where the run lies; one that is there is continued")
    parser.add_argument("--set", action="append", default=[], metavar="ID=VALUE", help="an answer, over the file's")
    parser.add_argument("--preset", metavar="NAME", help="answers where nothing else says any; presets lists them")
    parser.add_argument("--offload_param_path", metavar="DIR", help="folder for NVMe offload where none is named")
    parser.add_argument("--strict", action="store_true", help="an answer left to its default is an error")
    if as_json:
        parser.add_argument("--json", action="store_true", help="machine-readable output on stdout")


def _size(text: str) -> int:
    try:
        return mib_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 10**6:
        raise argparse.ArgumentTypeError("a whole number from 1 is needed")
    return int(text)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError("a port is a whole number from 0 to 65535")
    return int(text)


def _batch(text: str) -> int | None:
    return None if text == "auto" else _count(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not LOWEST_REFRESH <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"between {LOWEST_REFRESH} and 3600 seconds")
    return seconds
