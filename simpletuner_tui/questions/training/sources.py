"""How it is asked where pictures come from, where one folder is not enough."""

from simpletuner_tui.questions.training.topic import Topic

SOURCES = Topic(
    section="Pictures",
    texts={"data_backend_config": "Which JSON file lists the sources of pictures?"},
    gate="Take pictures from several sources, or from the hub?",
    gate_help="A JSON file lists them, as SimpleTuner's data backend configuration does. Without it pictures come from "
    "one folder.",
    unchanged="one folder",
)
