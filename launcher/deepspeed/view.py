"""A configuration as the rules read it: values by path, of the type their field has, with DeepSpeed's defaults."""

from collections.abc import Mapping
from enum import Enum
from typing import Any

from launcher.deepspeed.fields import FIELDS


class Absent(Enum):
    """The type of :data:`ABSENT`."""

    ABSENT = "nothing"


ABSENT = Absent.ABSENT
"""What :meth:`View.raw` returns where nothing stands; null is something."""


class View:
    """Reads one configuration. Nothing is raised: what is of the wrong type reads as DeepSpeed's default."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config

    def raw(self, path: str) -> Any:
        """What stands at a path, whatever it is; :data:`ABSENT` where nothing does."""
        value: Any = self.config
        for key in path.split("."):
            if not isinstance(value, Mapping) or key not in value:
                return ABSENT
            value = value[key]
        return value

    def has(self, path: str) -> bool:
        """Whether anything stands at a path."""
        return self.raw(path) is not ABSENT

    def get(self, path: str) -> Any:
        """A known field's value, or DeepSpeed's default where it is left out or faulty."""
        value = self.raw(path)
        field = FIELDS[path]
        return field.default if value is ABSENT or field.fault(value) else value

    def differs(self, path: str) -> bool:
        """Whether a field says anything but DeepSpeed's default."""
        value, default = self.get(path), FIELDS[path].default
        return bool((tuple(value) if isinstance(value, list) else value) != default)

    @property
    def stage(self) -> int:
        """The ZeRO stage."""
        return int(self.get("zero_optimization.stage"))

    @property
    def optimizer(self) -> str:
        """The optimizer's name in lower case; empty where there is none."""
        return str(self.get("optimizer.type") or "").strip().lower()

    @property
    def scheduler(self) -> str:
        """The schedule's name; empty where there is none."""
        return str(self.get("scheduler.type") or "")

    def device(self, part: str) -> str:
        """Where ``offload_optimizer`` or ``offload_param`` goes: none, cpu or nvme."""
        return str(self.get(f"zero_optimization.{part}.device"))

    @property
    def offloads(self) -> bool:
        """Whether the optimizer runs on the CPU."""
        return self.device("offload_optimizer") != "none"

    @property
    def uses_nvme(self) -> bool:
        """Whether anything is swapped to NVMe: stage 3 alone does."""
        return self.stage == 3 and "nvme" in (self.device("offload_optimizer"), self.device("offload_param"))
