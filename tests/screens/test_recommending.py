"""A recommendation in the wizard, by its keys: chosen for a card, shown, taken, taken back; presets before a walk."""

import pytest
from textual.widgets import OptionList

from harness.screens import RECOMMENDABLE, WITH_H200
from harness.wizard import Wizard, in_loop
from simpletuner_tui.documents import accelerate_document
from simpletuner_tui.presets import presets
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.tui.screens.dialogs import ChooseScreen, ConfirmScreen
from simpletuner_tui.tui.screens.texts import TextScreen
from simpletuner_tui.tui.screens.wizard import WizardScreen

pytestmark = pytest.mark.usefixtures("folder")
SIXTEEN = ("f7", *4 * ["down"], "enter")
"""Its row comes after this machine's and those of 8, 10 and 12 GB."""
BATCH, STAGE = "training.train_batch_size", "accelerate.zero_stage"


@in_loop
async def test_it_is_shown_before_it_is_taken_and_can_be_taken_back(folder):
    given = {**RECOMMENDABLE, STAGE: 3}
    async with Wizard(REGISTRY, given) as wizard:
        await wizard.press(*SIXTEEN)
        assert isinstance(wizard.screen, ConfirmScreen)
        told = str(wizard.screen.query_one(".details Static").content)
        assert "Of 15.4 GiB of VRAM, 90.0 GiB of host RAM and 200.0 GiB of disk:" in told
        assert f"{STAGE}" in told and "3 → 2" in told
        assert told.index("What it changes:") < told.index("Why nothing faster:")
        assert wizard.session.answers == given
        await wizard.press("y")
        assert isinstance(wizard.screen, WizardScreen)
        assert (wizard.session.answers[BATCH], wizard.session.answers[STAGE]) == (8, 2)
        assert "Changed: " in wizard.said[-1]
        # What is answered afterwards stays when the rest is taken back.
        wizard.session.take({"training.seed": 7})
        await wizard.press("ctrl+p", *"take back", "enter")
        assert wizard.session.answers == {**given, "training.seed": 7}
        assert wizard.said[-1] == "The recommendation was taken back."
        assert not wizard.screen.check_action("take_back", ())


@in_loop
async def test_it_may_be_left_at_every_step(folder):
    async with Wizard(REGISTRY, RECOMMENDABLE) as wizard:
        await wizard.press("f7")
        assert isinstance(wizard.screen, ChooseScreen)
        first = wizard.screen.query_one(OptionList).get_option_at_index(0)
        assert "RTX 4090" in str(first.prompt) and "22.5 GiB are free now" in str(first.prompt)
        await wizard.press("escape")
        await wizard.press(*SIXTEEN, "n")
        assert isinstance(wizard.screen, WizardScreen)
        assert wizard.session.answers == RECOMMENDABLE
        assert not wizard.session.on_trial


@in_loop
async def test_where_there_is_nothing_to_recommend_the_reason_is_told(folder):
    async with Wizard(
        REGISTRY, {**RECOMMENDABLE, "accelerate.use_deepspeed": False, "accelerate.use_cpu": True}
    ) as wizard:
        await wizard.press(*SIXTEEN)
        assert wizard.said[-1].startswith("Nothing to recommend training on the CPU was chosen")
    async with Wizard(REGISTRY, {**RECOMMENDABLE, "training.resolution": 4096}) as wizard:
        await wizard.press("f7", "down", "enter")
        assert isinstance(wizard.screen, TextScreen)
        await wizard.press("enter")
        assert not wizard.session.on_trial
    accelerates = accelerate_document(folder / "a.yaml")
    async with Wizard(accelerates.registry, {"accelerate.use_deepspeed": True}, document=accelerates) as wizard:
        assert not wizard.screen.check_action("recommend", ())


@in_loop
async def test_a_walk_starts_from_a_preset_or_goes_back_to_what_else_there_is(folder):
    async with Wizard(REGISTRY, presets=True) as wizard:
        await wizard.press("down", "enter")
        assert len(wizard.screen.query_one(OptionList).options) == len(presets()) + 1
        await wizard.press("escape")
        assert "Start from a preset" in str(wizard.screen.query_one(OptionList).get_option_at_index(1).prompt)
        await wizard.press("down", "enter", *6 * ["down"], "enter")
        nvme = presets()[6]
        assert wizard.session.answers == nvme.answers
        assert [remark in " ".join(wizard.said) for remark in nvme.remarks] == [True, True]
        question = next(each for each in wizard.session.resolved.asked if each.id == STAGE)
        assert wizard.session.origin(question) == "the answer in preset 32GB-RAM"


@in_loop
async def test_this_machines_card_may_be_one_of_the_list(folder):
    async with Wizard(REGISTRY, RECOMMENDABLE, machine=lambda: WITH_H200) as wizard:
        await wizard.press("f7")
        offered = wizard.screen.query_one(OptionList).options
        assert ("NVIDIA H200" in str(offered[0].prompt), "141 GB" in str(offered[-1].prompt)) == (True, True)
        await wizard.press("enter")
        assert isinstance(wizard.screen, ConfirmScreen)
