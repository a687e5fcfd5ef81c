"""Where pictures come from, where one folder is not enough."""

from dataclasses import dataclass

from launcher.config.setting import setting
from launcher.config.training.captions import CAPTION_STRATEGIES


@dataclass(frozen=True, slots=True)
class SourcesSettings:
    """Where pictures come from, where one folder is not enough."""

    data_backend_config: str = setting(
        "",
        "A JSON file that lists sources of pictures: folders, parquet files and data sets of the hub, each with its "
        "captions, repeats and probability.",
        path=True,
    )


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """One source, as an object of the list in ``data_backend_config``; names are SimpleTuner's.

    What the training's own settings say too holds where a source does not say it.
    """

    id: str = setting("", "Its name in messages and tables.", required=True)
    type: str = setting(
        "local",
        "local: a folder. huggingface: a data set of the hub. parquet: files whose rows hold the pictures.",
        choices=("local", "huggingface", "parquet"),
    )
    instance_data_dir: str = setting("", "The folder of a local source.", path=True)
    dataset_name: str = setting("", "The id of a data set on the hub, or the folder of one here.")
    dataset_config: str = setting("", "Which configuration of the data set, where it has several.")
    split: str = setting("train", "Which split of the data set.")
    image_column: str = setting("image", "The column that holds pictures.")
    caption_strategy: str = setting("textfile", "Where captions are.", choices=CAPTION_STRATEGIES)
    caption_column: str = setting("text", "The column that holds captions.")
    filename_column: str = setting("file_name", "The column that names files.")
    parquet_path: str = setting("", "A parquet file of captions, or files of pictures (shard-*.parquet).", path=True)
    instance_prompt: str = setting("", "The caption of every picture.")
    repeats: int = setting(0, "How many times more often than once each picture is drawn.", minimum=0, maximum=100_000)
    probability: float = setting(
        1.0, "The share of its pictures that an epoch draws, others each time.", minimum=0.001, maximum=1
    )
    resolution: float = setting(1024, "As training.resolution; in megapixels with resolution_type area.", minimum=0.01)
    resolution_type: str = setting(
        "pixel_area", "What the resolution is of a bucket.", choices=("pixel_area", "pixel", "area")
    )
    crop: bool = setting(False, "The middle square of each picture.")
    minimum_image_size: int = setting(0, "Pictures with a shorter side are left out.", unit="px", minimum=0)
    maximum_aspect_ratio: float = setting(0.0, "More elongated pictures are left out.", minimum=0, maximum=64)
