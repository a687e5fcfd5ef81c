"""The hardware screen: opened from everywhere, fed by real readers over a driver of our own, and quiet."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from textual.widgets import Static

from harness.fake_model import write_model, write_pictures
from harness.hardware_screens import DISK, EIGHT, LOST, MIG, PLAN, FakeSamples, gpu, sample
from harness.made_runs import MadeRun
from harness.nvml import FakeNvml, card, process
from harness.screens import ANSWERS, MACHINE
from harness.terminal import Terminal
from harness.wizard import Wizard, in_loop
from launcher.machine import gpu_processes
from launcher.machine.gpus import Gpu, Gpus
from launcher.machine.sample import Unknown
from simpletuner_tui.answers import read_resolved
from simpletuner_tui.hardware import Expected, Subject, expected_of
from simpletuner_tui.preview import cost
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.questions.resolving import resolve
from simpletuner_tui.tui.glyphs import ASCII, UNICODE
from simpletuner_tui.tui.quiet_app import QuietApp
from simpletuner_tui.tui.screens.hardware import HardwareScreen
from simpletuner_tui.tui.screens.home import HomeScreen
from simpletuner_tui.tui.screens.run import RunScreen
from simpletuner_tui.tui.screens.wizard import WizardScreen
from simpletuner_tui.tui.widgets.drawn import Drawn
from simpletuner_tui.tui.widgets.hardware_lines import gpu_details, gpu_lines, host_lines, state_line, two_minutes

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def driver(monkeypatch):
    """Two cards that NVML tells of, on whichever machine this is."""
    monkeypatch.setattr(gpu_processes, "in_container", lambda: False)
    cards = [card(0, computing=[process(1, 900)]), card(1)]
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(*cards))
    return cards


def text(screen, pane: str) -> str:
    return str(screen.query_one(f"#{pane}", Drawn).render())


def plain(lines) -> str:
    return "\n".join(line.plain for line in lines)


async def opened(wizard: Wizard, key: str = "ctrl+g") -> HardwareScreen:
    await wizard.press(key)
    await wizard.until(lambda: isinstance(wizard.screen, HardwareScreen) and "GPU 0" in text(wizard.screen, "gpus"))
    return wizard.screen


# opened from everywhere


@in_loop
async def test_it_opens_from_home_and_the_wizard_and_closes_with_the_same_key(folder, driver):
    write_model(folder / "model")
    write_pictures(folder / "pictures")
    async with Wizard(REGISTRY, at_home=True) as wizard:
        assert "Hardware" in wizard.text("KeyLine")
        screen = await opened(wizard)
        assert "GPU 1" in text(screen, "gpus")
        assert "→" not in text(screen, "host"), "nothing is planned"
        await wizard.until(lambda: "GPU after" in wizard.text("KeyLine"))
        await wizard.press("ctrl+g")
        assert isinstance(wizard.screen, HomeScreen)
        await wizard.press("n", *"./m", "ctrl+g")
        await opened(wizard, "shift")
        await wizard.press("q")
        assert isinstance(wizard.screen, WizardScreen)
        assert wizard.field.value == "./m", "what stands in the field is still there"


@in_loop
async def test_the_plan_that_is_edited_stands_beside_what_there_is(folder, driver):
    """Of the card that it would train on, of host memory, and of the disk that it would offload to."""
    write_model(folder / "model")
    write_pictures(folder / "pictures")
    card_0 = Gpu(0, "GPU-00-beef", "NVIDIA GeForce RTX 4090", 24_564, 23_000, 948)
    answers = {**ANSWERS, "accelerate.zero_stage": 3}
    here = replace(MACHINE, gpus=lambda: Gpus((card_0,)))
    async with Wizard(REGISTRY, answers, machine=lambda: here, size=(100, 30)) as wizard:
        screen = await opened(wizard)
        await wizard.until(lambda: "the plan" in text(screen, "detail"))
        settings = wizard.app.screen_stack[-2]._settings(wizard.session.resolved)
        gpu_mib = cost(settings).gpu_mib
        assert f"the plan: {gpu_mib:,} more, {gpu_mib + 948:,} at the peak" in text(screen, "detail")
        assert "│" in text(screen, "gpus").splitlines()[0]
        assert "│" not in text(screen, "gpus").splitlines()[1], "it would not train there"
        await wizard.until(lambda: len(text(screen, "host").splitlines()) == 2)
        ram, disk = text(screen, "host").splitlines()
        assert disk.startswith("test "), "the folder of the run"
        assert ("→" in ram, "→" in disk) == (True, True)
        await wizard.press("ctrl+g", "ctrl+o")
        screen = await opened(wizard)
        await wizard.until(lambda: len(text(screen, "host").splitlines()) == 1)


@in_loop
async def test_a_runs_dashboard_leads_to_it_with_the_whole_run(folder, driver):
    made = MadeRun(folder / "runs/cats")
    made.begin()
    made.train(50)
    made.write()
    async with Wizard(REGISTRY, at_home=True, size=(80, 30)) as wizard:
        wizard.app.run_worker(wizard.app.attach(made.run))
        await wizard.until(lambda: isinstance(wizard.screen, RunScreen) and wizard.screen.history.header)
        screen = await opened(wizard, "h")
        assert "the run does not use this GPU" in text(screen, "whole")
        assert "cats at its peak" in str(screen.query_one("#host").border_subtitle)
        await wizard.press("q")
        assert isinstance(wizard.screen, RunScreen)


@in_loop
async def test_the_machine_is_looked_at_from_then_on_and_no_longer_than_the_application(folder, driver):
    async with Wizard(REGISTRY, at_home=True) as wizard:
        assert wizard.app._looks is None
        await opened(wizard)
        sampler = wizard.app._looks.sampler
        await wizard.press("q")
        await opened(wizard)
        assert wizard.app._looks.sampler is sampler
    assert not sampler._thread.is_alive()


# on its own


class Shown:
    """The screen over samples that a test changes."""

    def __init__(
        self, samples: FakeSamples, subject: Subject | None = None, size=(80, 24), every: float = 0.02
    ) -> None:
        self.samples, self.app = samples, QuietApp(UNICODE)
        self.screen = HardwareScreen(samples, Subject(), UNICODE, refresh=every)
        self._running = self.app.run_test(size=size)

    async def __aenter__(self) -> "Shown":
        self.pilot = await self._running.__aenter__()
        await self.app.push_screen(self.screen)
        await self.pilot.pause(0.1)
        return self

    async def __aexit__(self, *error) -> None:
        await self._running.__aexit__(*error)

    def text(self, pane: str) -> str:
        return text(self.screen, pane)


@in_loop
async def test_only_columns_that_changed_are_drawn_and_none_while_it_is_hidden(monkeypatch):
    drawn = []
    refresh = Drawn.refresh

    def counted(self, *regions, **rest):
        drawn.append((self.id, regions))
        return refresh(self, *regions, **rest)

    async with Shown(FakeSamples(sample(gpu(utilisation=97)))) as shown:
        monkeypatch.setattr(Drawn, "refresh", counted)
        await shown.pilot.pause(0.2)
        assert drawn == [], "nothing has changed"
        shown.samples.last = sample(gpu(utilisation=98))
        await shown.pilot.pause(0.1)
        assert [(pane, region.width, region.height) for pane, (region,) in drawn] == [("gpus", 1, 1)]
        await shown.app.push_screen(HardwareScreen(FakeSamples(None), Subject(), UNICODE))
        drawn.clear()
        shown.samples.last = sample(gpu(3_000, utilisation=5))
        await shown.pilot.pause(0.2)
        assert drawn == []
        shown.app.pop_screen()
        await shown.pilot.pause(0.1)
        assert "5 %" in shown.text("gpus")


@in_loop
async def test_states_come_and_go_as_the_machine_does():
    async with Shown(FakeSamples(None)) as shown:
        assert shown.text("state") == "the first look is under way"
        shown.samples.last = sample(gpu(), LOST, disks=(DISK,))
        await shown.pilot.pause(0.1)
        assert not shown.screen.has_class("-state")
        await shown.pilot.press("down")
        assert "fallen off the bus" in shown.text("detail")
        shown.samples.last = sample(none="no NVIDIA driver answers")
        await shown.pilot.pause(0.1)
        assert (shown.text("gpus"), shown.screen.query_one("#detail").display) == (
            "no GPU: no NVIDIA driver answers",
            False,
        )
        shown.samples.last, shown.samples.age = sample(gpu()), 12.0
        await shown.pilot.pause(0.1)
        assert shown.text("state").startswith("nothing was heard for 12.0 s")
        assert "RTX 4090" in shown.text("gpus"), "what was known last is still shown"


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (120, 40)])
@pytest.mark.parametrize("gpus", [(gpu(),), EIGHT, (*EIGHT, *EIGHT), MIG], ids=["one", "eight", "sixteen", "mig"])
@in_loop
async def test_nothing_is_cut_off_at_any_size(gpus, size):
    async with Shown(FakeSamples(sample(*gpus, disks=(DISK,))), size=size, every=5) as shown:
        if len(gpus) > 8:
            await shown.pilot.press(*["down"] * 15)
        for pane in ("gpus", "detail", "host"):
            region = shown.screen.query_one(f"#{pane}").region
            assert region.bottom < size[1], pane
        lines = shown.text("gpus").splitlines()
        assert max(map(len, lines)) <= size[0] - 4
        assert len(gpus) == 1 or sum(line.startswith("▶") for line in lines) == 1, "the chosen one is in sight"
        if "g Graphs" in str(shown.screen.query_one("KeyLine", Static).content):
            await shown.pilot.press("g")
            await shown.pilot.pause()
        assert "now" in shown.text("recent")


@in_loop
async def test_two_folders_on_one_disk_take_one_row():
    disks = (DISK, replace(DISK, folder=Path("/mnt/nvme/runs")))
    async with Shown(FakeSamples(sample(gpu(), disks=disks))) as shown:
        assert shown.screen.query_one("#host").content_size.height == len(shown.text("host").splitlines()) == 2


# what is said


def test_a_prediction_is_added_to_what_others_hold_and_not_to_what_the_run_itself_does():
    for comes_on_top, said in ((True, "8,448 more, 23,550 at the peak"), (False, "cats: 8,448 at the peak")):
        expected = replace(PLAN, comes_on_top=comes_on_top)
        assert said in plain(gpu_details(gpu(), "cats", expected, 100, 6))
    beyond = plain(gpu_details(gpu(), "the plan", replace(PLAN, gpu_mib=20_000), 120, 6))
    assert beyond.splitlines()[0].endswith("35,102 at the peak, which is not there")
    assert plain(gpu_lines(sample(gpu()), replace(PLAN, gpu_mib=20_000), 0, 76, 1, ASCII)).count("!") == 1


def test_disks_are_told_once_with_all_that_goes_there():
    other = replace(DISK, folder=Path("/mnt/nvme/runs"))
    expected = Expected(disks={DISK.folder: 10_240, other.folder: 20_480})
    _, line = host_lines(sample(gpu(), disks=(DISK, other)), expected, None, 100, UNICODE)
    assert line.plain.startswith("runs ")
    assert "972.7 → 1002.7 of 1862.3 GiB" in line.plain
    first = replace(DISK, read_mib_s=Unknown("it is on a network filesystem (nfs4)"))
    assert "rates N/A: it is on a network filesystem (nfs4)" in plain(
        host_lines(sample(disks=(first,)), None, None, 120, UNICODE)
    )


def test_a_figure_that_is_not_known_is_left_out_and_its_reason_told_once():
    said = plain(gpu_details(MIG[1], "", None, 76, 9))
    assert "power N/A" not in said
    assert said.count("told of the whole GPU alone") == 1
    assert "not visible in this container" in said


def test_a_name_from_elsewhere_gives_the_terminal_no_orders():
    nasty = gpu(processes=(gpu_processes.GpuProcess(1, "a\x1b[31m", 5),), name="RTX\x1b]0;x\x07")
    assert "\x1b" not in plain(
        [*gpu_details(nasty, "", None, 76, 9), *gpu_lines(sample(nasty), None, 0, 76, 1, UNICODE)]
    )


def test_two_minutes_have_a_gap_where_nobody_looked():
    looks = [replace(sample(gpu(used=12_000)), time=1.8e9 + second) for second in range(121) if not 40 < second < 80]
    lines = [line.plain for line in two_minutes(looks, "GPU-0", None, 76, 7, ASCII)]
    curve = next(line for line in lines if "*" in line)[8:]
    assert curve.strip("|").startswith("***")
    assert " " * 10 in curve.strip()
    assert plain(two_minutes(looks, "GPU-9", None, 76, 7, ASCII)) == "no reading yet"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((None, 0.2, ""), "the first look is under way"),
        ((None, 0.2, "OSError: no"), "OSError: no"),
        ((None, 9.0, ""), "nothing was heard for 9.0 s: the driver, or a disk, does not answer"),
        ((sample(), 0.2, ""), ""),
        ((sample(), 0.2, "OSError: no"), "the last look failed: OSError: no"),
    ],
)
def test_what_keeps_figures_from_being_those_of_now(given, said):
    assert state_line(*given) == said


def test_what_a_plan_swaps_to_nvme_is_expected_on_that_disk(folder):
    write_model(folder / "model")
    write_pictures(folder / "pictures")
    deepspeed = {"optimizer_nvme": str(folder / "nvme"), "offload_optimizer": "nvme", "zero_stage": 3}
    answers = {**ANSWERS, **{f"accelerate.{key}": value for key, value in deepspeed.items()}}
    resolved = resolve(REGISTRY, answers, {"deepspeed": True, "transformers": True})
    settings = read_resolved(resolved, folder).settings
    expected = expected_of(settings, folder / "runs/cats", Gpus(()))
    parts = {part.name: part.mib for part in cost(settings).disk}
    swapped = parts.pop("optimizer on NVMe")
    assert expected.disks == {folder / "nvme": swapped, folder / "runs/cats": sum(parts.values())}
    assert expected.uuids == frozenset()


# on the wire


@pytest.mark.parametrize(("size", "most"), [((80, 24), 6_000), ((200, 50), 15_000)], ids=["80x24", "200x50"])
def test_eight_busy_gpus_cost_little_on_the_wire(folder, size, most):
    terminal = Terminal(
        sys.executable,
        "-m",
        "harness.busy_machine",
        columns=size[0],
        rows=size[1],
        TERM="screen-256color",
        COLORTERM="",
    )
    try:
        terminal.read_until("This machine")
        terminal.quiet(0.4)
        terminal.forget()
        terminal.read_for(5.0)
        assert 500 < len(terminal.seen.encode()) / 5 < most
    finally:
        terminal.close()
