"""How it is asked who is told when a run ends."""

from simpletuner_tui.questions.training.topic import Topic

NOTIFICATION = Topic(
    section="Tracking",
    texts={
        "notify_command": "Which shell command should be run when it ends or dies?",
        "notify_webhook": "To which web address should its end be posted?",
    },
    gate="Be told when the run ends or dies?",
    gate_help="By a command of yours on the machine that trains, or a message to a web address. A terminal that "
    "follows the run rings its bell anyway.",
    unchanged="nobody is told",
)
