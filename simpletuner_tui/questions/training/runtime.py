"""How it is asked what the processes get from the machine."""

from simpletuner_tui.questions.training.topic import Topic

RUNTIME = Topic(
    section="Machine",
    texts={
        "cpu_threads": "How many CPU threads per process?",
        "max_workers": "How many threads should decode pictures while latents are computed?",
        "attention_mechanism": "How should attention be computed?",
        "offload_param_path": "In which folder should what is offloaded to NVMe lie?",
    },
    gate="Change how many threads it uses, or its attention kernel?",
    gate_help="Unchanged, processes share the physical cores, a few threads each decode pictures, and torch chooses "
    "how attention is computed.",
    # accelerate asks for both folders where one is needed; this one is for those who bring it.
    only_given=frozenset({"offload_param_path"}),
)
