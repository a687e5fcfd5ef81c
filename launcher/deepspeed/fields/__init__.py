"""The catalog of DeepSpeed's JSON: every field the builder edits, and what it leaves out, as of DeepSpeed 0.19.8.

A test reads the installed DeepSpeed's own models and lists what is neither here nor left out, and defaults that differ.
"""

from collections.abc import Mapping

from launcher.deepspeed.fields.aio import AIO
from launcher.deepspeed.fields.batch import BATCH
from launcher.deepspeed.fields.checkpoint import CHECKPOINT
from launcher.deepspeed.fields.diagnostics import DIAGNOSTICS
from launcher.deepspeed.fields.field import Field, Group, Kind, is_number, shown
from launcher.deepspeed.fields.left_out import LEFT_OUT
from launcher.deepspeed.fields.offload import OFFLOAD
from launcher.deepspeed.fields.optimizer import OPTIMIZER
from launcher.deepspeed.fields.precision import PRECISION
from launcher.deepspeed.fields.scheduler import SCHEDULER
from launcher.deepspeed.fields.zero import STAGE_3, ZERO

__all__ = ["FIELDS", "LEFT_OUT", "SECTIONS", "STRICT", "Field", "Group", "Kind", "is_number", "shown"]

FIELDS: Mapping[str, Field] = {
    field.path: field
    for topic in (
        BATCH,
        PRECISION,
        ZERO,
        OFFLOAD,
        STAGE_3,
        OPTIMIZER,
        SCHEDULER,
        AIO,
        DIAGNOSTICS,
        CHECKPOINT,
    )
    for field in topic
}
"""Every field the builder edits, by its path."""

SECTIONS: frozenset[str] = frozenset(
    path.rsplit(".", depth)[0] for path in FIELDS for depth in range(1, path.count(".") + 1)
)
"""Paths that hold an object of fields."""

STRICT: frozenset[str] = frozenset(
    {
        "bf16",
        "comet",
        "comms_logger",
        "csv_monitor",
        "fp16",
        "tensorboard",
        "timers.throughput",
        "wandb",
        "zero_optimization",
        "zero_optimization.leaf_module",
        "zero_optimization.offload_optimizer",
        "zero_optimization.offload_param",
    }
)
"""Sections that DeepSpeed reads through pydantic: it refuses any key it does not know, takes ``auto`` as left out, and
whole numbers written as 5e8. Elsewhere it ignores what it does not know and takes a value as it stands."""
