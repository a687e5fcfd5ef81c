"""Where the captions of a folder's pictures are."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from launcher.config.training.sources import SourceSettings
from launcher.data.files import SUFFIXES
from launcher.data.rows import METADATA, captions_by_rows

CaptionOf = Callable[[Path], str]
"""A picture's caption; raises ValueError with what is wrong with it."""


def captions_of(source: SourceSettings, files: list[Path], pictures: list[Path], faults: list[str]) -> CaptionOf:
    """Finds captions as the source says.

    Args:
        source: a local one.
        files: all of its folder.
        pictures: those among them.
        faults: gets what is wrong beside single pictures.
    """
    match source.caption_strategy:
        case "filename":
            return lambda path: path.stem.replace("_", " ").strip()
        case "instanceprompt":
            return lambda _: source.instance_prompt
        case "textfile":
            faults += _lone_captions(files, pictures)
            return partial(_beside, [path.name for path in files if path.name in METADATA])
    folder = Path(source.instance_data_dir)
    if source.caption_strategy == "parquet":
        tables = [(Path(source.parquet_path), folder)]
    else:
        tables = [(path, path.parent) for path in files if path.name in METADATA]
    if not tables:
        faults.append(f"{folder}: has no {' or '.join(METADATA)} with the captions")
        return lambda _: ""
    captions = captions_by_rows(tables, pictures, source.filename_column, source.caption_column, faults)
    return lambda path: captions.get(path, "")  # one that has none is among the faults


def _lone_captions(files: list[Path], pictures: list[Path]) -> list[str]:
    stems = {path.with_suffix("") for path in pictures}
    lone = [path for path in files if path.suffix.lower() == ".txt" and path.with_suffix("") not in stems]
    others = {path.with_suffix(""): path.name for path in files if path.suffix.lower() != ".txt"} if lone else {}
    return [f"{path}: {_why_lone(others.get(path.with_suffix('')))}" for path in lone]


def _why_lone(other: str | None) -> str:
    if other is None:
        return "a caption without a picture; add the picture or remove the caption"
    kinds = ", ".join(sorted(SUFFIXES))
    return f"its picture {other} is of a kind that is not read; save it as one of {kinds}, or remove both"


def _beside(tables: list[str], picture: Path) -> str:
    path = picture.with_suffix(".txt")
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except FileNotFoundError:
        other = f", or take those of {tables[0]} with training.caption_strategy=metadata" if tables else ""
        raise ValueError(f"has no caption; write one into {path.name} beside it{other}") from None
    except UnicodeDecodeError:
        raise ValueError(f"its caption {path.name} is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise ValueError(f"its caption {path.name} cannot be read ({error.strerror}); replace it") from error
