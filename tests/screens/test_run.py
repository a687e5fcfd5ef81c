"""The dashboard of a run: what it shows follows the run's files, and what is pressed reaches the run."""

import asyncio
import os
import signal
from contextlib import ExitStack

import pytest
from textual.pilot import Pilot

from harness.made_runs import MadeRun
from harness.runs import CLI, cli, events, supervisor, wait_for
from harness.terminal import Terminal
from launcher.runs.checkpoint_request import checkpoint_requested
from launcher.runs.stop import stop_requested
from simpletuner_tui import watcher
from simpletuner_tui.tui.attach import AttachApp
from simpletuner_tui.tui.glyphs import UNICODE
from simpletuner_tui.tui.screens.dialogs import ConfirmScreen
from simpletuner_tui.tui.screens.run import RunScreen
from simpletuner_tui.tui.widgets.drawn import Drawn
from simpletuner_tui.tui.widgets.log_view import LogView


class Dashboard:
    """One over a run."""

    def __init__(self, pilot: Pilot, screen: RunScreen) -> None:
        self.pilot, self.screen = pilot, screen
        self.bells = 0

    def text(self, pane: str) -> str:
        return "\n".join(line.plain for line in self.screen.query_one(pane, Drawn)._lines)

    async def shows(self, text: str, pane: str = "#progress") -> None:
        """Waits until it does."""
        for _ in range(200):
            if text in self.text(pane):
                return
            await self.pilot.pause(0.02)
        raise AssertionError(f"{text!r} is not in {self.text(pane)!r}")

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause(0.05)


def watch(made: MadeRun, then, *, size=(80, 24), **options) -> AttachApp:
    """Runs ``then`` on a dashboard."""

    async def run() -> AttachApp:
        screen = RunScreen(made.run, UNICODE, refresh=0.05, clock=lambda: made.time, **options)
        app = AttachApp(screen, UNICODE)
        async with app.run_test(size=size) as pilot:
            dashboard = Dashboard(pilot, screen)
            app.bell = lambda: setattr(dashboard, "bells", dashboard.bells + 1)
            while screen.status is None:
                await pilot.pause(0.02)
            await then(dashboard)
        return app

    return asyncio.run(run())


@pytest.fixture
def made(folder):
    made = MadeRun(folder / "runs/cats")
    made.begin()
    made.train(20)
    made.write(*(f"line {number}" for number in range(100)))
    return made


def test_what_the_run_tells_comes_by_itself_until_the_view_is_paused(made):
    async def then(dashboard):
        await dashboard.shows("20/1,000")
        made.train(5)
        made.write("a new line")
        await dashboard.shows("25/1,000")
        await dashboard.press("space")
        assert "view paused" in dashboard.text("#headline")
        made.train(5)
        made.write()
        await dashboard.pilot.pause(0.3)
        assert "25/1,000" in dashboard.text("#progress")
        await dashboard.press("space")
        await dashboard.shows("30/1,000")

    with made.held():
        watch(made, then)


def test_a_stop_and_a_checkpoint_are_asked_for_once_more_before_they_are_asked_of_the_run(made):
    async def then(dashboard):
        for key, asked in (("s", stop_requested), ("k", stop_requested), ("c", checkpoint_requested)):
            await dashboard.press(key, "enter")
            assert not asked(made.run), "the careful answer has the focus"
        await dashboard.press("c", "y")
        assert checkpoint_requested(made.run)
        await dashboard.press("s", "y")
        assert stop_requested(made.run).now is False
        await dashboard.press("k", "y")
        assert stop_requested(made.run).now is True

    with made.held():
        watch(made, then)


def test_who_may_only_look_can_ask_nothing_of_the_run(made):
    async def then(dashboard):
        for key in ("s", "k", "c"):
            await dashboard.press(key)
            assert not isinstance(dashboard.pilot.app.screen, ConfirmScreen)
        await dashboard.press("l")
        assert dashboard.screen.view == "log"

    with made.held():
        watch(made, then, read_only=True)


def test_the_end_rings_once_and_leaves_nothing_to_stop(made):
    async def then(dashboard):
        await dashboard.shows("running", "#headline")
        held.close()
        made.end("completed", 0, "trained 20 steps")
        made.write()
        await dashboard.shows("completed", "#headline")
        await dashboard.press("s")
        assert not isinstance(dashboard.pilot.app.screen, ConfirmScreen)
        await dashboard.pilot.pause(0.2)
        assert dashboard.bells == 1

    held = ExitStack()
    held.enter_context(made.held())
    assert watch(made, then).return_value is None, "nothing goes on"


def test_a_run_that_has_ended_long_ago_rings_no_bell(made):
    made.end("completed", 0, "trained 20 steps")
    made.write()

    async def then(dashboard):
        await dashboard.shows("completed", "#headline")
        assert dashboard.bells == 0

    watch(made, then)


