"""Sizes of the kinds of parallelism, which accelerate asks with FSDP 2; texts of accelerate 1.15.0."""

from simpletuner_tui.questions.accelerate.common import Section, answer, at_least
from simpletuner_tui.questions.accelerate.fsdp import FSDP_2
from simpletuner_tui.questions.conditions import MoreThan
from simpletuner_tui.questions.model import Question

ask = Section("accelerate, parallelism")

USED = answer("use_pc", True)
KEY = "parallelism_config.parallelism_config_"


def size(name: str, text: str, help_text: str) -> Question:
    """How many processes share one kind of work."""
    return ask.number(f"pc_{name}", text, KEY + name, default=1, when=USED, check=at_least(1), help=help_text)


PARALLELISM = (
    ask.yes_no(
        "use_pc",
        "Do you want to use the parallelism config? [yes/NO]: ",
        when=FSDP_2,
        help="Combines several ways of sharing the work; the product of all sizes is the number of processes.",
    ),
    size(
        "dp_replicate_size",
        "What is the data parallelism replicate size? [1]: ",
        "Whole copies of the model, each with pictures of its own.",
    ),
    size("dp_shard_size", "What is the FSDP shard size? [1]: ", "Processes that share the weights of one copy."),
    size("tp_size", "What is the tensor parallelism size? [1]: ", "Processes that share each matrix."),
    size("cp_size", "What is the context parallelism size? [1]: ", "Processes that share one long sequence."),
    ask.menu(
        "pc_cp_comm",
        "What is the compute parallelism communication strategy?",
        ("allgather", "alltoall"),
        KEY + "cp_comm_strategy",
        when=MoreThan("accelerate.pc_cp_size", 1),
    ),
)
