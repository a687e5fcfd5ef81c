"""The DeepSpeed builder's screen in every state worth seeing, drawn as ``screens.draw`` draws the wizard's."""

import asyncio
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from harness.screens import LARGE, MACHINE, SMALL, TINY, file_name, picture, settle, short_waits  # noqa: F401 - each table has it
from launcher.deepspeed.installed import TESTED
from launcher.deepspeed.run_facts import RunFacts
from launcher.deepspeed.writing import as_json
from simpletuner_tui.builder.drafting import drafts_for
from simpletuner_tui.builder.editing import Editing
from simpletuner_tui.builder.model import Builder
from simpletuner_tui.tui.build import BuilderApp
from simpletuner_tui.tui.glyphs import ASCII, UNICODE, Glyphs

HOME = Path(tempfile.gettempdir()) / "simpletuner-tui-builder"
"""A folder of a fixed name, because screens show it."""

CONFIG = {
    "zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}, "reduce_bucket_size": 50_000_000},
    "bf16": {"enabled": True},
    "gradient_clipping": 1.0,
}
WRONG = {
    "zero_optimization": {
        "stage": "zero2",
        "offload_optimizer": {"device": "nvme"},
        "offload_param": {"device": "cpu"},
        "bucket": 1,
    },
    "optimizer": "fusedadam",
    "scheduler": {"type": "WarmupDecayLR", "params": {"warmup_num_steps": 0}},
    "bf16": {"enabled": True},
    "fp16": {"enabled": True},
    "house_rules": {"project": "cats"},
}
"""A file of somebody's, with something of everything to be said about it."""


@dataclass(frozen=True)
class BuilderScenario:
    """A state of the builder: what is edited, and the keys that lead there."""

    name: str
    keys: tuple[str, ...] = ()
    config: Mapping[str, object] = field(default_factory=lambda: CONFIG)
    run: RunFacts = field(default_factory=RunFacts)
    sizes: tuple[tuple[int, int], ...] = (SMALL, LARGE)
    glyphs: Glyphs = UNICODE
    theme: str = "textual-dark"
    file: bool = False
    """Whether deepspeed.json is there already, with something else in it."""
    draft: bool = False
    """Whether unsaved changes were kept the last time."""


def search(*words: str) -> tuple[str, ...]:
    """The keys that search for words and go to the first field found."""
    return ("/", *(key for word in words for key in (*word, "space")), "enter")


SCENARIOS = (
    BuilderScenario("builder"),
    BuilderScenario("builder-empty", config={}, sizes=(SMALL,)),
    BuilderScenario("builder-wrong", config=WRONG),
    BuilderScenario("builder-problem", ("f6", "f6", "down", "enter"), config=WRONG, sizes=(SMALL,)),
    BuilderScenario("builder-edited", (*search("stage"), "enter", "3", "enter", "f5")),
    BuilderScenario("builder-cost", (*search("stage"), "enter", "3", "enter", "f5", "f5")),
    BuilderScenario("builder-choice", (*search("optimizer.type"), "enter", *["down"] * 8)),
    BuilderScenario("builder-fault", (*search("reduce_bucket_size"), "enter", "x"), sizes=(SMALL,)),
    BuilderScenario("builder-no-effect", search("sub_group_size"), sizes=(SMALL,)),
    BuilderScenario("builder-all", ("f4",)),
    BuilderScenario("builder-search", ("/", *"nvme"), sizes=(SMALL,)),
    BuilderScenario("builder-other-key", (*search("house"), "enter", "down"), config=WRONG, sizes=(SMALL,)),
    BuilderScenario("builder-help", ("f1",), sizes=(SMALL,)),
    BuilderScenario("builder-save", ("f7",), sizes=(SMALL,)),
    BuilderScenario("builder-diff", ("f7", "enter"), file=True),
    BuilderScenario("builder-save-wrong", ("f7",), config=WRONG, sizes=(SMALL,)),
    BuilderScenario("builder-leave", (*search("stage"), "delete", "f2"), sizes=(SMALL,)),
    BuilderScenario("builder-templates", ("f8",)),
    BuilderScenario("builder-keep-template", ("f8", "f7", *"small", "enter"), sizes=(SMALL,)),
    BuilderScenario("builder-palette", ("ctrl+p", *"bucket"), sizes=(SMALL,)),
    BuilderScenario("builder-draft", draft=True, sizes=(SMALL,)),
    BuilderScenario("builder-ascii", glyphs=ASCII, sizes=(SMALL,)),
    BuilderScenario("builder-ansi", theme="ansi-dark", sizes=(SMALL,)),
    BuilderScenario("builder-too-small", sizes=(TINY,)),
)


def draw(scenario: BuilderScenario, size: tuple[int, int]) -> str:
    """The SVG of a case."""
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    if scenario.file:
        (HOME / "deepspeed.json").write_text(as_json({**CONFIG, "gradient_clipping": 0.5}))
    before = Path.cwd()
    try:
        os.chdir(HOME)
        environment = {"XDG_STATE_HOME": str(HOME / "state"), "XDG_CACHE_HOME": str(HOME / "cache"), "TZ": "UTC"}
        with patch.dict(os.environ, environment), short_waits():
            time.tzset()
            for variable in ("NO_COLOR", "CUDA_VISIBLE_DEVICES"):
                os.environ.pop(variable, None)
            return asyncio.run(_draw(scenario, size))
    finally:
        os.chdir(before)
        shutil.rmtree(HOME, ignore_errors=True)


async def _draw(scenario: BuilderScenario, size: tuple[int, int]) -> str:
    app = make_app(scenario)
    app.theme = scenario.theme
    async with app.run_test(size=size) as pilot:
        await settle(app, pilot)
        for key in scenario.keys:
            await pilot.press(key)
            await settle(app, pilot)
        return await picture(app, pilot)


def make_app(scenario: BuilderScenario) -> BuilderApp:
    """The application as a scenario wants it, judged by the DeepSpeed that is tested, whichever is installed."""
    builder = Builder(scenario.config, scenario.run, TESTED)
    drafts = drafts_for(Path("deepspeed.json"))
    if scenario.draft:
        drafts.path.parent.mkdir(parents=True)
        content = {"answers": {"zero_optimization": {"stage": 3}}, "place": "zero_optimization.stage", "saved": 1.8e9}
        drafts.path.write_text(json.dumps(content))
    editing = Editing(builder, Path("deepspeed.json"), drafts)
    return BuilderApp(editing, scenario.glyphs, machine=lambda: MACHINE)
