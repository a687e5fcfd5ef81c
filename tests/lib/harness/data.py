"""A folder of pictures as a data set."""

from pathlib import Path

from launcher.config.training import DataSettings, PreparationSettings, TrainingSettings
from launcher.data.dataset import find
from launcher.data.pictures import Picture


def scan(folder: Path, resolution: int, **preparation: object) -> list[Picture]:
    """The pictures of a folder, at a resolution."""
    data = DataSettings(instance_data_dir=str(folder), resolution=resolution)
    return list(find(TrainingSettings(data=data, preparation=PreparationSettings(**preparation))).pictures)
