"""What accelerate asks about TPUs; texts of accelerate 1.15.0."""

import os

from simpletuner_tui.questions.accelerate.common import TPU, Section, answer, needed
from simpletuner_tui.questions.conditions import Answer, Context
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Sets

ask = Section("accelerate, TPU")

POD = answer("tpu_cluster", True)
COMMANDS = answer("tpu_use_file", False)


def split(text: str) -> list[str]:
    """At commas, spaces and all."""
    return text.split(",")


def yes_no_text(given: Answer, _: Context) -> None:
    """accelerate takes any text here, and every text for yes."""
    if str(given).strip().lower() not in ("", "yes", "no"):
        raise ValueError("type yes or no")


def text_or_false(text: str) -> str | bool:
    """accelerate keeps the text as it was typed; only Enter makes it a no."""
    return text or False


def text_of(stored: str | bool) -> str:
    """The other way round."""
    return stored if isinstance(stored, str) else "yes" if stored else ""


TPU_PLUGIN = (
    ask.text(
        "main_fn",
        "What is the name of the function in your script that should be launched in all parallel scripts? [main]: ",
        "main_training_function",
        default="main",
        when=TPU,
        check=needed,
    ),
    ask.yes_no("tpu_cluster", "Are you using a TPU cluster? [yes/NO]: ", "tpu_use_cluster", when=TPU),
    ask.text("tpu_name", "What is the name of your TPU cluster? ", "tpu_name", when=POD, check=needed),
    ask.text("tpu_zone", "What is the zone of your TPU cluster? ", "tpu_zone", when=POD, check=needed),
    ask.text(
        "tpu_sudo",
        "To run a python script in a TPU pod, should `sudo` be used? [yes/NO]: ",
        Sets("tpu_use_sudo", text_or_false, inverse=text_of),
        default="",
        when=POD,
        check=yes_no_text,
        help="accelerate saves what is typed and takes any of it for yes: for no, leave it empty.",
    ),
    ask.yes_no("tpu_run", "Do you have code you wish to run on startup in each pod? [yes/NO]: ", when=POD),
    ask.yes_no("tpu_use_file", "Is this code located in a bash script? [yes/NO]: ", when=answer("tpu_run", True)),
    ask.path(
        "tpu_file",
        "What is the path to your bash script? ",
        Sets("command_file", os.path.abspath),
        when=answer("tpu_use_file", True),
        check=needed,
    ),
    ask.note("note_cmds", "Please enter each command separately you wish to run on startup in each pod.", COMMANDS),
    ask.ask(
        "tpu_cmd",
        Kind.REPEAT,
        "Please enter a single command to be ran ",
        "commands",
        more="Do you wish to add another command? [yes/NO]: ",
        when=COMMANDS,
    ),
    ask.text(
        "tpu_vm",
        "If not using an instance group, what are the names of the Compute VM instances to be used, separated by a "
        "comma: ",
        Sets("tpu_vm", split, inverse=",".join),
        default="",
        when=POD,
    ),
    ask.text(
        "tpu_env",
        "What environment variables do you wish to set in each pod, separated by a comma: ",
        Sets("tpu_env", split, inverse=",".join),
        default="",
        when=POD,
    ),
)
