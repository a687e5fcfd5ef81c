"""How much there is of a data set, before it is looked at: by names and headers of files alone."""

from dataclasses import dataclass
from pathlib import Path

from launcher.config.training import TrainingSettings
from launcher.config.training.sources import SourceSettings
from launcher.data.embedded import parquet_files
from launcher.data.files import count
from launcher.data.rows import rows_and_bytes
from launcher.data.sources import read_sources
from launcher.errors import InvalidInputError
from launcher.machine.disk import bytes_below


@dataclass(frozen=True, slots=True)
class Extent:
    """How much there is of a data set."""

    pictures: int = 0
    """As names of files and rows of parquet tell; those of other data sets are not counted."""
    in_rows: int = 0
    """Bytes of pictures in rows, which a run writes to its cache."""
    unknown: tuple[str, ...] = ()
    """Sources in rows of which nothing is here yet."""


NOTHING = Extent()
"""What is known of a data set that is not known."""


def extent(training: TrainingSettings) -> Extent:
    """How much there is of the data set that settings name; nothing where its sources cannot be read."""
    try:
        sources = read_sources(training)
    except InvalidInputError:  # told where pictures are looked for
        return NOTHING
    each = [_of(source) for source in sources]
    return Extent(
        pictures=sum(one.pictures for one in each),
        in_rows=sum(one.in_rows for one in each),
        unknown=tuple(name for one in each for name in one.unknown),
    )


def _of(source: SourceSettings) -> Extent:
    if source.type == "local":
        return Extent(count(Path(source.instance_data_dir)))
    if source.type == "parquet":
        rows, size = rows_and_bytes(parquet_files(source.parquet_path), source.image_column)
        return Extent(rows, size)
    folder = Path(source.dataset_name)
    if not folder.is_dir():
        return Extent(unknown=(source.id,))
    if count(folder):  # pictures are files already, and stay where they are
        return NOTHING
    return Extent(in_rows=bytes_below(folder))
