"""What DeepSpeed tells, measures and writes down."""

from launcher.deepspeed.fields.field import Field, Group, Kind


def _switch(path: str, meaning: str, effect: str = "") -> Field:
    return Field(path, Kind.BOOL, False, meaning, Group.DIAGNOSTICS, effect=effect)


def _text(path: str, default: str | None, meaning: str, kind: Kind = Kind.TEXT) -> Field:
    return Field(path, kind, default, meaning, Group.DIAGNOSTICS)


DIAGNOSTICS = (
    Field(
        "steps_per_print",
        Kind.INT,
        None,
        "Print a line about the training every so many steps; never where left out.",
        Group.DIAGNOSTICS,
        minimum=1,
        unit="steps",
    ),
    _switch("wall_clock_breakdown", "Time each phase of a step.", "Waits for the GPU at each of them: slower."),
    _switch(
        "memory_breakdown",
        "Tell the memory in use at each phase.",
        "Collects all of Python's garbage each time: slower.",
    ),
    _switch("dump_state", "Print DeepSpeed's whole state at the start."),
    _switch("disable_python_gc", "Collect Python's garbage between steps only.", "Steps of even length."),
    Field(
        "log_level",
        Kind.TEXT,
        None,
        "How much DeepSpeed tells.",
        Group.DIAGNOSTICS,
        choices=("debug", "info", "warning", "error", "critical"),
        any_case=True,
    ),
    Field(
        "timers.throughput.enabled",
        Kind.BOOL,
        True,
        "Measure samples per second.",
        Group.DIAGNOSTICS,
    ),
    Field(
        "timers.throughput.synchronized",
        Kind.BOOL,
        True,
        "Wait for the GPU before each measurement of them.",
        Group.DIAGNOSTICS,
        effect="Exact, and slower.",
    ),
    _switch("flops_profiler.enabled", "Count the operations of one step.", "That step is slow."),
    Field(
        "flops_profiler.profile_step",
        Kind.INT,
        1,
        "The step to count.",
        Group.DIAGNOSTICS,
        minimum=1,
    ),
    Field(
        "flops_profiler.module_depth",
        Kind.INT,
        -1,
        "How deep modules are listed; -1: to the bottom.",
        Group.DIAGNOSTICS,
        minimum=-1,
    ),
    Field("flops_profiler.top_modules", Kind.INT, 1, "Modules shown of each depth.", Group.DIAGNOSTICS, minimum=1),
    Field("flops_profiler.detailed", Kind.BOOL, True, "List every module.", Group.DIAGNOSTICS),
    _text("flops_profiler.output_file", None, "File to write to instead of the log.", Kind.PATH),
    Field(
        "flops_profiler.recompute_fwd_factor",
        Kind.FLOAT,
        0.0,
        "Share of the forward pass that gradient checkpointing repeats.",
        Group.DIAGNOSTICS,
        minimum=0,
        maximum=1,
    ),
    _switch("comms_logger.enabled", "Measure what travels between GPUs."),
    _switch("comms_logger.verbose", "Log every transfer."),
    Field("comms_logger.prof_all", Kind.BOOL, True, "Measure every operation.", Group.DIAGNOSTICS),
    Field("comms_logger.prof_ops", Kind.TEXTS, (), "Operations to measure, where not all are.", Group.DIAGNOSTICS),
    _switch("comms_logger.debug", "Name the caller of each operation."),
    _switch("csv_monitor.enabled", "Write loss, learning rate and times to CSV files."),
    _text("csv_monitor.output_path", "", "Their folder; the run's own where empty.", Kind.PATH),
    _text("csv_monitor.job_name", "DeepSpeedJobName", "A folder in it."),
    _switch("tensorboard.enabled", "Write the same for TensorBoard.", "Needs the package tensorboard."),
    _text("tensorboard.output_path", "", "The folder; the run's own where empty.", Kind.PATH),
    _text("tensorboard.job_name", "DeepSpeedJobName", "A folder in it."),
    _switch("wandb.enabled", "Send the same to Weights & Biases.", "Needs the package wandb and an account."),
    _text("wandb.group", None, "Group of runs."),
    _text("wandb.team", None, "Team."),
    _text("wandb.project", "deepspeed", "Project."),
    _switch("comet.enabled", "Send the same to Comet.", "Needs the package comet_ml and an account."),
    Field(
        "comet.samples_log_interval",
        Kind.INT,
        100,
        "Pictures from one report to the next.",
        Group.DIAGNOSTICS,
        minimum=1,
        unit="pictures",
    ),
    _text("comet.project", None, "Project."),
    _text("comet.workspace", None, "Workspace."),
    _text("comet.experiment_name", None, "Name of the experiment."),
    _text("comet.experiment_key", None, "Key of an experiment to go on with, 32 to 50 letters and digits."),
    Field("comet.online", Kind.BOOL, None, "Send instead of writing files.", Group.DIAGNOSTICS),
    Field(
        "comet.mode",
        Kind.TEXT,
        None,
        "Whether an experiment is begun or gone on with.",
        Group.DIAGNOSTICS,
        choices=("get", "create", "get_or_create"),
    ),
)
