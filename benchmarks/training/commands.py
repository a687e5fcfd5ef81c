"""The command lines of everything that is measured, in a folder that holds model, pictures, caches and batches."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.answers import Answers
from benchmarks.making import make_sdxl
from benchmarks.measuring import ROOT, Command, environment_of, rank_environments
from benchmarks.replaying import replayed
from benchmarks.training.rows import Setting, answers_of
from launcher.machine.gpus import Gpu
from launcher.runs.directory import RunDirectory

COPIES = 8
"""Of each of the eight square pictures: the largest step takes 64."""


@dataclass(frozen=True, slots=True)
class Place:
    """A folder, and how many steps are trained in it."""

    out: Path
    steps: int
    tiny: bool
    gpus: Sequence[Gpu]

    def make(self) -> None:
        """Model and pictures, unless they are there."""
        if self.tiny:
            subprocess.run([sys.executable, "-m", "launcher.train.demo", self.out], check=True, cwd=ROOT)
        else:
            make_sdxl(self.out, COPIES)
        (self.out / "runs").mkdir(exist_ok=True)

    def answers(self, setting: Setting, answers: Answers) -> Answers:
        """All answers of a run."""
        return {
            **answers_of(setting, answers, self.steps),
            "training.pretrained_model_name_or_path": str(self.model),
            "training.instance_data_dir": str(self.out / ("pictures" if self.tiny else "square")),
            "training.cache_dir": str(self.out / "cache"),
        }

    def preparing(self, wanted: Mapping[Setting, Answers]) -> Command:
        """What all runs share, for all answers of one run of each setting."""
        file = self.out / "wanted.json"
        file.write_text(json.dumps({str(self.batches(setting)): answers for setting, answers in wanted.items()}))
        return self._module(["benchmarks.training.preparing", "--wanted", str(file)], "all", ranks=1)

    def ours(self, name: str, setting: Setting, answers: Answers) -> Command:
        """The launcher's run, by the command that a person types; an earlier one of this name is removed."""
        return replayed(self.answers(setting, answers), self.run(name), self.gpus[: setting.gpus])

    def bare(self, name: str, setting: Setting) -> Command:
        """The engine of a run that was measured here, started as the run was, without its loop."""
        run, events = self.run(name), self.out / "runs" / f"{_slug(name)}.bare.jsonl"
        plan, module = run.plan(), "benchmarks.training.bare"
        told = ["--batches", str(self.batches(setting)), "--events", str(events)]
        argv = [*(module if part == "launcher.train" else part for part in plan["argv"]), *told]
        environment = environment_of(self.gpus[: setting.gpus]) | plan["environment"]
        return Command(argv, [environment], events, events.with_suffix(".log"), module, str(events), folder=run.path)

    def loop(self, setting: Setting, command: Sequence[str]) -> Command:
        """A plain loop around another engine."""
        given = ["--model", str(self.model), "--batches", str(self.batches(setting))]
        accumulation = ["--accumulation", str(setting.accumulation)]
        return self._module([*command, *given, *accumulation], setting.name, setting.gpus)

    @property
    def model(self) -> Path:
        """A diffusers folder."""
        return self.out / "model"

    def batches(self, setting: Setting) -> Path:
        """The beginning of the names of files, one for each rank."""
        return self.out / "batches" / f"{_slug(setting.name)}-{self.steps}-steps"

    def run(self, name: str) -> RunDirectory:
        """The launcher's run of a row or peer."""
        return RunDirectory(self.out / "runs" / _slug(name))

    def _module(self, command: Sequence[str], name: str, ranks: int) -> Command:
        module, events = command[0], self.out / "runs" / f"{_slug(f'{command[0]} {name}')}.jsonl"
        argv = [sys.executable, "-m", *command, "--events", str(events)]
        environments = rank_environments(self.gpus[:ranks], ranks)
        return Command(argv, environments, events, events.with_suffix(".log"), module, str(events))


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)
