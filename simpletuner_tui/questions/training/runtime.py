"""How it is asked what the processes get from the machine."""

from simpletuner_tui.questions.training.topic import Topic

RUNTIME = Topic(
    section="Machine",
    texts={
        "cpu_threads": "How many CPU threads per process?",
        "attention_mechanism": "How should attention be computed?",
    },
)
