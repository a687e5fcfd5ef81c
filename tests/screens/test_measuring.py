"""Measuring this machine from the cost pane, with a process that stands for the probe: offered, waited for, stopped."""

import sys
from dataclasses import replace

import psutil
import pytest

from harness.builder_screens import BuilderScenario, make_app
from harness.h200 import H200
from harness.screens import LARGE, NO_GPU, SDXL, WITH_H200, settle
from harness.wizard import Wizard, in_loop
from launcher.machine import measuring
from launcher.machine.bandwidths import bandwidths_file
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.tui.glyphs import ASCII
from simpletuner_tui.tui.screens.wizard import WizardScreen
from simpletuner_tui.tui.widgets.cost_pane import CostPane, CostView

OFFERED, WAITED = "F10: measure this machine, for seconds a step", "measuring this machine, some 25 s…"
PROBE = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
(folder / "asked").open("a").write(" ".join(sys.argv[3:]) + "\\n")
while not (folder / "go").exists():
    time.sleep(0.01)
if (folder / "fault").exists():
    print((folder / "fault").read_text())
    sys.exit(3)
pathlib.Path(sys.argv[2]).write_bytes((folder / "figures").read_bytes())
"""


class Probe:
    """Stands for the real one: waits until it may end, and tells what it was asked."""

    def __init__(self, folder) -> None:
        self._folder = folder
        (folder / "probe.py").write_text(PROBE)
        (folder / "figures").write_bytes(H200.to_bytes())
        self.command = (sys.executable, "-S", str(folder / "probe.py"), str(folder))

    def end(self, fault: str = "") -> None:
        if fault:
            (self._folder / "fault").write_text(fault)
        (self._folder / "go").touch()

    @property
    def asked(self) -> list[str]:
        file = self._folder / "asked"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def running(self) -> list[psutil.Process]:
        children = psutil.Process().children()
        return [each for each in children if each.is_running() and str(self._folder / "probe.py") in each.cmdline()]


@pytest.fixture
def probe(folder, tmp_path_factory, monkeypatch):
    stands_in = Probe(tmp_path_factory.mktemp("probe"))
    monkeypatch.setattr(measuring, "PROBE", stands_in.command)
    monkeypatch.setattr("launcher.plan._hardware", lambda threads: H200.hardware)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    yield stands_in
    assert stands_in.running == []
    assert {path.suffix for path in bandwidths_file(H200.hardware).parent.glob("*")} <= {".json"}


class Walk(Wizard):
    """The real wizard at the offload of the optimizer, with the cost in sight, on a machine nobody measured."""

    def __init__(self, answers=SDXL, **setup) -> None:
        super().__init__(REGISTRY, answers, **{"machine": lambda: WITH_H200, **setup})
        self.session.go_to("accelerate.offload_optimizer")

    async def __aenter__(self) -> "Walk":
        await super().__aenter__()
        await self.press("f5", "f5")
        return self

    @property
    def title(self) -> str:
        return str(self.screen.query_one(CostPane).border_title)


@in_loop
async def test_f10_measures_once_and_the_cost_has_seconds_afterwards(probe):
    async with Walk() as walk:
        assert OFFERED in walk.cost.splitlines()
        assert walk.title == "Cost (estimate) · F10: seconds a step"
        assert probe.asked == [], "never by itself"
        await walk.press("f10")
        await walk.until(lambda: WAITED in walk.cost)
        assert walk.title == "Cost (estimate) · measuring this machine…"
        await walk.press("f10", "down", "enter")
        assert walk.where == "accelerate.offload_param", "the wizard goes on"
        assert WAITED in walk.cost
        await walk.until(lambda: probe.asked)
        probe.end()
        await walk.until(lambda: "A step " in walk.cost)
        assert probe.asked == ["--threads 16"]
        assert walk.title == "Cost (estimate)"
        assert not {OFFERED, WAITED} & set(walk.cost.splitlines())
        await walk.press("f2", "up", "enter")
        assert " s/step" in walk.cost.splitlines()[1], "a change of the cost has its seconds"
        await walk.press("f10")
        await walk.until(lambda: walk.said)
        assert "This machine is measured already: a step takes " in walk.said[-1]


@in_loop
async def test_a_fault_is_told_and_it_can_be_tried_again(probe):
    async with Walk() as walk:
        await walk.press("f10")
        probe.end("the GPU has less than 4 GiB free")
        await walk.until(lambda: walk.said)
        assert walk.said == ["Not measured the GPU has less than 4 GiB free"]
        await walk.until(lambda: OFFERED in walk.cost)


@in_loop
async def test_leaving_the_wizard_stops_it(probe):
    async with Walk() as walk:
        await walk.press("f10")
        await walk.until(lambda: probe.asked)
        assert len(probe.running) == 1
        await walk.press("ctrl+q")
        walk.app.exit()


@in_loop
async def test_the_palette_offers_it_where_another_pane_is_shown(probe):
    async with Walk() as walk:
        await walk.press("f5")
        assert not walk.screen.query_one(CostPane).display
        await walk.press("ctrl+p", *"measure", "enter")
        await walk.until(lambda: isinstance(walk.screen, WizardScreen) and WAITED in walk.cost)
        assert walk.screen.query_one(CostPane).display


@in_loop
async def test_a_plan_on_nvme_has_its_drive_measured(probe, folder):
    swap = {"accelerate.offload_optimizer": "nvme", "accelerate.optimizer_nvme": str(folder / "swap")}
    async with Walk({**SDXL, "accelerate.zero_stage": 3, **swap}) as walk:
        await walk.press("f10")
        await walk.until(lambda: probe.asked)
        assert probe.asked == [f"--threads 16 --nvme {folder / 'swap'}"]


@pytest.mark.parametrize(
    ("setup", "said"),
    [
        ({"machine": lambda: NO_GPU}, "There is no GPU to measure: no NVIDIA driver answers"),
        ({"answers": {**SDXL, "accelerate.mixed_precision": "no"}}, "Measuring would not tell the seconds of a step"),
    ],
)
@in_loop
async def test_where_it_would_tell_nothing_it_is_not_offered_and_f10_says_why(probe, setup, said):
    async with Walk(**setup) as walk:
        assert OFFERED not in walk.cost
        assert walk.title == "Cost (estimate)"
        await walk.press("f10")
        await walk.until(lambda: walk.said)
        assert said in walk.said[-1]
        assert probe.asked == []


@in_loop
async def test_an_ascii_terminal_gets_ascii(probe):
    async with Walk(glyphs=ASCII) as walk:
        assert walk.title.isascii()
        await walk.press("f10")
        await walk.until(lambda: "measuring this machine" in walk.cost)
        assert (walk.cost + walk.title).isascii()


@in_loop
async def test_the_builder_measures_too(probe):
    app = make_app(BuilderScenario("test"))
    app._shown._basis = replace(app._shown._basis, machine=lambda: WITH_H200)
    async with app.run_test(size=LARGE) as pilot:
        await settle(app, pilot)
        await pilot.press("f10")
        await settle(app, pilot)

        def cost() -> str:
            return str(app.screen.query_one(CostView).render())

        for _ in range(200):
            if WAITED in cost():
                break
            await pilot.pause(0.05)
        assert WAITED in cost()
        probe.end()
        for _ in range(200):
            if "A step " in cost():
                break
            await pilot.pause(0.05)
        assert "A step " in cost()


@in_loop
async def test_what_the_wizards_builder_began_goes_on_when_it_is_left(probe):
    async with Walk() as walk:
        await walk.press("f8", "f10")
        await walk.until(lambda: probe.asked)
        await walk.press("f2")
        await walk.until(lambda: isinstance(walk.screen, WizardScreen) and WAITED in walk.cost)
        probe.end()
        await walk.until(lambda: "A step " in walk.cost)
