"""What only torch knows, asked of processes of their own while whoever asks waits."""

import time

from launcher.doctor.remembering import remember, remembered
from launcher.machine.build_locks import BuildLock, build_locks
from launcher.machine.probing import Answer, Probe
from launcher.machine.toolchain import extensions_folder, read_toolchain

PATIENCE = 900.0
"""Seconds after which a probe is not waited for any more: compiling takes two minutes of a slow machine."""
PINNED_MIB = 1024
"""Host memory that is pinned to see whether it can be, where no plan says how much."""


class Asking:
    """Probes that are under way."""

    def __init__(self, pin_mib: int = PINNED_MIB) -> None:
        """Starts them.

        Args:
            pin_mib: host memory to pin, where there is a GPU.
        """
        self.locks: tuple[BuildLock, ...] = build_locks(extensions_folder())
        """Those that were there before: a probe makes one of its own."""
        self._begun = time.monotonic()
        self._told: dict[str, Answer] = {}
        self._probes = {"device": Probe("device", "--pin", str(pin_mib))}
        if (known := remembered()) is not None:
            self._told["cpu_adam"] = Answer({**known, "remembered": True})
        elif reason := self._why_not_compiled():
            self._told["cpu_adam"] = Answer({"untried": reason})
        else:
            self._probes["cpu_adam"] = Probe("cpu_adam")

    def _why_not_compiled(self) -> str:
        if packages := read_toolchain().missing_packages:
            return f"{' '.join(packages)} must be installed first"
        for lock in self.locks:
            if lock.extension == "cpu_adam":
                return f"process {lock.holder} is building it" if lock.holder else f"{lock.path} is in the way"
        return ""

    @property
    def compiles(self) -> bool:
        """Whether it may take minutes."""
        return "cpu_adam" in self._probes

    @property
    def ended(self) -> bool:
        """Whether the answers are there, or are not waited for any more."""
        return all(probe.ended for probe in self._probes.values()) or time.monotonic() - self._begun > PATIENCE

    def stop(self) -> None:
        """Ends them; nothing of them stays."""
        for probe in self._probes.values():
            probe.stop()

    def answers(self) -> tuple[Answer, Answer]:
        """Of the device and of CPU Adam, once :attr:`ended`."""
        for name, probe in self._probes.items():
            if probe.ended:
                self._told[name] = probe.answer()
            else:
                probe.stop()
                self._told[name] = Answer(failure=f"it did not end within {PATIENCE / 60:.0f} minutes")
        adam = self._told["cpu_adam"]
        if "cpu_adam" in self._probes and not adam.failure and not adam.told.get("failure"):
            remember(dict(adam.told))
        return self._told["device"], adam
