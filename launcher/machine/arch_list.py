"""``TORCH_CUDA_ARCH_LIST``: torch takes forms of it on which DeepSpeed's builds end with a ValueError."""

VARIABLE = "TORCH_CUDA_ARCH_LIST"
"""Which GPUs an extension with CUDA in it is compiled for; unset, torch and DeepSpeed ask the GPUs that are here."""


def not_parsed(value: str) -> str | None:
    """The first entry that DeepSpeed cannot read; None where it reads them all.

    As ``CUDAOpBuilder.compute_capability_args`` does it in DeepSpeed 0.19.8 (``op_builder/builder.py``): entries are
    divided by semicolons and blanks, and each is two whole numbers with a dot between, the second perhaps with
    ``+PTX``. torch knows names (``Hopper``), ``native`` and letters (``9.0a``) as well.

    Args:
        value: of the variable.
    """
    entries = (entry.strip() for entry in value.replace(" ", ";").split(";"))
    return next((entry for entry in entries if entry and not _is_read(entry)), None)


def _is_read(entry: str) -> bool:
    major, *minor = entry.split(".")
    return bool(minor) and all(_is_whole(part) for part in (major, *(each.partition("+")[0] for each in minor)))


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdigit()
