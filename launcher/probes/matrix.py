"""``python -m launcher.probes.matrix OUT.json``: DeepSpeed run for each optimizer, stage, offload and precision.

Each combination trains a model with a convolution and linear weights on the CPU for four optimizer steps, and is judged
by our rules. OUT.json holds one row for each, the same as a table lies beside it (OUT.md). What it takes are minutes,
and as many again where DeepSpeed's extensions are not compiled yet; libaio's headers are needed for NVMe. Exit 1 where
rules and runs do not agree.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import combinations, product
from pathlib import Path
from typing import Any

from launcher.config.setting import Level
from launcher.deepspeed.installed import Installed, read_installed
from launcher.deepspeed.names import settled_name
from launcher.deepspeed.rules import judge
from launcher.deepspeed.run_facts import RunFacts
from launcher.probes.cases import SWAP, Case, run_cases
from launcher.runs.directory import write_atomic

STAGES = (0, 1, 2, 3)
OFFLOADS = (("none", "none"), ("cpu", "none"), ("nvme", "none"), ("cpu", "cpu"), ("nvme", "nvme"))
"""Where optimizer and parameters go; parameters at stage 3 only."""
PRECISIONS = ("fp32", "bf16", "fp16")

RUN = RunFacts(
    device="cpu",
    module_levels=2,
    parameters=562_020,
    largest_parameter=540_672,
    learning_rate=0.01,
    max_train_steps=4,
)
"""The model ``wide`` on the CPU."""

ELSEWHERE: Mapping[str, str] = {
    "offload-needs-zero": "on a GPU CPUAdam refuses the parameters, which are there; here they are on the CPU",
    "fp16-needs-gpu": "a few CPUs have fp16",
    "adagrad-at-stage-0": "on a GPU it does not start; here it trains, and cannot be saved",
}
"""Rules that refuse what may run here: they are about other devices, or about saves."""


@dataclass(frozen=True, slots=True)
class Combination:
    """One place in the matrix."""

    optimizer: str
    stage: int
    offload: tuple[str, str]
    precision: str

    @property
    def name(self) -> str:
        """All of it in a line."""
        optimizer, param = self.offload
        return f"{self.optimizer}, stage {self.stage}, optimizer {optimizer}, parameters {param}, {self.precision}"

    @property
    def extensions(self) -> tuple[str, ...]:
        """Builders of what has to be compiled for it, where DeepSpeed takes it at all."""
        device = self.offload[0]
        own = {"Adagrad": "CPUAdagradBuilder", "Lion": "CPULionBuilder"}
        if device == "none" or self.precision == "fp16" or self.optimizer not in {"Adam", "AdamW", "Muon", *own}:
            return ()
        nvme = ("AsyncIOBuilder",) if self.swaps else ()
        return (own.get(self.optimizer, "CPUAdamBuilder"), *nvme)

    @property
    def swaps(self) -> bool:
        """Whether anything goes to NVMe."""
        return self.stage == 3 and "nvme" in self.offload

    @property
    def config(self) -> dict[str, Any]:
        """DeepSpeed's JSON for it, with what cannot be left out and nothing else."""
        device, param = self.offload
        zero: dict[str, Any] = {"stage": self.stage}
        nvme = {"nvme_path": SWAP}
        if device != "none":
            zero["offload_optimizer"] = {"device": device, **(nvme if device == "nvme" else {})}
        if param != "none":
            # In place of buffers of 1e8 elements, and of 1e9 that stay in memory.
            sized = {**nvme, "buffer_size": RUN.largest_parameter, "max_in_cpu": 0} if param == "nvme" else {}
            zero["offload_param"] = {"device": param, **sized}
        if param == "nvme":
            zero["stage3_prefetch_bucket_size"] = 0  # DeepSpeed stops where it fetches several ahead
        params: dict[str, Any] = {"lr": RUN.learning_rate}
        if device == "none" and self.optimizer in ("Adam", "AdamW"):
            params |= {"torch_adam": True, "fused": True}  # DeepSpeed's own there is an extension for CUDA
        elif device == "none" and self.optimizer == "Muon":
            params |= {"torch_adam": True}
        if self.optimizer == "Muon" and self.stage == 3:
            zero["reduce_scatter"] = False
        return {
            "train_micro_batch_size_per_gpu": 1,
            "zero_optimization": zero,
            "optimizer": {"type": self.optimizer, "params": params},
            **({self.precision: {"enabled": True}} if self.precision != "fp32" else {}),
        }


@dataclass(frozen=True, slots=True)
class Row:
    """What became of a combination, and what the rules say of it."""

    optimizer: str
    stage: int
    offload_optimizer: str
    offload_param: str
    precision: str
    outcome: str
    """``ran``, ``failed``, ``did nothing`` or ``not finite``."""
    phase: str
    """Where it failed."""
    error: str
    """The first line of why."""
    files: int
    """Left in the NVMe folder by four steps."""
    refused: tuple[str, ...]
    """Rules with an error."""
    warned: tuple[str, ...]
    """Rules with a warning."""

    @property
    def disagreement(self) -> str:
        """What the rules have wrong; empty where they are right."""
        if not self.refused:
            return "" if self.outcome == "ran" else f"allowed, but {self.outcome}: {self.error}"
        unexpected = set(self.refused) - ELSEWHERE.keys()
        return f"refused by {', '.join(self.refused)}, but ran" if self.outcome == "ran" and unexpected else ""


def every_combination(installed: Installed) -> list[Combination]:
    """The whole matrix, of every optimizer that the installed DeepSpeed knows."""
    names = sorted(settled_name(name, installed)[0] for name in installed.optimizers)
    return [
        Combination(optimizer, stage, offload, precision)
        for optimizer, stage, offload, precision in product(names, STAGES, OFFLOADS, PRECISIONS)
        if stage == 3 or offload[1] == "none"
    ]


