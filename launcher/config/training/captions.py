"""Where captions come from, and how often they are dropped."""

from dataclasses import dataclass

from launcher.config.setting import setting

CAPTION_STRATEGIES = ("textfile", "filename", "instanceprompt", "metadata", "parquet")


@dataclass(frozen=True, slots=True)
class CaptionSettings:
    """Where captions come from, and how often they are dropped."""

    caption_strategy: str = setting(
        "textfile",
        "textfile: a .txt file of the same name beside each picture. filename: the name itself, underscores read as "
        "spaces. instanceprompt: one for all. metadata: metadata.jsonl or .csv in the folder (imagefolder). "
        "parquet: a parquet file that names pictures.",
        choices=CAPTION_STRATEGIES,
    )
    caption_column: str = setting("text", "The column of metadata or parquet that holds captions.")
    filename_column: str = setting("file_name", "The column of metadata or parquet that names pictures.")
    parquet_path: str = setting("", "The parquet file; names in it count from the folder of pictures.", path=True)
    instance_prompt: str = setting("", "The caption of every picture.")
    caption_dropout_probability: float = setting(
        0.0,
        "How often a picture is trained on with the empty caption instead of its own: it teaches the model what "
        "guidance subtracts. 0.1 is usual where that is wanted.",
        minimum=0,
        maximum=1,
    )
