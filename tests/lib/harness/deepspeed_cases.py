"""Configurations to prove the rules with: what each rule is about, what DeepSpeed does then, and what trains.

Proven on the CPU by ``tests/launcher/deepspeed/test_proof.py``, on a GPU by ``tests/gpu/test_deepspeed_rules.py``.
"""

import json
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from launcher.deepspeed.installed import TESTED
from launcher.deepspeed.run_facts import SDXL_PARAMETERS, RunFacts

OUT = "(left out)"
BASE = {
    "train_micro_batch_size_per_gpu": 1,
    "gradient_accumulation_steps": 1,
    "bf16.enabled": True,
    "optimizer.type": "AdamW",
    # torch's Adam needs no extension to be compiled, which DeepSpeed's own on the device does.
    "optimizer.params": {"lr": 0.01, "torch_adam": True, "fused": True},
}
RUN = RunFacts(
    device="cpu", module_levels=2, parameters=3000, largest_parameter=2048, learning_rate=0.01, max_train_steps=100
)

Z = "zero_optimization"
OO = f"{Z}.offload_optimizer"
OP = f"{Z}.offload_param"
MASTERS = "bf16.bf16_master_weights_and_grads"
STATES = "bf16.bf16_optimizer_states"
CPU = {f"{OO}.device": "cpu", "optimizer.params": {"lr": 0.01}}
SLOWLY = {**CPU, "optimizer.params": {"lr": 1e-6}}
MUON = {"optimizer.type": "Muon", "optimizer.params": {"lr": 0.01, "torch_adam": True}}
UNCLIPPED_MUON = {**MUON, "gradient_clipping": 0}
SWAPS = {**CPU, f"{OO}.device": "nvme", f"{OO}.nvme_path": "$SWAP"}
PARAMETERS = {
    f"{OP}.device": "nvme",
    f"{OP}.nvme_path": "$SWAP",
    f"{OP}.buffer_size": 1_000_000,
    f"{OP}.max_in_cpu": 0,
    f"{Z}.stage3_prefetch_bucket_size": 0,
}
LARGE = {"parameters": 2_135_228, "largest_parameter": 1_000_000, "module_levels": 2}


def at(stage: int, **more: Any) -> dict[str, Any]:
    return {f"{Z}.stage": stage, **more}


