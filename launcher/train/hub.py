"""Models from the hub: only what training needs, with progress, and refused when they do not fit."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import (
    constants,
    hf_hub_download,
    model_info,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    HTTPError,
    RepositoryNotFoundError,
)
from tqdm.auto import tqdm

from launcher.errors import CannotRunHereError, InvalidInputError
from launcher.model_files import COMPONENTS, check_components, missing_shards, weight_files

GIB = 2**30


def download(hub_id: str, progress: Callable[[int, int], None], components: tuple[str, ...] = COMPONENTS) -> Path:
    """Brings a model from the hub into its cache, or finds it there.

    Args:
        hub_id: such as ``stabilityai/stable-diffusion-xl-base-1.0``.
        progress: called with bytes done and bytes in all.
        components: folders wanted; none means the files at the top, as a VAE repository has them.

    Returns:
        The snapshot's folder.

    Raises:
        InvalidInputError: there is no such model, or it asks for a licence to be accepted.
        CannotRunHereError: no network, or no space.
    """
    try:
        # Where there is no network this says so at once; list_repo_files tries for half a minute.
        siblings = model_info(hub_id).siblings or []
        patterns = _wanted([file.rfilename for file in siblings], components)
        ahead = snapshot_download(hub_id, allow_patterns=patterns, dry_run=True)
        missing = sum(file.file_size for file in ahead if file.will_download)
        total = sum(file.file_size for file in ahead)
        _require_space(hub_id, missing)
        done = total - missing
        for file in ahead:
            if file.will_download:
                bar = _bar(partial(_tell, progress, done, total))
                hf_hub_download(hub_id, file.filename, revision=file.commit_hash, tqdm_class=bar)
                done += file.file_size
                progress(done, total)
        return Path(snapshot_download(hub_id, allow_patterns=patterns, local_files_only=True))
    except GatedRepoError as error:
        raise InvalidInputError(
            f"{hub_id} wants its licence accepted: do so on its page, then `hf auth login` here"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise InvalidInputError(
            f"{hub_id} is neither a folder or file here nor a model on the hub; check the spelling"
        ) from error
    except (HTTPError, OSError) as error:  # a network that is down is only the former
        whole = _whole_snapshot(hub_id, components)
        if whole is not None:
            return whole
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CannotRunHereError(
            f"{hub_id} could not be brought from the hub ({reason}); files that came whole are kept, start again "
            "to go on"
        ) from error


def _whole_snapshot(hub_id: str, components: tuple[str, ...]) -> Path | None:
    """A snapshot that came whole earlier, for machines without a network now."""
    found = try_to_load_from_cache(hub_id, "model_index.json" if components else "config.json")
    if not isinstance(found, str):
        return None
    folder = Path(found).parent
    try:
        if components:
            check_components(folder)
    except InvalidInputError:
        return None
    return folder if components or (weight_files(folder) and not missing_shards(folder)) else None


def _wanted(files: list[str], components: tuple[str, ...]) -> list[str]:
    """Safetensors and configuration of the components; fp16 variants only where nothing else is."""
    wanted = []
    for file in files:
        folder, _, name = file.rpartition("/")
        if folder not in (components or ("",)) and file != "model_index.json":
            continue
        if name.endswith((".json", ".txt")):
            wanted.append(file)
        elif name.endswith(".safetensors"):
            full = file.replace(".fp16.", ".")
            if full == file or full not in files:
                wanted.append(file)
    return wanted


def _require_space(hub_id: str, missing: int) -> None:
    cache = Path(constants.HF_HUB_CACHE)
    existing = next(path for path in (cache, *cache.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if missing > free:
        raise CannotRunHereError(
            f"{hub_id} needs {missing / GIB:.1f} GiB more in {cache}, where {free / GIB:.1f} GiB are free; "
            "make room, or set HF_HOME to a larger disk"
        )


def _tell(progress: Callable[[int, int], None], before: int, total: int, here: int) -> None:
    progress(before + here, total)


def _bar(tell: Callable[[int], None]) -> type[Any]:
    """A progress bar class that draws nothing and tells the bytes of its file."""
    done = 0

    class Bar(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            nonlocal done
            done += int(n or 0)
            tell(done)
            return None

    return Bar
