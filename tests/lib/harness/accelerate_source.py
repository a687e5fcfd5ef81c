"""What accelerate's own source asks, read without running it: for noticing that another accelerate asks otherwise.

``python -m harness.accelerate_source > …_questions.json`` writes the file that a test compares with.
"""

import ast
import importlib.util
import json
import sys
from importlib.metadata import version
from pathlib import Path

FILES = ("cluster.py", "sagemaker.py", "config.py")
SHOWN = ("_ask_field", "_ask_options", "print")
CONSTANTS = ("DYNAMO_BACKENDS",)


def asked() -> dict:
    """Every prompt, menu, note and refusal in the order of the source, as its arguments are written there."""
    folder = Path(importlib.util.find_spec("accelerate").submodule_search_locations[0])
    told: dict = {"accelerate": version("accelerate")}
    for name in FILES:
        told[name] = _of(ast.parse((folder / "commands/config" / name).read_text(encoding="utf-8")))
    rows = {}
    for path in (folder / "utils/constants.py", folder / "commands/config/config_utils.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                rows[node.targets[0].id] = node.value
    used = {name for file in FILES for question in told[file] for name in rows if name in question}
    told["rows"] = {name: ast.unparse(rows[name]) for name in sorted(used.union(CONSTANTS))}
    return told


def _of(tree: ast.Module) -> list[str]:
    nodes = sorted((node for node in ast.walk(tree) if _shows(node)), key=lambda node: (node.lineno, node.col_offset))
    return [
        f"{type(node).__name__.lower()} {ast.unparse(node.test)}"
        if isinstance(node, ast.If | ast.Assert)
        else ast.unparse(node)
        for node in nodes
    ]


def _shows(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in SHOWN
    # What decides whether something is asked, and what refuses.
    return isinstance(node, ast.If | ast.Raise | ast.Assert)


def changed(before: dict, now: dict) -> list[str]:
    """What was asked before and is not now, and the other way round."""
    lines = []
    for part in (*FILES, "rows"):
        old, new = before[part], now[part]
        if isinstance(old, dict):
            old, new = list(old.items()), list(new.items())
        lines += [f"{part}: no longer {each}" for each in old if each not in new]
        lines += [f"{part}: now {each}" for each in new if each not in old]
    return lines


if __name__ == "__main__":
    json.dump(asked(), sys.stdout, indent=1)
    sys.stdout.write("\n")
