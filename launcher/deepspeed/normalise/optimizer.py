"""The optimizer: a name DeepSpeed has, and only the parameters its class takes."""

from launcher.deepspeed.fields.optimizer import parameters_of
from launcher.deepspeed.installed import Installed
from launcher.deepspeed.names import FALLBACK, settled_name
from launcher.deepspeed.normalise.sheet import Sheet
from launcher.deepspeed.normalise.values import number_in
from launcher.deepspeed.run_facts import RunFacts
from launcher.deepspeed.view import ABSENT

_TYPE = "optimizer.type"
_PARAMS = "optimizer.params"


def settle_optimizer(sheet: Sheet, run: RunFacts, installed: Installed) -> None:
    """Name, parameters and learning rate."""
    _settle_name(sheet, installed)
    if not isinstance(sheet.raw("optimizer"), dict):
        return
    _settle_clipping(sheet)
    _drop_parameters(sheet)
    if sheet.missing(f"{_PARAMS}.lr"):
        sheet.set(f"{_PARAMS}.lr", run.learning_rate, "the run's learning_rate")


def _settle_name(sheet: Sheet, installed: Installed) -> None:
    name = sheet.raw(_TYPE)
    if name is ABSENT and sheet.raw("optimizer") is ABSENT:
        sheet.set(_TYPE, FALLBACK, "no optimizer: DeepSpeed does not train without one")
    elif name is ABSENT or name is None:
        sheet.set(_TYPE, FALLBACK, "the optimizer has no name")
    elif isinstance(name, str) and name.strip():
        settled, reason = settled_name(name, installed)
        if settled != name:
            sheet.set(_TYPE, settled, reason)


def _settle_clipping(sheet: Sheet) -> None:
    path = f"{_PARAMS}.max_grad_norm"
    norm = sheet.raw(path)
    if norm is ABSENT:
        return
    sheet.remove(path, "DeepSpeed refuses it here; gradient_clipping clips")
    if isinstance(norm, str) and (number := number_in(norm)) is not None:
        norm = number
    if sheet.missing("gradient_clipping"):
        sheet.set("gradient_clipping", norm, f"was {path}")


def _drop_parameters(sheet: Sheet) -> None:
    params = sheet.raw(_PARAMS)
    if not isinstance(params, dict):
        return
    view = sheet.view
    torch_adam = params.get("torch_adam") is True
    known = parameters_of(view.optimizer, offloaded=view.offloads, torch_adam=torch_adam)
    if known is None:
        return
    place = "torch's own" if torch_adam else "on the CPU" if view.offloads else "on the GPU"
    for key in [key for key in params if key not in known]:
        sheet.drop(_PARAMS, key, f"{sheet.raw(_TYPE)} ({place}) does not take it")
