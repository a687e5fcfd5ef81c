"""``presets``: the settings that come with the program, each for a budget."""

from argparse import Namespace

from launcher.errors import ExitCode
from simpletuner_tui.commands.deepspeed_check import print_json
from simpletuner_tui.messages import tell
from simpletuner_tui.presets import Preset, find_preset, presets


def list_presets(arguments: Namespace) -> ExitCode:
    """Every preset with what it is for and takes."""
    if arguments.json:
        print_json([preset.to_json() for preset in presets()])
        return ExitCode.OK
    for preset in presets():
        print("\n".join([preset.name, *(f"  {line}" for line in _about(preset))]))  # noqa: T201
    return ExitCode.OK


def show(arguments: Namespace) -> ExitCode:
    """One preset's file of answers on stdout, the rest on stderr.

    Raises:
        InvalidInputError: there is none of that name.
    """
    preset = find_preset(arguments.name)
    for line in _about(preset):
        tell(line)
    print(preset.path.read_text(), end="")  # noqa: T201
    return ExitCode.OK


def _about(preset: Preset) -> tuple[str, ...]:
    return (preset.description, str(preset.figures), *preset.remarks)
