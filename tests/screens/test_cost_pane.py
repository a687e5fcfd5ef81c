"""The cost pane by what it says and does; how it looks is in screenshots/."""

import fcntl
import threading
from dataclasses import replace

import pytest

from harness.screens import CARD, MACHINE, NO_GPU, SDXL, choose_card, settle, with_free
from harness.wizard import Wizard, in_loop
from launcher.estimate import Part, Phase
from launcher.estimate.trace import shipped
from launcher.estimate.traces import trace_file
from launcher.machine.gpus import Gpus
from simpletuner_tui.answers import read_resolved
from simpletuner_tui.preview import traced_step
from simpletuner_tui.pricing import Card
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.tui.glyphs import ASCII
from simpletuner_tui.tui.screens.review import ReviewScreen
from simpletuner_tui.tui.widgets.cost_bar import FILLS, bar, legend, segments
from simpletuner_tui.tui.widgets.cost_pane import CostPane, CostView
from simpletuner_tui.tui.widgets.gpu_line import GpuLine

pytestmark = pytest.mark.usefixtures("folder")

PEAK = Phase("step", (Part("CUDA context", 1_000), Part("weights", 3_000)), 3_000, 3_000, 4_000)


class Walk(Wizard):
    """The real wizard at the offload of the optimizer, with the cost in sight."""

    def __init__(self, answers=SDXL, **setup) -> None:
        super().__init__(REGISTRY, answers, **setup)
        self.session.go_to("accelerate.offload_optimizer")

    async def __aenter__(self) -> "Walk":
        await super().__aenter__()
        await self.press("f5", "f5")
        await self.until(lambda: bool(self.cost))
        return self

    @property
    def pane(self) -> CostPane:
        return self.screen.query_one(CostPane)


# the bar


def drawn(card: Card | None, width: int, glyphs=ASCII, peak: Phase = PEAK) -> str:
    return str(bar(segments(peak, card), card, width, glyphs))


def test_a_bar_is_to_scale_and_ends_where_the_card_does():
    assert drawn(Card("GPU 0", "x", 8_000), 17) == "%%######        |"
    assert drawn(Card("GPU 0", "x", 6_000, 2_000), 17) == "////%%######    |"
    assert drawn(None, 16) == "%%%%############"


def test_what_does_not_fit_goes_on_beyond_the_end_of_the_card():
    assert drawn(Card("GPU 0", "x", 2_000), 17) == "%%%%####|########"
    assert drawn(Card("GPU 0", "x", 4_000), 17) == "%%%%############|"


@pytest.mark.parametrize("width", range(2, 60, 7))
@pytest.mark.parametrize("free", [1, 777, 4_000, 143_000])
def test_a_bar_is_as_wide_as_it_should_be(width, free):
    for held in (0, 5_000):
        assert len(drawn(Card("GPU 0", "x", free, held), width)) == width


@pytest.mark.parametrize("kind", ["sign", "ascii"])
def test_no_two_shares_are_drawn_by_the_same_sign(kind):
    signs = [getattr(fill, kind) for fill in FILLS.values()]
    assert len(set(signs)) == len(signs)
    assert all(len(sign) == 1 for sign in signs)


def test_a_legend_stands_in_two_columns_where_there_is_room():
    shown = segments(PEAK, Card("GPU 0", "x", 6_000, 2_000))

    def lines(width: int) -> list[str]:
        return [str(line) for line in legend(shown, width, ASCII)]

    assert lines(40) == ["/ others  2,000 MiB  % context 1,000 MiB", "# weights 3,000 MiB"]
    assert lines(39) == ["/ others  2,000  % context 1,000", "# weights 3,000"]
    assert lines(31) == ["/ others  2,000 MiB", "% context 1,000 MiB", "# weights 3,000 MiB"]


# what it says


@in_loop
async def test_an_answer_that_changes_the_cost_says_by_how_much(folder):
    async with Walk() as walk:
        assert walk.cost.startswith("✗ Does not fit: needs ")
        await walk.press("down", "enter")
        verdict, changed = walk.cost.split("\n")[:2]
        assert verdict.startswith("✓ Fits: ")
        assert changed.startswith("-3") and " MiB, RAM +" in changed
        await walk.press("enter")
        assert not walk.cost.split("\n")[1].startswith(("+", "-")), "what changes nothing says nothing"


@pytest.mark.parametrize(
    ("setup", "said"),
    [
        ({"machine": lambda: with_free(8_950)}, "! Tight: "),
        ({"machine": lambda: with_free(6_000)}, "✗ Does not fit now: 6,000 MiB free on GPU 0,"),
        ({"machine": lambda: NO_GPU}, "✓ Fits: "),
        ({"answers": {**SDXL, "accelerate.use_cpu": True}}, "Trains on the CPU: no GPU is used."),
    ],
)
@in_loop
async def test_a_verdict_stands_first_in_words(folder, setup, said):
    answers = {**setup.pop("answers", SDXL), "accelerate.offload_optimizer": "cpu"}
    async with Walk(answers, **setup) as walk:
        assert walk.cost.startswith(said)


