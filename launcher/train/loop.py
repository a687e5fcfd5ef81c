"""The training run, top to bottom."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, StableDiffusionXLPipeline

from launcher.config.training import TrainingSettings
from launcher.runs.checkpoint_request import checkpoint_requested, withdraw_checkpoint_request
from launcher.runs.checkpoints import Checkpoint, identity, precision
from launcher.runs.directory import RunDirectory
from launcher.runs.outcome import Outcome
from launcher.runs.rehearsal import Rehearsal, rehearsal_of, write_sample
from launcher.train import caches, ema
from launcher.train.attention import verify_attention
from launcher.train.batches import Batches, Division
from launcher.train.checkpoint import Checkpoints
from launcher.train.dataset import find_pictures
from launcher.train.distributed import World
from launcher.train.engine import Engine
from launcher.train.export import export_pipeline, write_unet
from launcher.train.extensions import build_optimizer, build_swapping
from launcher.train.loading import DTYPES, load_engine
from launcher.train.lora import FOLDER as LORA
from launcher.train.lora import export_adapter, seed_dropout, write_lora
from launcher.train.memory import release
from launcher.train.models import ModelSource, resolve_model
from launcher.train.objective import diffusion_loss, require_schedule
from launcher.train.report import Report
from launcher.train.samples import draw_samples, prompts_to_cache
from launcher.train.step_loss import StepLoss
from launcher.train.steps import StepClock, agree
from launcher.train.validation import Validation

StopReason = Callable[[], str | None]
"""Says why the run should stop, or None."""


def train(run: RunDirectory, world: World, report: Report, stop_reason: StopReason) -> Outcome:
    """Trains what the run directory says, from wherever its checkpoints are.

    Args:
        run: holds training.json, deepspeed.json and plan.json.
        world: this process among those that train.
        report: told of everything.
        stop_reason: asked after each step and before the U-Net is loaded.

    Raises:
        LauncherError: it cannot start or go on, with a message for the person.
    """
    training, output_dir, rehearsal = run.training(), run.output_dir(), rehearsal_of(run)
    optimization = training.optimization
    torch.manual_seed(optimization.seed)
    config = run.deepspeed()
    dtype = DTYPES[precision(config)]
    division = Division(
        rank=world.rank,
        world_size=world.world_size,
        micro_batch_size=optimization.train_batch_size,
        accumulation=config["gradient_accumulation_steps"],
    )
    pictures = find_pictures(training, division.global_batch_size, world, report)

    # What it continues from, before anything is compiled, downloaded or loaded for it.
    mine = identity(config, training, deepspeed=run.uses_deepspeed(), world_size=world.world_size, pictures=pictures)
    saving = training.checkpoints
    checkpoints = Checkpoints(
        output_dir, saving.checkpoints_total_limit, mine, world, report, contents=saving.checkpoint_contents
    )
    newest = checkpoints.find(saving.resume_from_checkpoint)

    if mine.zero_stage is not None:
        config = _with_extensions(config, run, newest, world, report)

    # Everything that is not the U-Net comes and goes before the U-Net is loaded.
    model = resolve_model(training, world, report)
    scheduler = require_schedule(model, report)
    attention = verify_attention(training.runtime.attention_mechanism, world.device, dtype, report)
    captions = [picture.caption for picture in pictures]
    dataset = caches.prepare(
        training,
        model,
        pictures,
        dtype,
        world,
        report,
        prompts=prompts_to_cache(training, captions),
        stopping=lambda: stop_reason() is not None,
    )
    reason = world.from_main(stop_reason())
    if dataset is None or reason:
        return _stopped(report, reason or "another process was asked to stop", step=newest.step if newest else 0)

    engine = load_engine(run, model, mine, config, attention, world, report)

    batches = Batches(
        dataset,
        seed=optimization.seed,
        scaling_factor=model.vae_scaling_factor,
        timesteps=scheduler.config.num_train_timesteps,
        device=world.device,
        dtype=dtype,
        objective=training.objective,
        caption_dropout=training.captions.caption_dropout_probability,
    )
    done = checkpoints.resume(engine, newest)
    average = ema.begin(engine, training.ema, world, newest, report)

    validation = Validation(
        engine,
        model,
        training,
        dataset,
        captions,
        output_dir / "samples",
        in_lockstep=mine.zero_stage == 3,
        world=world,
        report=report,
    )

    loop = Loop(
        engine,
        batches,
        scheduler,
        division,
        world,
        report,
        stop_reason,
        training.objective.snr_gamma,
        average,
        validation,
        asked_in=run,
    )
    loop.evaluate("before", done, optimization.num_eval_images)
    write_weights = (
        partial(write_lora, training=training, world=world)
        if training.adapter.is_lora
        else partial(write_unet, model=model, dtype=training.export.export_dtype, world=world)
    )

    def save(step: int) -> None:
        if rehearsal is None:
            checkpoints.save(engine, step, write_weights, average)
        elif average:
            average.wait()

    last_step = rehearsal.steps if rehearsal else optimization.max_train_steps
    done, reason = loop.steps(done, last_step, save_every=saving.checkpointing_steps, save=save)
    if reason:
        return _stopped(report, reason, done)
    if rehearsal:
        return _rehearsed(rehearsal, run.path, world, report)
    loop.evaluate("after", done, optimization.num_eval_images)

    if training.export.export_pipeline:
        with average.exchanged() if average else nullcontext():
            pipeline = _export(engine, model, training, output_dir, world, report)
        del engine, average, validation, loop, checkpoints
        release(world.device)
        draw_samples(pipeline, training, captions, output_dir / "samples", done, world, report)
    return Outcome("completed", 0, f"trained {done} steps")


@dataclass(frozen=True, slots=True)
class Loop:
    """Steps and evaluations of one engine."""

    engine: Engine
    batches: Batches
    scheduler: DDPMScheduler
    division: Division
    world: World
    report: Report
    stop_reason: StopReason
    snr_gamma: float = 0.0
    average: ema.MovingAverage | None = None
    """Of the weights, which takes in every step."""
    validation: Validation | None = None
    """Draws pictures between steps."""
    asked_in: RunDirectory | None = None
    """Where somebody may ask for a checkpoint."""

    def steps(
        self, done: int, last_step: int, *, save_every: int, save: Callable[[int], object]
    ) -> tuple[int, str | None]:
        """Trains to the last step or a stop; where it trains at all, the last thing it does is a save.

        Args:
            done: steps trained already.
            last_step: where it ends, counted from the run's start.
            save_every: steps between saves; one that somebody asks for comes beside them.
            save: called with the step, on every rank.

        Returns:
            Steps trained in all, and why it stopped early, if it did.

        Raises:
            RunFailedError: a loss is not finite; the step is not taken and nothing is saved.
        """
        micro_batches = self.batches.run(self.division, done, last_step)
        clock = StepClock(self.world.device)
        with self.report.phase("train") as progress:
            for step in range(done + 1, last_step + 1):
                losses = StepLoss(self.division.accumulation)
                for micro_step in range(self.division.accumulation):
                    with clock.phase("data"):
                        batch = next(micro_batches)
                    seed_dropout(self.batches.seed, self.division.numbers(step - 1, micro_step).start)
                    with clock.phase("forward"):
                        loss = diffusion_loss(self.engine, self.scheduler, batch, self.snr_gamma)
                    with clock.phase("backward"):
                        self.engine.backward(loss)
                    if losses.add(loss, batch.paths):
                        mean_loss = losses.agree(self.world, step)
                    learning_rate = self.engine.learning_rate
                    if self.average and micro_step == self.division.accumulation - 1:
                        with clock.phase("ema"):
                            self.average.wait()
                    with clock.phase("optimizer"):
                        self.engine.step()
                if self.average:
                    self.average.update(step)

                reason = self.stop_reason()
                wanted = self.asked_in is not None and checkpoint_requested(self.asked_in)
                agreed = agree(self.world, stop=reason is not None, checkpoint=wanted, meter=self.report.meter)
                seconds = clock.read()
                self.report.event(
                    "step",
                    step=step,
                    max_steps=last_step,
                    loss=mean_loss,
                    lr=learning_rate,
                    grad_norm=self.engine.gradient_norm,
                    loss_scale=self.engine.loss_scale,
                    skipped=not self.engine.updated,
                    seconds=seconds,
                    samples_per_second=round(self.division.global_batch_size / seconds["total"], 3),
                    vram_mib=agreed.vram_mib,
                    rss_mib=agreed.rss_mib,
                )
                progress.progress(step, last_step)
                if step % save_every == 0 or step == last_step or agreed.stop or agreed.checkpoint:
                    save(step)
                    if self.asked_in and self.world.is_main:
                        withdraw_checkpoint_request(self.asked_in)
                    clock.read()  # the save is no part of the next step
                if self.validation and not agreed.stop and self.validation.after(step):
                    clock.read()  # nor are pictures
                if agreed.stop and step < last_step:
                    return step, self.world.from_main(reason) or "another process was asked to stop"
        return max(done, last_step), None

    @torch.no_grad()
    def evaluate(self, when: str, step: int, pictures: int) -> float | None:
        """Mean loss over ``pictures`` pictures on fixed, held-out noise, all weighed alike; None without pictures.

        Every rank takes equally many batches, as ZeRO-3's collectives need: past the last one a rank repeats the
        last picture without counting it.
        """
        if pictures == 0:
            return None
        taken = self.batches.evaluation_batches(pictures, self.division.micro_batch_size)
        rounds = math.ceil(len(taken) / self.world.world_size)
        total = counted = 0.0
        with self.report.phase("evaluate") as progress:
            self.engine.evaluating(True)
            for turn in range(rounds):
                place = turn * self.world.world_size + self.world.rank
                mine = taken[place] if place < len(taken) else []
                batch = self.batches.evaluation(mine or taken[-1][-1:], pictures)
                loss = float(diffusion_loss(self.engine, self.scheduler, batch))
                total, counted = total + loss * len(mine), counted + len(mine)
                progress.progress(turn + 1, rounds)
            self.engine.evaluating(False)
            rows = self.world.gather([total, counted])
        mean = sum(row[0] for row in rows) / sum(row[1] for row in rows)
        self.report.event("evaluation", when=when, loss=mean, step=step)
        return mean


def _with_extensions(
    config: dict[str, Any], run: RunDirectory, newest: Checkpoint | None, world: World, report: Report
) -> dict[str, Any]:
    """The configuration for which this machine has what DeepSpeed compiles."""
    with report.phase("compile"):
        config = build_optimizer(config, world, report, torch_adam=newest is not None and newest.torch_adam)
        return build_swapping(config, run.path, world)


def _stopped(report: Report, reason: str, step: int) -> Outcome:
    report.event("stopping", reason=reason, step=step)
    return Outcome("stopped", 0, f"stopped at step {step}: {reason}")


def _rehearsed(rehearsal: Rehearsal, folder: Path, world: World, report: Report) -> Outcome:
    """How long a save would take is told by a sample; nothing stays of it."""
    if world.is_main and rehearsal.saves_here:
        try:
            size, seconds = write_sample(folder, rehearsal.checkpoint_mib)
            report.event("write_speed", path=str(folder), bytes=size, seconds=round(seconds, 6))
        except OSError as error:
            report.warning(f"how long a checkpoint takes could not be measured: {error.strerror}")
    return Outcome("completed", 0, f"rehearsed {rehearsal.steps} steps")


def _export(
    engine: Engine, model: ModelSource, training: TrainingSettings, output_dir: Path, world: World, report: Report
) -> Callable[[torch.dtype], StableDiffusionXLPipeline]:
    """What was trained, as people use it; returns what loads the pipeline with it, in a dtype."""
    if training.adapter.is_lora:
        adapter = export_adapter(engine, training, output_dir / LORA, world, report)
        return lambda dtype: model.pipeline(dtype, adapter)
    folder = export_pipeline(engine, model, training.export, output_dir / "pipeline", world, report)
    return lambda dtype: StableDiffusionXLPipeline.from_pretrained(folder, torch_dtype=dtype)
