"""How it is asked what the processes get from the machine."""

from simpletuner_tui.questions.training.topic import Topic

RUNTIME = Topic(
    section="Machine",
    texts={
        "cpu_threads": "How many CPU threads per process?",
        "max_workers": "How many threads should decode pictures while latents are computed?",
        "attention_mechanism": "How should attention be computed?",
    },
    gate="Change how many threads it uses, or its attention kernel?",
    gate_help="Unchanged, processes share the physical cores, a few threads each decode pictures, and torch chooses "
    "how attention is computed.",
)
