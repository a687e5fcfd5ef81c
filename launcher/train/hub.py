"""Models from the hub: only what training needs, with progress, and refused when they do not fit."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import constants, hf_hub_download, list_repo_files, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from tqdm.auto import tqdm

from launcher.errors import CannotRunHereError, InvalidInputError
from launcher.model_files import COMPONENTS

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
        patterns = _wanted(list_repo_files(hub_id), components)
        ahead = snapshot_download(hub_id, allow_patterns=patterns, dry_run=True)
        missing = sum(file.file_size for file in ahead if file.will_download)
        total = sum(file.file_size for file in ahead)
        _require_space(hub_id, missing)
        bar = _bar(lambda done: progress(total - missing + done, total))
        for file in ahead:
            if file.will_download:
                hf_hub_download(hub_id, file.filename, revision=file.commit_hash, tqdm_class=bar)
        return Path(snapshot_download(hub_id, allow_patterns=patterns, local_files_only=True))
    except GatedRepoError as error:
        raise InvalidInputError(
            f"{hub_id} wants its licence accepted: do so on its page, then `hf auth login` here"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise InvalidInputError(
            f"{hub_id} is neither a folder or file here nor a model on the hub; check the spelling"
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        whole = _whole_snapshot(hub_id)
        if whole is not None:
            return whole
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CannotRunHereError(
            f"{hub_id} could not be brought from the hub ({reason}); what came is kept, start again to go on"
        ) from error


def _whole_snapshot(hub_id: str) -> Path | None:
    """A snapshot that came whole earlier, for machines without a network now."""
    try:
        folder = Path(snapshot_download(hub_id, local_files_only=True))
    except (OSError, LocalEntryNotFoundError):
        return None
    needed = [folder / name for name in COMPONENTS]
    return folder if all(path.is_dir() and any(path.iterdir()) for path in needed) else None


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


def _bar(tell: Callable[[int], None]) -> type[Any]:
    """A progress bar class that draws nothing and adds up over files."""
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
