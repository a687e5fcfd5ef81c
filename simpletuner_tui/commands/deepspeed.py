"""``deepspeed``: a DeepSpeed configuration edited in the way this terminal can, or set right and judged."""

import io
import os
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from launcher.config.setting import Problem
from launcher.deepspeed.installed import read_installed
from launcher.deepspeed.opening import Form, read_config
from launcher.deepspeed.run_facts import RunFacts, parse_run
from launcher.deepspeed.templates import find_template
from launcher.errors import ExitCode, InvalidInputError
from simpletuner_tui.builder.drafting import drafts_for
from simpletuner_tui.builder.editing import DEFAULT, Editing
from simpletuner_tui.builder.model import Builder
from simpletuner_tui.builder.told import template_lines
from simpletuner_tui.commands.deepspeed_check import check
from simpletuner_tui.commands.front_ends import FrontEnd, front_end_for
from simpletuner_tui.paths import typed_path


def deepspeed(arguments: Namespace) -> ExitCode:
    """Opens the builder, or with ``--check`` prints and tells only.

    Raises:
        InvalidInputError: a fact of the run that ``--run`` cannot mean; a file that holds no configuration; input that
            ends before the configuration is saved.
        RefusedToOverwriteError: nobody said that a file may be replaced.
    """
    run, faults = parse_run(arguments.run)
    if faults:
        raise InvalidInputError("\n".join(faults))
    if arguments.check:
        return check(arguments, run)
    if arguments.file == "-":
        raise InvalidInputError("- is for --check: answers come from stdin here; name a FILE")
    editing = _open(None if arguments.file is None else typed_path(arguments.file), arguments.template, run)
    editing = replace(editing, full=arguments.full)
    front_end = front_end_for(arguments)
    if front_end is FrontEnd.FULL_SCREEN:
        from simpletuner_tui.tui.build import build  # noqa: PLC0415 - Textual is loaded only to be drawn with

        return build(editing)
    return _talk(editing, prompts=front_end is FrontEnd.PROMPTS)


def _open(path: Path | None, template_name: str | None, run: RunFacts) -> Editing:
    if template_name is not None:
        template = find_template(template_name)
        builder, path = Builder(template.config, run, read_installed()), path or DEFAULT
        return Editing(builder, path, drafts_for(path), False, tuple(template_lines(template)))
    if path is None or not os.path.exists(path):  # noqa: PTH110 - Path's own raises where a name is too long
        path = path or DEFAULT
        return Editing(Builder({}, run, read_installed()), path, drafts_for(path))
    config, opened = read_config(path)
    remarks = [_remark(problem) for problem in opened.problems]
    home = opened.origin.path or path
    if opened.origin.form in (Form.ACCELERATE, Form.YAML):
        held = "cannot hold all of DeepSpeed's" if opened.origin.form is Form.ACCELERATE else "is YAML"
        home = DEFAULT
        remarks.append(f"{path.name} {held}: it is left as it is, and this is saved as a file of its own.")
    return Editing(Builder(config, run, read_installed()), home, drafts_for(path), remarks=tuple(remarks))


def _remark(problem: Problem) -> str:
    return f"{problem.field}: {problem.message}."


def _talk(editing: Editing, *, prompts: bool) -> ExitCode:
    from simpletuner_tui.frontends.build_lines import BuilderLines  # noqa: PLC0415 - the full screen needs none of it
    from simpletuner_tui.frontends.building import hold  # noqa: PLC0415

    lines = BuilderLines(sys.stdin or io.StringIO(), sys.stdout)  # a closed stdin is one that has ended
    if not lines.from_person:
        editing = replace(editing, drafts=None)
    if not prompts:
        hold(editing, lines)
        return ExitCode.OK
    from simpletuner_tui.frontends.build_prompts import PromptsAsk  # noqa: PLC0415 - prompt_toolkit is heavy

    hold(editing, PromptsAsk())
    return ExitCode.OK