def test_the_log_follows_until_somebody_scrolls_and_is_searched(made):
    async def then(dashboard):
        await dashboard.press("l")
        await dashboard.shows("line 99", "#log")
        await dashboard.press("pageup")
        before = dashboard.text("#log")
        made.write("line 100")
        await dashboard.pilot.pause(0.2)
        assert dashboard.text("#log") == before, "what is read stays where it is"
        await dashboard.press("f")
        await dashboard.shows("line 100", "#log")
        await dashboard.press("space")
        made.write("line 101")
        await dashboard.pilot.pause(0.2)
        assert "line 101" not in dashboard.text("#log"), "a view that is paused is not drawn"
        await dashboard.press("space")
        await dashboard.shows("line 101", "#log")
        await dashboard.press("slash", *"LINE 7", "enter")
        assert "line 79" in dashboard.text("#log")
        log = dashboard.screen.query_one(LogView)
        places = []
        for _ in range(12):
            places.append(len(log._kept) - 1 - log._at)
            await dashboard.press("n")
        assert places == [79, 78, 77, 76, 75, 74, 73, 72, 71, 70, 7, 79], "from the oldest back to the newest"
        await dashboard.press("slash", *"no such text", "enter")
        assert log.has_focus
        await dashboard.press("escape")
        assert dashboard.screen.view == "overview"

    with made.held():
        watch(made, then)


def test_nothing_is_drawn_while_something_else_is_shown(made):
    async def then(dashboard):
        await dashboard.shows("20/1,000")
        await dashboard.press("s")
        made.train(5)
        made.write()
        await dashboard.pilot.pause(0.3)
        assert "20/1,000" in dashboard.text("#progress")
        await dashboard.press("escape")
        await dashboard.shows("25/1,000")

    with made.held():
        watch(made, then)


def test_pictures_come_with_where_they_are_the_newest_first(made):
    made.pictures()
    made.write()

    async def then(dashboard):
        await dashboard.press("p")
        await dashboard.shows("seed 42", "#pictures")
        for part in ("picture 1 of 1", "step 20", "512x512 px", "a lighthouse on a cliff", "▀▀▀▀"):
            assert part in dashboard.text("#pictures")

    watch(made, then, size=(100, 30))


def test_a_directory_that_goes_away_is_disconnected_and_comes_back(made):
    away = made.run.path.with_name("away")

    async def then(dashboard):
        made.run.path.rename(away)
        await dashboard.shows("disconnected", "#headline")
        assert "cannot be read" in dashboard.text("#progress")
        away.rename(made.run.path)
        await dashboard.shows("running", "#headline")

    with made.held():
        watch(made, then)


def test_a_resumed_run_goes_on_in_the_same_graphs(made):
    async def then(dashboard):
        await dashboard.shows("20/1,000")
        made.step = 10
        made.begin()
        made.emit("resumed", path=str(made.run.path / "checkpoints/checkpoint-10"), step=10)
        made.train(5)
        made.write()
        await dashboard.shows("15/1,000")
        assert (dashboard.screen.history.loss.first, dashboard.screen.history.loss.last) == (1, 15)

    with made.held():
        watch(made, then)


@pytest.fixture
def terminal(folder):
    opened = []

    def open_terminal(*arguments: str) -> Terminal:
        opened.append(Terminal(CLI, *arguments, TERM="screen-256color", COLORTERM=""))
        return opened[-1]

    yield open_terminal
    for each in opened:
        each.close()


def test_several_attach_to_a_real_run_one_stops_it_and_a_killed_supervisor_is_shown(started, terminal):
    run = started("long with bar")
    windows = [terminal("attach", str(run.path), *options) for options in ((), ("--read-only",))]
    for window in windows:
        window.read_until("6,000")
    windows[0].forget()
    windows[0].type("q")
    assert windows[0].wait() == 0
    assert f"simpletuner-tui attach {run.name}" in windows[0].seen, "how to come back is said"
    assert len(events(run, "step")) > 0
    os.kill(supervisor(run), signal.SIGKILL)
    windows[1].read_until("dead", 10)
    wait_for(lambda: "\a" in windows[1].read_for(0.2), 20)


def test_lines_are_what_comes_where_there_is_no_screen_to_draw_on(started):
    run = started("short")
    done = cli("attach", str(run.path))
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr


def test_of_a_dead_run_processes_are_asked_once_until_somebody_starts_it_again(made, monkeypatch):
    made.lose_supervisor()
    made.write()
    asked = []
    real = watcher.status
    monkeypatch.setattr(watcher, "status", lambda run: asked.append(run) or real(run))

    async def then(dashboard):
        await dashboard.shows("dead", "#headline")
        await dashboard.pilot.pause(0.3)
        assert len(asked) == 1
        with made.held():
            await dashboard.shows("running", "#headline")

    watch(made, then)
