"""The installed accelerate's questionnaire, answered line by line: a process of its own, since it imports torch.

Reads ``{"walks": [{"typed": [...], "probes": [...]}]}`` on stdin; a menu is answered by its row's label, everything
else as it is typed. Writes for each walk what was shown and the files that accelerate writes, and the lines of its
questionnaire that no walk ran.
"""

import builtins
import contextlib
import dis
import json
import sys
import tempfile
from pathlib import Path
from types import CodeType, SimpleNamespace

from accelerate.commands.config import cluster, config, config_utils, sagemaker

SOURCES = {module.__file__ for module in (cluster, sagemaker)}
QUESTIONNAIRES = (
    cluster.get_cluster_input,
    sagemaker.get_sagemaker_input,
    sagemaker._create_iam_role_for_sagemaker,
)
STOCK_MENU = config_utils.BulletMenu
KINDS = {int: "int", float: "float", config_utils._convert_yes_no_to_bool: "yes-no"}


class NothingTypedError(BaseException):
    """accelerate asks on where the walk has ended; no handler of its own may catch this."""


class Walk:
    """One walk: what is still to be typed, and what was shown."""

    def __init__(self, typed: list[str]) -> None:
        self.typed, self.shown = list(typed), []

    def take(self) -> str:
        if not self.typed:
            raise NothingTypedError
        return self.typed.pop(0)

    def field(self, text, convert_value=None, default=None, error_message=None):
        self.shown.append({"text": text, "kind": KINDS.get(convert_value, "text"), "default": default})
        builtins.input = lambda _: self.take()
        return config_utils.ask_field(text, convert_value, default, error_message)

    def menu(self, text, options):
        return SimpleNamespace(
            run=lambda default_choice: self.choose(text, [str(row) for row in options], default_choice)
        )

    def choose(self, text, labels, default):
        # The stock menu takes SageMaker's default, the text "default", for a row number and fails.
        row = default if isinstance(default, int) else labels.index(default)
        self.shown.append({"text": text, "kind": "menu", "labels": labels, "default": labels[row]})
        label = self.take()
        return row if label == "" else labels.index(label)

    def say(self, text):
        self.shown.append({"note": text})


class RoleExistsError(Exception):
    """As boto3 raises it."""


def fake_boto3(role_exists: bool):
    def create_role(**_):
        if role_exists:
            raise RoleExistsError

    client = SimpleNamespace(
        create_role=create_role,
        put_role_policy=lambda **_: None,
        exceptions=SimpleNamespace(EntityAlreadyExistsException=RoleExistsError),
    )
    return SimpleNamespace(client=lambda _: client)


def run(typed: list[str], probes: list[str], folder: Path) -> dict:
    walk = Walk(typed)
    config_utils.BulletMenu = walk.menu
    cluster._ask_field = sagemaker._ask_field = walk.field
    cluster.print = sagemaker.print = walk.say
    for name in [name for name in vars(cluster) if name.startswith("is_") and name.endswith("_available")]:
        setattr(cluster, name, lambda name=name: name.removeprefix("is_").removesuffix("_available") in probes)
    vars(sagemaker).pop("boto3", None)
    if "boto3" in probes:
        sagemaker.boto3 = fake_boto3("sagemaker_role" in probes)
    told = {"shown": walk.shown}
    try:
        answers = config.get_user_input()
        answers.to_yaml_file(folder / "x.yaml")
        answers.to_json_file(folder / "x.json")
        told |= {name: (folder / name).read_text(encoding="utf-8") for name in ("x.yaml", "x.json")}
    except NothingTypedError:
        told["asks on"] = True
    except Exception as error:
        told["stop"] = [type(error).__name__, str(error)]
    return {**told, "left": walk.typed}


def stock_menu_fails() -> str:
    """What the stock command says where it asks for SageMaker's dynamo mode."""
    config_utils.BulletMenu = STOCK_MENU
    try:
        with contextlib.redirect_stdout(sys.stderr):
            config_utils._ask_options("Which mode do you want to use?", ["default"], default="default")
    except TypeError as error:
        return str(error)
    return ""


def lines_of(code: CodeType) -> set[int]:
    lines = {line for _, line in dis.findlinestarts(code) if line} - {code.co_firstlineno}
    return lines.union(*(lines_of(inner) for inner in code.co_consts if isinstance(inner, CodeType)))


def main() -> None:
    ran: dict[str, set[int]] = {source: set() for source in SOURCES}

    def trace(frame, event, _):
        lines = ran.get(frame.f_code.co_filename)
        if lines is None:
            return None
        lines.add(frame.f_lineno)
        return trace

    job = json.load(sys.stdin)
    config_utils.ask_field = config_utils._ask_field
    with tempfile.TemporaryDirectory() as name:
        if job.get("trace"):
            sys.settrace(trace)
        walks = [run(walk["typed"], walk["probes"], Path(name)) for walk in job["walks"]]
        sys.settrace(None)
    never_ran = {
        f"{Path(function.__code__.co_filename).name}:{line}": Path(function.__code__.co_filename)
        .read_text()
        .splitlines()[line - 1]
        .strip()
        for function in QUESTIONNAIRES
        for line in sorted(lines_of(function.__code__) - ran[function.__code__.co_filename])
    }
    json.dump({"walks": walks, "never ran": never_ran, "stock menu": stock_menu_fails()}, sys.stdout)


if __name__ == "__main__":
    main()
