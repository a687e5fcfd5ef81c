"""From a plan to its rehearsal: the same engine, model, data and caches, and nothing that stays."""

from dataclasses import replace
from pathlib import Path

from launcher.config.settings import Settings
from launcher.config.training import NotificationSettings, TrackingSettings, ValidationSettings
from launcher.errors import CannotRunHereError
from launcher.estimate.total import checkpoint_mib
from launcher.machine.disk import same_filesystem
from launcher.plan import Plan, make_plan
from launcher.runs.rehearsal import PREFIX, STEPS, Rehearsal


def rehearsal_plan(plan: Plan) -> Plan:
    """The plan of a run's rehearsal, in a run directory of its own beside the run's.

    Args:
        plan: of the run; nothing of what it names but its caches is written.

    Raises:
        CannotRunHereError: it trains on several machines, which would have to agree on the directory.
    """
    if plan.settings.launch.machines is not None:
        raise CannotRunHereError(
            "a rehearsal takes one machine, and these answers take several; answer training.max_train_steps with "
            f"{STEPS} and another training.output_dir on each of them instead"
        )
    training = plan.settings.training
    output = Path(training.checkpoints.output_dir) if training.checkpoints.output_dir else plan.run_dir
    place = _free(plan.run_dir)
    rehearsal = Rehearsal(
        steps=min(STEPS, training.optimization.max_train_steps),
        checkpoint_mib=checkpoint_mib(plan.settings, plan.model),
        saves_here=same_filesystem(output, place),
    )
    return make_plan(_settings(plan.settings), plan.files["answers.json"], place, rehearsal)


def measured_settings(settings: Settings) -> Settings:
    """What a rehearsal's figures follow from: settings that are equal in it are measured alike."""
    rehearsed = _settings(settings)
    return replace(rehearsed, training=replace(rehearsed.training, validation=ValidationSettings()))


def _settings(settings: Settings) -> Settings:
    """The run's, but for what is written, loaded or drawn beside the steps.

    How long it trains stays, as the learning rate's schedule follows from it; so do the prompts of pictures, which are
    embedded with the captions.
    """
    training = settings.training
    every = training.validation.validation_steps
    return replace(
        settings,
        training=replace(
            training,
            checkpoints=replace(training.checkpoints, output_dir="", resume_from_checkpoint="latest"),
            optimization=replace(training.optimization, num_eval_images=0),
            validation=replace(training.validation, validation_steps=max(every, STEPS + 1) if every else 0),
            export=replace(training.export, export_pipeline=False),
            tracking=TrackingSettings(),
            notification=NotificationSettings(),
        ),
    )


def _free(run_dir: Path) -> Path:
    """A name that is not taken; those of failed rehearsals are."""
    first, count = run_dir.with_name(f"{PREFIX}{run_dir.name}"), 2
    place = first
    while place.exists():
        place, count = first.with_name(f"{first.name}-{count}"), count + 1
    return place
