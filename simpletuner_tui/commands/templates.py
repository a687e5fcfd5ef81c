"""``templates``: saved DeepSpeed configurations to begin from, and those that come with the program."""

import json
import shlex
import sys
from argparse import Namespace
from dataclasses import replace
from typing import Any

from launcher.deepspeed.examples import EXAMPLES
from launcher.deepspeed.installed import read_installed
from launcher.deepspeed.opening import read_config
from launcher.deepspeed.run_facts import RunFacts
from launcher.deepspeed.template import Template
from launcher.deepspeed.templates import find_template, load_template, remove_template, save_template, templates
from launcher.errors import ExitCode, RefusedToOverwriteError
from simpletuner_tui.builder.model import Builder
from simpletuner_tui.builder.told import template_lines, using_lines
from simpletuner_tui.commands.deepspeed_check import print_json
from simpletuner_tui.messages import tell
from simpletuner_tui.paths import typed_path
from simpletuner_tui.saving import saving


def list_templates(arguments: Namespace) -> ExitCode:
    """Every template with what it is."""
    found = templates()
    if arguments.json:
        print_json([_told(template) for template in found])
        return ExitCode.OK
    for template in found:
        _print("\n".join([template.name, *(f"  {line}" for line in template_lines(template))]))
    return ExitCode.OK


def _told(template: Template) -> dict[str, Any]:
    return {"built_in": template in EXAMPLES, **json.loads(template.to_bytes())}


def show(arguments: Namespace) -> ExitCode:
    """One template's JSON on stdout, the rest on stderr.

    Raises:
        InvalidInputError: there is none of that name.
    """
    template = find_template(arguments.name)
    for line in template_lines(template):
        tell(line)
    print_json(template.config)
    return ExitCode.OK


def diff(arguments: Namespace) -> ExitCode:
    """What a template would change in a file's configuration, a line each.

    Raises:
        InvalidInputError: there is none of that name, or the file holds no configuration.
    """
    config, _ = read_config(typed_path(arguments.file))
    lines = using_lines(Builder(config, RunFacts(), read_installed()), find_template(arguments.name))
    for line in lines:
        _print(line)
    if not lines:
        tell(f"{arguments.file} says what {arguments.name} says")
    return ExitCode.OK


def save(arguments: Namespace) -> ExitCode:
    """Keeps a file's configuration as a template.

    Raises:
        InvalidInputError: the file holds no configuration, or the name cannot be.
        RefusedToOverwriteError: there is one of that name.
    """
    config, _ = read_config(typed_path(arguments.file))
    return _keep(Template(arguments.name, arguments.description, config), force=arguments.force)


def import_(arguments: Namespace) -> ExitCode:
    """Keeps a template that came as a file.

    Raises:
        InvalidInputError: it is none, or its name cannot be.
        RefusedToOverwriteError: there is one of that name.
    """
    template = load_template(typed_path(arguments.file))
    return _keep(replace(template, name=arguments.name or template.name), force=arguments.force)


def _keep(template: Template, *, force: bool) -> ExitCode:
    try:
        path = save_template(template, replace=force)
    except RefusedToOverwriteError as error:
        raise RefusedToOverwriteError(f"{error}; --force replaces it") from None
    tell(f"kept as {path}: simpletuner-tui deepspeed --template {shlex.quote(template.name)} begins from it")
    return ExitCode.OK


def export(arguments: Namespace) -> ExitCode:
    """Writes a template to a file.

    Raises:
        InvalidInputError: there is none of that name, or no file can be there.
        RefusedToOverwriteError: another file is there.
    """
    planned = saving(typed_path(arguments.out), find_template(arguments.name).to_bytes())
    if planned.before is not None and not planned.changes_nothing and not arguments.force:
        raise RefusedToOverwriteError(
            f"{planned.path} is there already; --force replaces it, and keeps it as {planned.backup.name}"
        )
    planned.write()
    tell(f"written to {planned.path}: simpletuner-tui templates import takes it")
    return ExitCode.OK


def remove(arguments: Namespace) -> ExitCode:
    """Takes a saved template away.

    Raises:
        InvalidInputError: there is none of that name, or it comes with the program.
    """
    tell(f"removed {remove_template(arguments.name)}")
    return ExitCode.OK


def _print(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))  # noqa: T201
