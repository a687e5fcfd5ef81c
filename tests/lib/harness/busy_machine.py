"""``python -m harness.busy_machine``: the hardware screen over eight GPUs of which no figure stands still."""

import itertools
import random
import time
from dataclasses import replace
from pathlib import Path

from harness.hardware_screens import DISK, PLAN, gpu, sample
from launcher.machine.sample import Sample
from launcher.machine.sampler import Sampler
from simpletuner_tui.hardware import Subject
from simpletuner_tui.tui import quiet_app
from simpletuner_tui.tui.driver import TolerantDriver
from simpletuner_tui.tui.glyphs import UNICODE
from simpletuner_tui.tui.quiet_app import QuietApp
from simpletuner_tui.tui.screens.hardware import HardwareScreen

GPUS = 8
LOOKS = itertools.count()


def look() -> Sample:
    """As a training shows itself: memory that breathes, and everything else a little different each second."""
    now, chance = next(LOOKS), random.Random()
    gpus = [
        replace(
            gpu(index, 14_000 + 900 * ((now + index) % 5)),
            utilisation=chance.randint(60, 100),
            temperature=chance.randint(61, 72),
            power_w=chance.uniform(260, 450),
            clock_mhz=chance.randint(2300, 2700),
            received_mib_s=chance.uniform(0, 9000),
            sent_mib_s=chance.uniform(0, 9000),
        )
        for index in range(GPUS)
    ]
    disk = replace(DISK, free_mib=DISK.free_mib - 300 * now, read_mib_s=chance.uniform(0, 3000))
    taken = sample(*gpus, at=time.time(), disks=(disk,))
    return replace(taken, host=replace(taken.host, load=chance.uniform(6, 9), available_mib=59_000 - 200 * (now % 7)))


class BusyApp(QuietApp):
    """That screen alone."""

    CSS_PATH = Path(quiet_app.__file__).with_name("app.tcss")

    def on_mount(self) -> None:
        sampler = Sampler(look)
        sampler.start()
        screen = HardwareScreen(sampler, Subject("the plan", lambda: PLAN), self.glyphs)
        self.push_screen(screen, lambda _: self.exit())


if __name__ == "__main__":
    BusyApp(UNICODE, TolerantDriver).run()
