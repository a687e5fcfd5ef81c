"""Answers that benchmarks train with, and as the launcher reads them, without a file and without a launch."""

import json
from pathlib import Path
from typing import Any

from launcher.config.deepspeed import BLOCKS
from launcher.config.settings import Settings
from simpletuner_tui.answers import read_answers, read_resolved
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.questions.resolving import resolve
from simpletuner_tui.session import probe_machine

Answers = dict[str, Any]
"""By id, as in a file of answers."""

UNTUNED: Answers = {
    "zero_optimization.offload_param.pin_memory": True,
    "zero_optimization.reduce_bucket_size": 50_000_000,
    "zero_optimization.overlap_comm": False,
    "zero_optimization.stage3_prefetch_bucket_size": 50_000_000,
    "zero_optimization.stage3_max_live_parameters": 1_000_000_000,
    "zero_optimization.stage3_max_reuse_distance": 1_000_000_000,
}
"""Defaults before they were fitted to SDXL, by their place in DeepSpeed's JSON: settings that say nothing of them train so."""

RUN: Answers = {
    "training.resolution": 1024,
    "training.max_train_steps": 4,
    "training.train_batch_size": 8,
    "training.lr_warmup_steps": 2,
    "training.learning_rate": 1e-5,
    "training.checkpointing_steps": 4,
    "training.checkpoints_total_limit": 1,
    "training.checkpoint_contents": "weights",
    "training.num_eval_images": 0,
    "training.num_validation_images": 0,
    "training.export_pipeline": False,
    "accelerate.use_deepspeed": True,
    "accelerate.zero_stage": 2,
    "accelerate.offload_optimizer": "cpu",
    "accelerate.use_clip": True,
    "accelerate.mixed_precision": "bf16",
}
COMMON = RUN | {f"deepspeed.{path}": value for path, value in UNTUNED.items()}
STREAMED: Answers = {
    "accelerate.zero_stage": 3,
    "accelerate.offload_param": "cpu",
    "deepspeed.zero_optimization.offload_param.pin_memory": False,
    "deepspeed.zero_optimization.reduce_bucket_size": 30_000_000,
    "deepspeed.zero_optimization.stage3_prefetch_bucket_size": 40_000_000,
    "deepspeed.zero_optimization.stage3_max_live_parameters": 120_000_000,
    "deepspeed.zero_optimization.stage3_max_reuse_distance": 10_000_000,
    "deepspeed.zero_optimization.overlap_comm": True,
    "deepspeed.extra": {
        "zero_optimization": {"leaf_module": {"classes": list(BLOCKS)}, "memory_efficient_linear": False}
    },
}
"""Weights are on the GPU only while they are used."""
RESIDENT: Answers = {
    "accelerate.zero_stage": 2,
    "deepspeed.zero_optimization.reduce_bucket_size": 30_000_000,
    "deepspeed.zero_optimization.overlap_comm": True,
}
"""Weights stay on the GPU, the optimizer on the CPU."""
TWO: Answers = {"accelerate.machine": "MULTI_GPU", "accelerate.num_processes": 2}


def settings_of(answers: Answers) -> Settings:
    """What a launch of these answers would train with, as this machine has it or not."""
    file = json.dumps({"schema": 1, "answers": answers}).encode()
    given = read_answers(file, Path.cwd(), "answers")
    return read_resolved(resolve(REGISTRY, given.values, probe_machine()), given.base).settings