def config_of(paths: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for path, value in deepcopy({**BASE, **paths}).items():
        *above, key = path.split(".")
        section = config
        for name in above:
            section = section.setdefault(name, {})
        if value == OUT:
            section.pop(key, None)
        else:
            section[key] = value
    return json.loads(json.dumps(config))


@dataclass(frozen=True)
class Fails:
    """DeepSpeed raises this, at the start or in a step."""

    text: str


@dataclass(frozen=True)
class SameAs:
    """The weights end up as with this other configuration, to the bit."""

    paths: dict[str, Any]


@dataclass(frozen=True)
class Ends:
    """What the run is seen to do."""

    facts: dict[str, Any]


@dataclass(frozen=True)
class Share:
    """A number the run tells is this share of what another configuration's run tells, at the most and the least."""

    fact: str
    most: float
    paths: dict[str, Any]
    least: float = 0.0


@dataclass(frozen=True)
class NoFp16(Fails):
    """DeepSpeed raises this unless the CPU is one of the few that have fp16."""


@dataclass(frozen=True)
class NotHere:
    """What it takes to see it."""

    needs: str


@dataclass(frozen=True)
class Case:
    rule: str
    paths: dict[str, Any]
    proof: Fails | SameAs | Ends | Share | NotHere
    run: dict[str, Any] = field(default_factory=dict)
    mended: dict[str, Any] = field(default_factory=dict)
    marked: bool = True
    model: str = "small"

    @property
    def together(self) -> dict[str, Any]:
        """How it runs, and what it is held against."""
        weighed = isinstance(self.proof, Share) and self.proof.fact == "bytes"
        return {"world_size": self.run.get("world_size", 1), "weighed": weighed, "model": self.model}

    @property
    def name(self) -> str:
        return f"{self.rule} {json.dumps({k: str(v) for k, v in self.paths.items()})}"


def scheduler(name: str, **params: Any) -> dict[str, Any]:
    return {"scheduler": {"type": name, "params": params}}


INSTALLED = replace(TESTED, packages=frozenset())
GPU = NotHere("a GPU")

CASES = [
    # Batch
    Case("batch-missing", at(2, train_micro_batch_size_per_gpu=OUT), Fails("Either train_batch_size or")),
    Case("batch-triangle", at(2, train_batch_size=7), Fails("Check batch related parameters")),
    Case(
        "batch-triangle",
        at(2, train_batch_size=8, train_micro_batch_size_per_gpu=OUT, gradient_accumulation_steps=3),
        Fails("Check batch related parameters"),
    ),
    Case(
        "accumulation-unmanaged",
        at(2, managed_gradient_accumulation=False, gradient_accumulation_steps=4),
        Ends({"updates": 16}),
    ),
    Case("stage-1-moves-less", at(2, gradient_accumulation_steps=4, **CPU), NotHere("counters of bytes")),
    Case("sum-at-stage-3", at(3, gradient_allreduce_op="sum"), Fails("not supported with ZeRO stage 3")),
    Case("sum-multiplies", at(2, gradient_allreduce_op="sum"), Share("norm", 3.01, at(2), 2.99), run={"world_size": 3}),
    Case("prescaling-with-reduce-scatter", at(2, prescale_gradients=True), Fails("pre-scale gradients is not yet")),
    Case("prescaling-with-reduce-scatter", at(3, gradient_predivide_factor=2.0), Fails("gradient_predivide_factor")),
    Case("nothing-learnt", at(2, **{"optimizer.params": {"lr": 0, "torch_adam": True}}), Ends({"moved": 0.0})),
    Case("divided-by-nothing", at(0, gradient_predivide_factor=0), Fails("division by zero")),
    # Precision
    Case(
        "fp16-needs-gpu", at(2, **{"bf16.enabled": False, "fp16.enabled": True}), NoFp16("Type fp16 is not supported")
    ),
    Case(
        "fp16-needs-zero",
        at(0, **{"bf16.enabled": False, "fp16.enabled": True}),
        NotHere("a GPU, and the optimizer's moments"),
        run={"device": "cuda"},
        mended=at(0),
    ),
    Case(
        "two-precisions",
        at(2, **{"fp16.enabled": True}),
        Fails("cannot be simultaneously enabled"),
        run={"device": "cuda"},
    ),
    Case(
        "no-precision",
        at(2, **{"bf16.enabled": False}),
        Ends({"kinds": ["torch.float32"]}),
        run={"parameters": SDXL_PARAMETERS},
    ),
    Case(
        "two-masters",
        at(2, **CPU, **{MASTERS: True, "fp16.fp16_master_weights_and_grads": True}),
        Fails("mutually exclusive"),
    ),
    Case("masters-not-exact", at(2, **SLOWLY, **{MASTERS: True}), Share("moved", 0.01, at(2, **SLOWLY))),
    Case("bf16-masters-need-zero", at(0, **{MASTERS: True}), Fails("only supported with ZeRO Stage 1, 2, or 3")),
    Case("bf16-states-need-masters", at(2, **{STATES: True}), Fails("requires bf16_master_weights_and_grads")),
    *(
        Case("bf16-masters-need-cpu-adam", at(stage, **{MASTERS: True}), Fails("Master weights feature requires"))
        for stage in (1, 2, 3)
    ),
    Case(
        "bf16-masters-need-cpu-adam",
        at(2, **{MASTERS: True, STATES: True, f"{OO}.device": "cpu"}),
        Fails("Master weights feature requires"),
    ),
    Case(
        "bf16-masters-on-nvme",
        at(3, **{MASTERS: True, **SWAPS}),
        Fails("AssertionError"),
        LARGE,
        model="large",
    ),
    Case(
        "fp16-masters-need-cpu-adam",
        at(2, **{"bf16": {}, "fp16.enabled": True, "fp16.fp16_master_weights_and_grads": True}),
        GPU,
        run={"device": "cuda"},
        mended=at(2, **CPU),
    ),
    Case("accumulation-format-at-stage-0", at(0, **{"data_types.grad_accum_dtype": "fp32"}), Fails("unsupported mix")),
    Case(
        "accumulation-in-fp32-on-nvme",
        at(1, **{"data_types.grad_accum_dtype": "fp32", **CPU, f"{OO}.device": "nvme"}),
        GPU,
    ),
    Case("immediate-update-ignored", at(2, **{"bf16.immediate_grad_update": True}), SameAs(at(2))),
    Case("weights-in-another-format", at(2, **{"data_types.param_dtype": "fp32"}), Fails("conflicts with the enabled")),
    Case("autocast-beside-16-bits", at(2, **{"torch_autocast": {"enabled": True, "dtype": "bf16"}}), SameAs(at(2))),
    # ZeRO
    *(Case("zenflow", at(stage, **CPU, **{f"{Z}.zenflow": {"update_interval": 2}}), Fails("")) for stage in (1, 2, 3)),
    *(
        Case("odd-bucket", at(stage, **{f"{Z}.allgather_bucket_size": 3}), Fails("must be a multiple"))
        for stage in (1, 2)
    ),
    Case("norm-needed", at(2, **{f"{Z}.compute_grad_norm": False}), Fails("requires gradient_clipping=0")),
    Case(
        "norm-needed",
        at(2, gradient_clipping=0, **CPU, **{f"{Z}.compute_grad_norm": False}),
        Fails("does not support optimizer offload"),
    ),
    Case("norm-needed", at(3, gradient_clipping=0, **{f"{Z}.compute_grad_norm": False}), Fails("only with ZeRO Stage")),
    Case(
        "norm-needed",
        at(1, gradient_clipping=0, **{f"{Z}.compute_grad_norm": False, "data_types.grad_accum_dtype": "fp32"}),
        Fails("does not support ZeRO Stage 1"),
    ),
    Case("stage-1-of-old", at(1, **{f"{Z}.legacy_stage1": True}), Fails("deprecated version of ZeRO Stage 1")),
    Case("elastic-at-stage-3", at(3, **{f"{Z}.elastic_checkpoint": True}), SameAs(at(3))),
    Case("pinning-of-old", at(2, **{f"{Z}.cpu_offload_use_pin_memory": True}), SameAs(at(2))),
    Case(
        "uneven-partition-groups",
        at(3, **{f"{Z}.zero_hpz_partition_size": 2}),
        Fails("3 is not divisible by 2"),
        run={"world_size": 3},
    ),
    Case("no-partition-groups", at(3, **{f"{Z}.zero_hpz_partition_size": 8}), SameAs(at(3))),
    Case("quantized", at(3, **{f"{Z}.zero_quantized_weights": True}), Fails("had not been implemented on CPU")),
    Case("contiguous-anyway", at(2, **CPU, **{f"{Z}.contiguous_gradients": False}), SameAs(at(2, **CPU))),
    *(
        Case("nothing-partitioned", at(stage), Share("bytes", 1.001, at(0), 0.999), mended=at(stage, **CPU))
        for stage in (1, 2)
    ),
    *(
        Case("not-at-this-stage", at(stage, **{f"{Z}.{key}": value}), SameAs(at(stage)))
        for stage, key, value in (
            (3, "round_robin_gradients", True),
            (3, "parameter_alignment", True),
            (3, "ignore_unused_parameters", False),
            (3, "allgather_bucket_size", 2),
            (2, "sub_group_size", 10),
            (2, "stage3_max_live_parameters", 10),
            (2, "zero_quantized_weights", True),
            (2, "zero_hpz_partition_size", 8),
            (1, "reduce_scatter", False),
        )
    ),
    # Offload
    Case("offload-needs-zero", at(0, **CPU), GPU, mended=at(1, **CPU)),
    *(
        Case("param-offload-needs-stage-3", at(stage, **CPU, **{f"{OP}.device": device}), SameAs(at(stage, **CPU)))
        for stage, device in product((1, 2), ("cpu", "nvme"))
    ),
    *(
        Case(
            "nvme-needs-stage-3",
            at(stage, **{**CPU, f"{OO}.device": "nvme", f"{OO}.nvme_path": "$SWAP"}),
            SameAs(at(stage, **CPU)),
            mended=at(stage, **CPU),
        )
        for stage in (1, 2)
    ),
    Case(
        "nvme-needs-path",
        at(3, **{**CPU, f"{OO}.device": "nvme"}),
        Fails("PathLike object, not NoneType"),
        mended=at(3, **CPU),
    ),
    Case("nvme-needs-path", at(3, **CPU, **{f"{OP}.device": "nvme"}), Fails('"nvme_path" in DeepSpeed Config cannot')),
    Case(
        "nvme-buffers-too-few",
        at(3, **SWAPS, **{f"{OO}.buffer_count": 2}),
        Fails("must not be zero"),
        LARGE,
        model="large",
    ),
    Case(
        "nvme-buffers-too-few",
        at(3, **SWAPS, **{f"{OO}.buffer_count": 3}),
        Fails("AssertionError"),
        LARGE,
        model="large",
    ),
    Case(
        "nvme-buffers-too-small",
        at(3, **SWAPS, **{**PARAMETERS, f"{OP}.buffer_size": 100}),
        Fails("More elements 1000000 than buffer size 100"),
        LARGE,
        model="large",
    ),
    *(
        Case(
            "nvme-parameters-fetched-ahead",
            at(3, **SWAPS, **{**PARAMETERS, f"{Z}.stage3_prefetch_bucket_size": size}),
            Fails("already assigned swap buffer"),
            LARGE,
            model="large",
        )
        for size in (OUT, 1)
    ),
    Case(
        "nvme-parameters-alone",
        at(3, **CPU, **PARAMETERS),
        Ends({"saved": True, "loaded": False}),
        LARGE,
        model="large",
    ),
    Case(
        "fp32-parameters-on-nvme",
        at(3, **SWAPS, **PARAMETERS, **{"bf16.enabled": False}),
        Fails("must have the same dtype"),
        LARGE,
        model="large",
    ),
    Case(
        "nvme-fast-init",
        at(3, **SWAPS, **PARAMETERS, **{f"{OO}.fast_init": True}),
        Fails("too small for initializing fp32 params"),
        LARGE,
        model="large",
    ),
    Case("nvme-wears", at(3, **SWAPS), Ends({"files": 5}), LARGE, model="large", mended=at(3, **CPU)),
    Case("ratio-needs-stage-3", at(2, **CPU, **{f"{OO}.ratio": 0.5}), Fails("Partial offloading only supported for")),
    Case("ratio-needs-cpu-adam", at(3, **{f"{OO}.device": "cpu", f"{OO}.ratio": 0.5}), Fails("Hybrid Optimizer Only")),
    Case(
        "ratio-needs-cpu", at(3, **{**CPU, f"{OO}.device": "nvme", f"{OO}.nvme_path": "$SWAP", f"{OO}.ratio": 0.5}), GPU
    ),
    Case("ratio-forgets", at(3, **CPU, **{f"{OO}.ratio": 0.5}), GPU),
    Case("super-offload-needs-cuda", at(3, **CPU, **{f"{OO}.super_offload": True}), Fails("only supports NVIDIA CUDA")),
    Case("io-settings-without-nvme", at(3, **{"aio.queue_depth": 32}), SameAs(at(3))),
    Case("direct-storage-needs-cuda", at(3, **{"aio.use_gds": True}), Fails("only supported for CUDA")),
    # Optimizer
    Case("optimizer-missing", at(2, optimizer=OUT), Fails("zero stage 2 requires an optimizer")),
    Case("optimizer-blank", at(2, **{"optimizer.type": " "}), Fails("is not a supported DeepSpeed Optimizer")),
    *(
        Case("optimizer-parameter", at(2, **more), Fails("unexpected keyword argument"))
        for more in (
            {"optimizer": {"type": "Adagrad", "params": {"lr": 0.01, "betas": [0.9, 0.99]}}},
            {"optimizer.params": {"torch_adam": True, "bias_correction": True}},
            {"optimizer.params": {"torch_adam": True, "freeze_step": 2}},
            {**CPU, "optimizer.params": {"fused": True}},
        )
    ),
    Case("optimizer-parameter", at(2, **{**CPU, "optimizer.params": {"amsgrad": True}}), Fails("AMSGrad")),
    Case(
        "optimizer-parameter",
        at(2, **{"optimizer.params": {"torch_adam": True, "max_grad_norm": 1}}),
        Fails("'max_grad_norm' is not supported"),
    ),
    Case("two-betas", at(2, **{**CPU, "optimizer.params": {"betas": [0.9]}}), Fails("IndexError")),
    Case("two-betas", at(2, **{**CPU, "optimizer.params": {"betas": [0.9, 0.99, 0.999]}}), Fails("too many values")),
    Case("two-betas", at(2, **{**CPU, "optimizer.params": {"betas": [0.9, 1.0]}}), Ends({"finite": False})),
    *(
        Case("muon-elsewhere", at(stage, **MUON, **matrices), Fails("The size of tensor a"), marked=False)
        for stage, matrices in ((0, {}), (1, {}), (2, {}), (3, {f"{Z}.reduce_scatter": False}))
    ),
    *(
        Case(
            "muon-and-clipping",
            at(stage, gradient_clipping=0.01, **MUON),
            Share("least", 0.1, at(stage, **UNCLIPPED_MUON)),
        )
        for stage in (1, 2)
    ),
    Case("muon-travels", at(2, **UNCLIPPED_MUON, **{f"{OO}.device": "cpu"}), NotHere("counters of bytes")),
    Case("muon-and-reduce-scatter", at(3, **MUON), Fails("Muon and reduce scatter")),
    Case(
        "muon-ignores",
        at(2, **{"optimizer.type": "Muon", "optimizer.params": {**MUON["optimizer.params"], "amsgrad": True}}),
        SameAs(at(2, **MUON)),
    ),
    Case(
        "muon-per-head",
        at(2, **{"optimizer.type": "Muon", "optimizer.params": {**MUON["optimizer.params"], "per_head_muon": True}}),
        Fails("no attention projection could be tagged"),
    ),
    *(
        Case("mu-needs-shapes", at(2, optimizer={"type": name, "params": {}}), Fails("UnboundLocalError"))
        for name in ("MuAdam", "MuAdamW", "MuSGD")
    ),
    Case("lamb-unproven", at(2, optimizer={"type": "Lamb", "params": {}}), Fails("had not been implemented on CPU")),
    Case(
        "adagrad-at-stage-0",
        at(0, optimizer={"type": "Adagrad", "params": {"lr": 0.01}}),
        Ends({"saved": False}),
        mended=at(1, optimizer={"type": "Adagrad", "params": {"lr": 0.01}}),
    ),
    Case(
        "lion-needs-offload", at(2, optimizer={"type": "Lion", "params": {}}), Fails("had not been implemented on CPU")
    ),
    Case(
        "adam-is-adamw",
        at(2, **{**CPU, "optimizer.type": "Adam", "optimizer.params": {"lr": 0.01, "weight_decay": 0.1}}),
        SameAs(at(2, **{**CPU, "optimizer.params": {"lr": 0.01, "weight_decay": 0.1}})),
    ),
    Case(
        "adamw-stays-adamw",
        at(2, **{**CPU, "optimizer.params": {"lr": 0.01, "weight_decay": 0.1, "adam_w_mode": False}}),
        SameAs(at(2, **{**CPU, "optimizer.params": {"lr": 0.01, "weight_decay": 0.1}})),
    ),
    Case(
        "unfused-on-the-cpu",
        at(2, **{f"{OO}.device": "cpu", "optimizer.params": {"torch_adam": True}}),
        NotHere("a clock and 100 million parameters"),
    ),
    # Schedule
    Case(
        "schedule-without-parameters", at(2, scheduler={"type": "WarmupLR"}), Fails("must be a mapping, not NoneType")
    ),
    Case("schedule-lacks", at(2, **scheduler("WarmupDecayLR", warmup_num_steps=1)), Fails("total_num_steps")),
    Case("schedule-lacks", at(2, **scheduler("OneCycle", cycle_min_lr=0.1)), Fails("cycle_max_lr")),
    Case(
        "schedule-parameter",
        at(2, **scheduler("WarmupCosineLR", total_num_steps=9, warmup_max_lr=1)),
        Fails("unexpected keyword argument"),
    ),
    Case(
        "warmup-longer-than-run",
        at(2, **scheduler("WarmupLR", warmup_num_steps=8)),
        Share("highest", 0.9, at(2)),
        run={"max_train_steps": 4},
    ),
    Case(
        "schedule-ends-early",
        at(2, **scheduler("WarmupDecayLR", warmup_num_steps=1, warmup_max_lr=0.01, total_num_steps=2)),
        Ends({"rates": [0.0, 0.0, 0.01, 0.0]}),
    ),
    Case(
        "schedule-overrides-rate",
        at(2, **scheduler("WarmupLR", warmup_max_lr=0.5, warmup_num_steps=1)),
        Ends({"rates": [0.0, 0.0, 0.5, 0.5]}),
    ),
    Case(
        "schedule-overrides-rate",
        at(2, **scheduler("WarmupDecayLR", warmup_num_steps=1, total_num_steps=10**6)),
        Ends({"highest": 0.001}),
        run={"max_train_steps": 10**6},
    ),
    Case(
        "range-test",
        at(2, **scheduler("LRRangeTest", lr_range_test_min_lr=0.1, lr_range_test_step_size=1)),
        Ends({"highest": 0.4}),
    ),
    Case(
        "cycle-overrides-betas",
        at(2, **scheduler("OneCycle", cycle_min_lr=0.001, cycle_max_lr=0.01, cycle_first_step_size=4)),
        Ends({"betas": [0.8, 0.99]}),
    ),
    # Diagnostics
    Case(
        "profiler-too-deep",
        at(2, flops_profiler={"enabled": True, "module_depth": 3}),
        Fails("KeyError"),
    ),
    Case("writer-needs-launcher", at(2, **{"checkpoint.writer": {"type": "PYTHON"}}), Fails("CROSS_SIZE")),
    Case("resumes-universal-only", at(2, **{"checkpoint.load_universal": True}), Ends({"loaded": False})),
    Case("activations-elsewhere", at(2, **{"activation_checkpointing.cpu_checkpointing": True}), SameAs(at(2))),
    # What is no rule of its own
    Case("schedule-unknown", at(2, **scheduler("Polynomial")), Fails("does not recognize LR scheduler")),
    Case("schedule-unknown", at(2, **scheduler("StepLR", step_size=1)), Fails("is not an Optimizer")),
    Case(
        "optimizer-unknown", at(2, **{"optimizer.type": "OneBitAdam"}), Fails("is not a supported DeepSpeed Optimizer")
    ),
    Case("optimizer-unknown", at(2, **{"optimizer.type": "cpuadam"}), Fails("is not a supported DeepSpeed Optimizer")),
    Case("package-missing", at(2, **{"wandb.enabled": True}), Fails("No module named 'wandb'")),
    Case("removed", at(2, elasticity={"enabled": False}), Fails("Elastic training has been removed")),
    Case("removed", at(3, **{f"{Z}.mics_shard_size": 1}), Fails("MiCS ZeRO-3 sharding has been removed")),
    Case("key", at(2, **{f"{Z}.stagee": 1}), Fails("Extra inputs are not permitted")),
    Case("key", at(2, **{f"{OO}.devise": 1}), Fails("Extra inputs are not permitted")),
    Case("key", at(2, **{"bf16.enable": 1}), Fails("Extra inputs are not permitted")),
    Case("key", at(2, **{"aio.thread_count": 4}), SameAs(at(2))),
    Case("key", at(2, zero3_init_flag=True), SameAs(at(2))),
    Case("auto", at(2, **{f"{Z}.reduce_bucket_size": "auto"}), SameAs(at(2))),
    Case("said-twice", at(2, **CPU, **{f"{Z}.cpu_offload": False}), Fails("together")),
    *(
        Case("type", at(2, **{path: value}), Fails(""))
        for path, value in (
            ("gradient_clipping", "auto"),
            ("gradient_clipping", None),
            ("gradient_accumulation_steps", "2"),
            ("gradient_accumulation_steps", 0),
            ("steps_per_print", 0),
            ("log_level", "chatty"),
            ("communication_data_type", "int8"),
            (f"{Z}.stage", 4),
            (f"{Z}.reduce_bucket_size", 0),
            (f"{Z}.reduce_bucket_size", "2e6"),
            (f"{Z}.reduce_bucket_size", 1.5),
            (f"{OO}.device", "disk"),
            (f"{OO}.device", None),
            ("optimizer.params.lr", "1e-4"),
            ("optimizer.params.lr", "auto"),
            ("optimizer.params.lr", -1.0),
            ("optimizer.params.betas", 0.9),
            ("checkpoint.tag_validation", None),
            ("bf16.enabled", None),
            ("optimizer", "AdamW"),
            ("scheduler", "WarmupLR"),
            (Z, 2),
            ("checkpoint", None),
            ("data_types", None),
        )
    ),
]

ALLOWED = {
    **{
        f"stage {stage} {place}": at(stage, **(CPU if place == "cpu" else {}))
        for stage, place in product((0, 1, 2, 3), ("gpu", "cpu"))
        if stage or place == "gpu"
    },
    **{f"stage {stage} cpu, torch's fused Adam": at(stage, **{f"{OO}.device": "cpu"}) for stage in (1, 2, 3)},
    **{
        f"stage {stage} Adagrad": at(stage, optimizer={"type": "Adagrad", "params": {"lr": 0.01}})
        for stage in (1, 2, 3)
    },
    "stage 0 Adagrad in fp32": at(0, optimizer={"type": "Adagrad", "params": {"lr": 0.01}}, **{"bf16.enabled": False}),
    "parameters and optimizer on the CPU": at(3, **CPU, **{f"{OP}.device": "cpu"}),
    "parameters alone on the CPU": at(3, **{f"{OP}.device": "cpu"}),
    **{f"bf16 masters {stage}": at(stage, **CPU, **{MASTERS: True}) for stage in (1, 2, 3)},
    **{f"bf16 masters and states {stage}": at(stage, **{MASTERS: True, STATES: True}) for stage in (1, 2, 3)},
    **{
        f"bf16 masters and states {stage} cpu": at(stage, **CPU, **{MASTERS: True, STATES: True}) for stage in (1, 2, 3)
    },
    "torch_autocast": at(2, **{"bf16": {}, "torch_autocast": {"enabled": True, "dtype": "bfloat16"}}),
    "accumulating in fp32": at(1, gradient_accumulation_steps=3, **{"data_types.grad_accum_dtype": "fp32"}),
    "accumulating at stage 2 cpu": at(2, gradient_accumulation_steps=3, **CPU),
    "the triangle": at(2, train_batch_size=8, train_micro_batch_size_per_gpu=2, gradient_accumulation_steps=4),
    "no clipping": at(2, gradient_clipping=0, **{f"{Z}.compute_grad_norm": False}),
    "overlap": at(2, **CPU, **{f"{Z}.overlap_comm": True, f"{Z}.round_robin_gradients": True}),
    "small sizes": at(
        3,
        **CPU,
        **{
            f"{Z}.reduce_bucket_size": 10,
            f"{Z}.sub_group_size": 10,
            f"{Z}.stage3_prefetch_bucket_size": 0,
            f"{Z}.stage3_max_live_parameters": 0,
            f"{Z}.stage3_param_persistence_threshold": 0,
        },
    ),
    "one by one": at(3, **{f"{Z}.stage3_allgather_sequential": True, f"{Z}.memory_efficient_linear": False}),
    "prescaled": at(2, prescale_gradients=True, **{f"{Z}.reduce_scatter": False}),
    **{f"Muon {stage}": at(stage, **UNCLIPPED_MUON) for stage in (0, 1, 2)},
    "Muon 3": at(3, **UNCLIPPED_MUON, **{f"{Z}.reduce_scatter": False}),
    **{f"Muon {stage} cpu": at(stage, **UNCLIPPED_MUON, **{f"{OO}.device": "cpu"}) for stage in (1, 2)},
    "Muon 3 cpu": at(3, **UNCLIPPED_MUON, **{f"{OO}.device": "cpu", f"{Z}.reduce_scatter": False}),
    "Muon with two rates": at(
        2,
        **{**UNCLIPPED_MUON, "optimizer.params": {"lr": 0.01, "muon_lr": 0.02, "adam_lr": 0.01, "torch_adam": True}},
        **scheduler("WarmupLR", warmup_num_steps=1),
    ),
    "warm-up": at(2, **scheduler("WarmupLR", warmup_num_steps=1)),
    "warm-up and cosine": at(2, **scheduler("WarmupCosineLR", warmup_num_steps=1, total_num_steps=100)),
    "warm-up and decay": at(
        2, **scheduler("WarmupDecayLR", warmup_num_steps=1, warmup_max_lr=0.01, total_num_steps=100)
    ),
    "diagnostics": at(
        2,
        wall_clock_breakdown=True,
        memory_breakdown=True,
        steps_per_print=1,
        **{
            "flops_profiler": {"enabled": True, "output_file": "$SWAP/flops"},
            "csv_monitor": {"enabled": True, "output_path": "$SWAP"},
            "comms_logger.enabled": True,
        },
    ),
}
ON_NVME = {
    "optimizer on NVMe": at(3, **SWAPS),
    "optimizer on NVMe, pipelined": at(3, **SWAPS, **{f"{OO}.pipeline_read": True, f"{OO}.pipeline_write": True}),
    "optimizer on NVMe, parameters on the CPU": at(3, **SWAPS, **{f"{OP}.device": "cpu"}),
    "optimizer and parameters on NVMe": at(3, **SWAPS, **PARAMETERS),
}
ALLOWED |= ON_NVME
"""What is large enough to be swapped."""