def covering(whole: Sequence[Combination]) -> list[Combination]:
    """Some of them, in which every pair of values of two axes occurs that occurs in the whole; always the same ones."""
    missing = {pair for each in whole for pair in _pairs(each)}
    chosen = []
    while missing:
        best = max(whole, key=lambda each: len(missing.intersection(_pairs(each))))  # the first of the best
        chosen.append(best)
        missing.difference_update(_pairs(best))
    return chosen


def _pairs(combination: Combination) -> Iterator[tuple[Any, ...]]:
    return combinations(asdict(combination).items(), 2)


def try_out(chosen: Iterable[Combination], installed: Installed) -> list[Row]:
    """Runs combinations and judges them."""
    chosen = list(chosen)
    told = run_cases(Case(each.name, each.config, model="wide", builders=each.extensions) for each in chosen)
    return [_row(each, told[each.name], *judged(each, installed)) for each in chosen]


def judged(combination: Combination, installed: Installed) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Rules that refuse a combination, and rules that warn of it."""
    problems = judge(combination.config, RUN, installed)
    refused, warned = (
        tuple(sorted({problem.rule for problem in problems if problem.level is level}))
        for level in (Level.ERROR, Level.WARNING)
    )
    return refused, warned


def _row(each: Combination, seen: Mapping[str, Any], refused: tuple[str, ...], warned: tuple[str, ...]) -> Row:
    error = (str(seen.get("error", "")).splitlines() or [""])[0]
    if "error" in seen:
        outcome = "failed"
    elif not seen["finite"]:
        outcome = "not finite"
    else:
        outcome = "ran" if seen["moved"] else "did nothing"
    return Row(
        each.optimizer,
        each.stage,
        *each.offload,
        each.precision,
        outcome,
        str(seen.get("phase", "")),
        error,
        int(seen.get("files", 0)),
        refused,
        warned,
    )


def read_rows(path: Path) -> tuple[dict[str, str], list[Row]]:
    """Versions and rows of a file that :func:`write_rows` made."""
    content = json.loads(path.read_bytes())
    rows = [Row(**{**row, **{key: tuple(row[key]) for key in ("refused", "warned")}}) for row in content.pop("rows")]
    return content, rows


def write_rows(path: Path, versions: Mapping[str, str], rows: Sequence[Row]) -> None:
    """JSON with a line for each row, and the same as a table beside it."""
    lines = ",\n".join("    " + json.dumps(asdict(row), ensure_ascii=False) for row in rows)
    head = "".join(f"  {json.dumps(key)}: {json.dumps(value)},\n" for key, value in versions.items())
    write_atomic(path, f'{{\n{head}  "rows": [\n{lines}\n  ]\n}}\n'.encode())
    write_atomic(path.with_suffix(".md"), as_table(versions, rows).encode())


def as_table(versions: Mapping[str, str], rows: Sequence[Row]) -> str:
    """The rows as Markdown: a line for each optimizer and offload, a column for each stage and precision."""
    cells = {(row.optimizer, row.offload_optimizer, row.offload_param, row.stage, row.precision): row for row in rows}
    reasons = sorted({_why(row) for row in rows if row.outcome != "ran"})
    numbers = {reason: f"{number}" for number, reason in enumerate(reasons, 1)}
    columns = [(stage, precision) for stage in STAGES for precision in PRECISIONS]
    text = [
        "# DeepSpeed, run for every optimizer, stage, offload and precision",
        "",
        f"DeepSpeed {versions['deepspeed']}, torch {versions['torch']}, on a CPU; made by `python -m "
        "launcher.probes.matrix docs/deepspeed-matrix.json`. A model with a convolution and linear weights, four "
        "optimizer steps. **ran**: every step, and weights moved; a number: why not, below; †: our rules refuse it.",
        "",
        "| optimizer | optimizer on | parameters on | "
        + " | ".join(f"{stage} {precision}" for stage, precision in columns)
        + " |",
        "| --- | --- | --- |" + " --- |" * len(columns),
    ]
    for optimizer, offload in dict.fromkeys(
        (row.optimizer, (row.offload_optimizer, row.offload_param)) for row in rows
    ):
        found = [cells.get((optimizer, *offload, stage, precision)) for stage, precision in columns]
        text.append(f"| {optimizer} | {' | '.join(offload)} | {' | '.join(_cell(row, numbers) for row in found)} |")
    text += ["", *(f"{number}. {reason}" for reason, number in numbers.items()), ""]
    text += ["Refused though it may run here:", "", *(f"- `{rule}`: {why}" for rule, why in ELSEWHERE.items()), ""]
    return "\n".join(text)


def _why(row: Row) -> str:
    return f"{row.outcome} in {row.phase}: `{row.error}`" if row.error else row.outcome


def _cell(row: Row | None, numbers: Mapping[str, str]) -> str:
    if row is None:
        return ""
    return ("ran" if row.outcome == "ran" else numbers[_why(row)]) + ("†" if row.refused else "")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m launcher.probes.matrix", description=__doc__)
    parser.add_argument("out", type=Path, help="the JSON file to write")
    parser.add_argument("--covering", action="store_true", help="only as many as hold every pair of values")
    arguments = parser.parse_args()
    installed = read_installed()
    whole = every_combination(installed)
    chosen = covering(whole) if arguments.covering else whole
    rows = try_out(chosen, installed)
    write_rows(arguments.out, {"deepspeed": str(installed.version), "torch": version("torch"), "device": "cpu"}, rows)
    wrong = [(each.name, row.disagreement) for each, row in zip(chosen, rows, strict=True) if row.disagreement]
    for name, disagreement in wrong:
        sys.stderr.write(f"{name}: {disagreement}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
