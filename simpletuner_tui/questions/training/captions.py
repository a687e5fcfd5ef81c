"""How it is asked where captions come from."""

from simpletuner_tui.questions.conditions import Is
from simpletuner_tui.questions.training.topic import Topic

STRATEGY = "training.caption_strategy"
COLUMNS = Is(STRATEGY, "metadata", "parquet")

CAPTIONS = Topic(
    section="Pictures",
    texts={
        "caption_strategy": "Where are the captions?",
        "caption_column": "Which column holds captions?",
        "filename_column": "Which column names pictures?",
        "parquet_path": "Which parquet file holds the captions?",
        "instance_prompt": "Which caption should every picture have?",
        "caption_dropout_probability": "How often should a caption be dropped?",
    },
    conditions={
        "caption_column": COLUMNS,
        "filename_column": COLUMNS,
        "parquet_path": Is(STRATEGY, "parquet"),
        "instance_prompt": Is(STRATEGY, "instanceprompt"),
    },
    gate="Are captions elsewhere than in .txt files beside the pictures, or to be dropped now and then?",
    gate_help="They can be file names, one text for all, a metadata.jsonl or .csv in the folder, or a parquet file.",
    unchanged=".txt files beside the pictures",
)
