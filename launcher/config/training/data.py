"""Which pictures it learns from."""

from dataclasses import dataclass

from launcher.config.setting import setting


@dataclass(frozen=True, slots=True)
class DataSettings:
    """Which pictures it learns from."""

    instance_data_dir: str = setting(
        "",
        "A folder of pictures, each with its caption in a .txt file of the same name beside it.",
        required=True,
        path=True,
    )
    resolution: int = setting(
        1024,
        "Side of the square whose area each picture is scaled to, in the bucket of its own aspect.",
        unit="px",
        minimum=16,
        maximum=4096,
    )
    cache_dir: str = setting(
        "",
        "Where latents and prompt embeddings are kept between runs. Empty: `cache` beside the run directories.",
        path=True,
    )