@in_loop
async def test_ascii_is_all_that_an_ascii_terminal_gets(folder):
    async with Walk(glyphs=ASCII) as walk:
        assert walk.cost.isascii()
        assert str(walk.pane.border_subtitle).isascii()


@pytest.mark.parametrize("width", [30, 42, 50, 100])
@in_loop
async def test_no_line_is_longer_than_the_pane(folder, width):
    async with Walk() as walk:
        lines = walk.pane.query_one(CostView)._made(width)
        assert max(len(line) for line in lines) <= width


# when it says it


@in_loop
async def test_a_known_cost_is_shown_at_once_and_an_unknown_one_is_measured(folder):
    asked, answers = [], threading.Event()
    answers.set()

    def host():
        asked.append(threading.current_thread())
        answers.wait(10)
        return MACHINE.host()

    async with Walk(machine=lambda: replace(MACHINE, host=host)) as walk:
        before = walk.cost
        answers.clear()
        await walk.pilot.press("down", "enter")
        await walk.until(lambda: walk.cost.startswith("measuring… (below: the answer before)"))
        assert before.split("\n")[-1] in walk.cost
        answers.set()
        await settle(walk.app, walk.pilot)
        assert walk.cost.startswith("✓ Fits: ")
        assert threading.main_thread() not in asked, "a driver that hangs must not stop the keyboard"


@in_loop
async def test_what_another_interface_is_tracing_is_waited_for_with_a_formulas_figures_in_sight(folder, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    answers = {**SDXL, "training.model_type": "lora", "training.lora_rank": 8, "accelerate.offload_optimizer": "cpu"}
    walk = Walk(answers)
    step = traced_step(read_resolved(walk.session.resolved, folder).settings)
    file = trace_file(step)
    file.parent.mkdir(parents=True)
    with (file.parent / f"{file.name.split('.')[0]}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as the process that traces it does
        async with walk:
            assert walk.cost.startswith("measuring… (below: by a formula)")
            assert "until a step of this U-Net is traced" in " ".join(walk.cost.split())
            file.write_bytes(shipped("all", "lora").to_bytes())
            await walk.until(lambda: walk.cost.startswith("✓ Fits: "))
            assert "traced" not in walk.cost


@in_loop
async def test_what_stays_is_not_drawn_again(folder):
    async with Walk({**SDXL, "accelerate.offload_optimizer": "cpu"}) as walk:
        await walk.press("enter", "enter", "enter", "f2", "f2")  # so that no cost is new, which may take its time
        drawn_again = []
        for part in (walk.pane, walk.pane.query_one(CostView)):
            part.refresh = lambda *regions, **rest: drawn_again.append((regions, rest))
        await walk.press("enter", "enter")
        assert drawn_again == []


# another card


@in_loop
async def test_another_card_is_chosen_with_its_verdict_in_sight_and_stays_chosen(folder):
    async with Walk({**SDXL, "accelerate.offload_optimizer": "cpu"}) as walk:
        assert "F9: another card" in str(walk.pane.border_subtitle)
        await walk.press("f9")
        rows = walk.rows("OptionList")
        assert rows[0].strip() == "this machine's GPU, as it is now"
        assert [row.split()[0] for row in rows[1:]] == ["8", "10", "12", "16", "24", "40", "48", "80", "141"]
        assert rows[1].endswith("8 GB   does not fit") and rows[-1].endswith("141 GB   fits")
        await walk.press("escape")
        assert " free on GPU 0." in walk.cost
        await walk.press(*choose_card(24))
        assert walk.cost.startswith("✓ Fits: ") and " of 23,948 MiB of a 24 GB card." in walk.cost
        await walk.press("f4")
        assert isinstance(walk.screen, ReviewScreen)
        await walk.press("f2", "f9")
        assert walk.screen.query_one("OptionList").highlighted == 5
        await walk.press("home", "enter")
        await walk.until(lambda: " free on GPU 0." in walk.cost)


@in_loop
async def test_a_card_that_others_take_or_give_back_is_looked_at_again(folder):
    free = [23_012]

    def gpus() -> Gpus:
        return Gpus((replace(CARD, free_mib=free[0], used_mib=CARD.total_mib - free[0]),))

    machine = replace(MACHINE, gpus=gpus)
    answers = {**SDXL, "accelerate.offload_optimizer": "cpu"}
    async with Walk(answers, machine=lambda: machine, gpus=gpus) as walk:
        line = walk.screen.query_one(GpuLine)
        free[0] -= 100
        line._read()
        await walk.press()
        assert "23,012 MiB free" in walk.cost, "a little is not worth the bytes"
        free[0] = 2_000
        line._read()
        await walk.press()
        assert walk.cost.startswith("✗ Does not fit now: 2,000 MiB free on GPU 0")
