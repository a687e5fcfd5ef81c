"""ZeRO with an Adam on the CPU: the launcher's optimizers train what DeepSpeed's own train, to the bit.

With clipping, not to the bit: DeepSpeed adds up norms in another order, so that the factor's last bit may differ. Some
parameters are greater than a bucket, buckets span groups, and on two ranks partitions end in the midst of parameters.
"""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from deepspeed.runtime.zero.partition_parameters import GatheredParameters
from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

from harness.many_offloads import resumes
from harness.offloads import GROUP_ELEMENTS, new_engine, take_steps, trained
from harness.ranks import run_ranks
from harness.small_engines import distance, masters
from launcher.config.engine import parameter_groups
from launcher.config.nested import with_overrides
from launcher.config.training import EmaSettings
from launcher.runs.checkpoints import Identity, to_resume, why_not_resumed
from launcher.runs.converting import conversion
from launcher.train import ema
from launcher.train.checkpoint import Checkpoints
from launcher.train.convert import convert
from launcher.train.extensions import TORCH_ADAM
from launcher.train.groups import split_groups
from launcher.train.offload import gradients, optimizers

STEPS = 4
OURS = {"DeepSpeedZeroOptimizer": "Stage1And2", "DeepSpeedZeroOptimizer_Stage3": "Stage3"}
ON_CPU = {"offload_param_device": "cpu"}
UNPINNED = {"offload_optimizer_pin_memory": False}
UNDECAYED = {"exclude": "norms_and_biases", "weight_decay": 0.5}
CASES = {
    "stage 1": {"stage": 1},
    "stage 1, overlapped, accumulation": {"stage": 1, "overlap_comm": True, "accumulation": 4},
    "stage 1, fp32, accumulation, not pinned": {"stage": 1, "precision": "no", "accumulation": 2, **UNPINNED},
    "stage 2, overlapped": {"stage": 2, "overlap_comm": True},
    "stage 2, accumulation, not pinned": {"stage": 2, "overlap_comm": False, "accumulation": 4, **UNPINNED},
    "stage 2, overlapped, accumulation": {"stage": 2, "overlap_comm": True, "accumulation": 4},
    "stage 2, fp32": {"stage": 2, "precision": "no"},
    "stage 2, undecayed norms and biases": {"stage": 2, **UNDECAYED},
    "stage 2, a frozen layer, one never used": {
        "stage": 2,
        "frozen": True,
        "unused": [(step, 0) for step in range(STEPS)],
    },
    "stage 2, all in one bucket": {"stage": 2, "reduce_bucket_size": 10**6, "accumulation": 2},
    "stage 2, reduced to all": {"stage": 2, "overrides": {"zero_optimization.reduce_scatter": False}},
    "stage 3": {"stage": 3},
    "stage 3, parameters on the CPU, accumulation": {"stage": 3, "accumulation": 4, **ON_CPU},
    "stage 3, fp32, parameters on the CPU": {"stage": 3, "precision": "no", **ON_CPU},
    "stage 3, accumulation, not pinned": {"stage": 3, "accumulation": 2, **UNPINNED, **ON_CPU},
    "stage 3, each gradient where it is": {"stage": 3, "overrides": {"zero_optimization.contiguous_gradients": False}},
    "stage 3, undecayed norms and biases, frozen": {"stage": 3, "frozen": True, **UNDECAYED, **ON_CPU},
}
CLIPPED = {
    f"stage {stage}, clipped": {"stage": stage, "gradient_clipping": 0.05, "accumulation": stage, **where}
    for stage, where in ((1, {}), (2, {}), (3, ON_CPU))
}
BAD = {
    f"stage {stage}, {value}, {precision}, accumulation {accumulation}": {
        "stage": stage,
        "precision": precision,
        "accumulation": accumulation,
        "bad": [1, 0, 0, value],
        **(ON_CPU if stage == 3 else {}),
    }
    for stage, value, precision, accumulation in (
        (1, "nan", "bf16", 1),
        (2, "inf", "bf16", 2),
        (2, "nan", "no", 1),
        (3, "nan", "bf16", 2),
        (3, "inf", "no", 1),
    )
}
ON_TWO_RANKS = {
    "stage 1": {"stage": 1, "accumulation": 2},
    "stage 2": {"stage": 2, "overlap_comm": True},
    "stage 2, all in one bucket": {"stage": 2, "overlap_comm": False, "reduce_bucket_size": 10**6, **UNDECAYED},
    "stage 2, clipped": {"stage": 2, "gradient_clipping": 0.05},
    "stage 2, not a number on one rank": {"stage": 2, "bad": [1, 0, 1, "nan"]},
    "stage 3": {"stage": 3, "accumulation": 2, **ON_CPU},
    "stage 3, clipped": {"stage": 3, "gradient_clipping": 0.05},
    "stage 3, not a number on one rank": {"stage": 3, "bad": [1, 0, 1, "nan"]},
}
MISSING = [(1, 0), (1, 1), (2, 2)]
"""Micro-batches, of three a step, that a layer has no part in."""
ADDED_UP = {
    "bf16": {"overlap_comm": True, "accumulation": 3},
    "fp32, not pinned": {"precision": "no", "accumulation": 4, **UNPINNED},
    "fp32, all in one bucket": {"precision": "no", "accumulation": 2, "reduce_bucket_size": 10**6},
    "fp32, a frozen layer, undecayed": {"precision": "no", "accumulation": 2, "frozen": True, **UNDECAYED},
    "fp32, clipped": {"precision": "no", "accumulation": 3, "gradient_clipping": 0.05},
    "fp32, not a number on one rank": {"precision": "no", "accumulation": 3, "bad": [1, 0, 1, "nan"]},
    # With offload DeepSpeed's own counts what misses otherwise.
    "fp32, a layer that misses": {
        **{"precision": "no", "accumulation": 3, "unused": MISSING, "overlap_comm": True},
        "theirs": {"offload_optimizer_device": "none", "overlap_comm": False},
    },
}
"""At stage 2: each rank does it by itself, where DeepSpeed averages each micro-batch, so that sums round otherwise."""
RESUMED = {f"stage {stage}": {"stage": stage, **(ON_CPU if stage == 3 else {})} for stage in (1, 2, 3)}
RESUMED_BY_TWO = {**RESUMED, "stage 2, accumulation": {"stage": 2, "accumulation": 3}}


def both(world, **case) -> list[dict]:
    return [trained(world, ours=ours, steps=STEPS, **case) for ours in (True, False)]


def assert_alike(mine: dict, theirs: dict, *, bits: bool = True) -> None:
    """``bits``: whether no last bit may differ."""
    assert mine["class"] == OURS[theirs["class"]]
    assert mine["groups"] == theirs["groups"] > 1
    assert mine["updated"] == theirs["updated"]
    assert mine["norms"] == pytest.approx(theirs["norms"], rel=1e-6)
    if bits:
        assert mine["losses"] == theirs["losses"]
        for part in ("gradients", "after"):
            assert mine[part].keys() == theirs[part].keys()
            assert all(torch.equal(tensor, theirs[part][name]) for name, tensor in mine[part].items())
    moved = distance(theirs["after"], theirs["before"])
    assert moved > 0.3
    assert distance(mine["after"], theirs["after"]) <= 1e-5 * moved


@pytest.mark.parametrize("name", CASES)
def test_it_trains_what_deepspeeds_own_does_to_the_bit(name, group):
    assert_alike(*both(group, **CASES[name]))


@pytest.mark.parametrize("name", CLIPPED)
def test_clipped_too_but_for_rounding(name, group):
    mine, theirs = both(group, **CLIPPED[name])
    assert min(theirs["norms"]) > 0.05
    assert_alike(mine, theirs, bits=False)


def test_what_is_one_piece_on_the_host_leaves_a_bucket_in_one_copy(group, monkeypatch):
    copies, merge = [], gradients.merge

    def counted(pieces, at_most):
        made = list(merge(pieces, at_most))
        copies.extend(made)
        return made

    monkeypatch.setattr(gradients, "merge", counted)
    engine, module = new_engine(2, reduce_bucket_size=10**6)
    take_steps(group, engine, module, 1)
    assert len(copies) == len(engine._optimizer.optimizer.param_groups) < len(list(module.parameters()))


@pytest.fixture(scope="module")
def two_ranks(extensions, tmp_path_factory):
    folder = tmp_path_factory.mktemp("offloads")
    added_up = {name: {"stage": 2, **case} for name, case in ADDED_UP.items()}
    cases = {name: {"steps": STEPS, **case} for name, case in (ON_TWO_RANKS | added_up).items()}
    run_ranks("harness.many_offloads", {"cases": cases, "resumes": RESUMED_BY_TWO}, folder, 2)
    return folder


@pytest.mark.parametrize("name", ON_TWO_RANKS)
def test_two_ranks_do_so_as_well(name, two_ranks):
    mine, theirs = torch.load(two_ranks / f"{name}.pt")
    assert_alike(mine, theirs, bits="clipped" not in name)
    assert mine["cut"] is ("stage 3" not in name)
    assert mine["updated"].count(False) == ("not a number" in name)


@pytest.mark.parametrize("name", ADDED_UP)
def test_two_ranks_add_up_what_deepspeed_averages_in_every_micro_batch(name, two_ranks):
    mine, theirs = torch.load(two_ranks / f"{name}.pt")
    assert (mine["class"], mine["cut"], mine["updated"]) == ("Stage1And2", True, theirs["updated"])
    assert mine["updated"].count(False) == ("not a number" in name)
    micro_batches = ADDED_UP[name]["accumulation"]
    assert [bool(number) for number in mine["reduced"]] == ([False] * (micro_batches - 1) + [True]) * STEPS
    losses, norms, masters = (5e-3, 1e-3, 1e-2) if name == "bf16" else (1e-5, 1e-5, 1e-4)
    assert mine["losses"] == pytest.approx(theirs["losses"], rel=losses)
    assert mine["norms"] == pytest.approx([float(norm) for norm in theirs["norms"]], rel=norms)
    moved = distance(theirs["after"], theirs["before"])
    assert moved > 0.3
    assert distance(mine["after"], theirs["after"]) <= masters * moved


def test_two_ranks_resume_to_the_bit(two_ranks):
    assert json.loads((two_ranks / "resumed.json").read_text()) == dict.fromkeys(RESUMED_BY_TWO, True)


def test_memory_that_ranks_reduce_in_goes_with_them(two_ranks):
    assert json.loads((two_ranks / "left.json").read_text()) == []


@pytest.mark.parametrize("name", BAD)
def test_a_step_whose_gradients_are_not_finite_is_left_out(name, group):
    case = BAD[name]
    assert_alike(*both(group, **case))
    engine, module = new_engine(**{key: case[key] for key in case.keys() - {"bad", "accumulation"}})
    take_steps(group, engine, module, 1)
    before = masters(engine)
    told = take_steps(group, engine, module, 1, first=1, bad=case["bad"])
    assert (told["norms"], told["updated"]) == ([float("inf")], [False])
    assert all(torch.equal(master, before[name]) for name, master in masters(engine).items())


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_where_deepspeed_is_told_not_to_look_one_bad_element_spoils_no_more_than_itself(value, group):
    ignored = {"overrides": {"bf16.check_grad_overflow": False}, "bad": [3, 0, 0, value]}
    mine, theirs = both(group, stage=2, gradient_clipping=0.05, **ignored)
    assert mine["updated"] == theirs["updated"] == [True] * STEPS
    assert mine["norms"][-1] == float("inf")
    spoilt = {name for name, master in theirs["after"].items() if not bool(master.isfinite().all())}
    assert 0 < len(spoilt) < len(theirs["after"])
    for name, master in theirs["after"].items():
        assert torch.equal(mine["after"][name].isnan(), master.isnan()), name


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("missing", [[(1, 0)], [(1, 2)], [(1, 0), (1, 1), (1, 2), (2, 1)]], ids=str)
def test_a_layer_that_misses_in_micro_batches_counts_as_at_deepspeeds_stage_2_without_offload(stage, missing, group):
    """With offload, or at stage 3, DeepSpeed adds the gradient of the step before, or leaves one out."""
    # Overlapped, stage 1 leaves out what has no gradient in the last micro-batch.
    case = {"precision": "no", "accumulation": 3, "unused": missing, "steps": STEPS, "overlap_comm": False}
    mine = trained(group, stage=stage, **case)
    theirs = trained(group, stage=2, offload_optimizer_device="none", **case)
    assert mine["norms"] == pytest.approx([float(norm) for norm in theirs["norms"]], rel=1e-5)
    assert distance(mine["after"], theirs["after"]) <= 1e-4 * distance(theirs["after"], theirs["before"])


ELSEWHERE = {
    "Lion": {"stage": 2, "optimizer_type": "Lion"},
    "Adagrad": {"stage": 2, "optimizer_type": "Adagrad"},
    "Adagrad without offload": {"stage": 2, "optimizer_type": "Adagrad", "offload_optimizer_device": "none"},
    "torch's Adam": {"stage": 2, "overrides": TORCH_ADAM},
    "a part on the GPU": {"stage": 3, "overrides": {"zero_optimization.offload_optimizer.ratio": 0.5}},
    "masters in bf16": {
        "stage": 2,
        "overrides": {"bf16.bf16_master_weights_and_grads": True, "bf16.bf16_optimizer_states": True},
    },
    "gradients in fp32": {"stage": 2, "overrides": {"data_types.grad_accum_dtype": "fp32"}},
}

COMPILED = ("Lion", "Adagrad")
"""Each waits a minute for an extension that nothing else trains with."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.exhaustive] * (name in COMPILED)) for name in ELSEWHERE]
)
def test_deepspeeds_own_trains_where_ours_does_not_stand_in(name, group):
    told = trained(group, steps=STEPS, **ELSEWHERE[name])
    assert told["class"] in OURS
    assert distance(told["after"], told["before"]) > 0.1


def test_deepspeeds_own_trains_in_fp16_and_where_nothing_compiles(group, monkeypatch):
    monkeypatch.setattr(optimizers, "load", lambda: "there is no compiler")
    assert trained(group, stage=3)["class"] == "DeepSpeedZeroOptimizer_Stage3"
    monkeypatch.undo()
    assert trained(group, stage=3)["class"] == "Stage3"
    monkeypatch.setattr(type(optimizers.engine.get_accelerator()), "is_fp16_supported", lambda self: True)
    engine, _ = new_engine(2, precision="fp16")
    assert type(engine._optimizer).__name__ == "DeepSpeedZeroOptimizer"


@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        (0, {}),
        (2, {"optimizer.type": "Muon"}),
        (3, {"zero_optimization.offload_optimizer.device": "nvme"}),
        (3, {"zero_optimization.offload_param": {"device": "nvme"}}),
        (3, {"zero_optimization.offload_optimizer.super_offload": True}),
        (2, {"zero_optimization.zenflow": {}}),
    ],
    ids=str,
)
def test_nothing_is_replaced_elsewhere_either(stage, changes):
    """What trains there is in test_muon, test_universal and test_resume."""
    zero = {"stage": stage, "offload_optimizer": {"device": "cpu"}}
    config = with_overrides({"zero_optimization": zero, "optimizer": {"type": "AdamW"}}, changes)
    before = optimizers.engine.DeepSpeedZeroOptimizer, optimizers.stage3.DeepSpeedZeroOptimizer_Stage3
    with optimizers.replacing_deepspeeds(config):
        assert (optimizers.engine.DeepSpeedZeroOptimizer, optimizers.stage3.DeepSpeedZeroOptimizer_Stage3) == before


@pytest.mark.parametrize("name", RESUMED)
def test_many_groups_resume_to_the_bit(name, group, tmp_path):
    assert resumes(group, tmp_path, **RESUMED[name])


def test_a_moving_average_lies_in_the_order_of_the_groups(group, report, tmp_path):
    begin = partial(ema.begin, settings=EmaSettings(use_ema=True, ema_decay=0.5), world=group, report=report)
    engine, module = new_engine(2)
    average = begin(engine, checkpoint=None)
    take_steps(group, engine, module, STEPS)
    mine = replace(IDENTITY, parameter_groups="some")
    Checkpoints(tmp_path, 2, mine, group, report).save(engine, STEPS, average=average)
    with average.exchanged():
        expected = masters(engine)
    assert distance(expected, masters(engine)) > 0.1
    again, _ = new_engine(2)
    found = to_resume(tmp_path, "latest")
    again.load(found.path)
    with begin(again, checkpoint=found).exchanged():
        assert all(torch.equal(master, expected[name]) for name, master in masters(again).items())


IDENTITY = Identity(
    zero_stage=2,
    precision="bf16",
    optimizer="AdamW",
    world_size=1,
    model="small",
    resolution=32,
    seed=1,
    global_batch_size=2,
    pictures=2,
)
"""As checkpoints said of themselves when all parameters were one group."""


@pytest.mark.parametrize("target", [{"stage": 2}, {"stage": 3, **ON_CPU}, {"stage": 3}], ids=str)
def test_a_checkpoint_of_one_group_is_converted_and_goes_on_the_same(target, group, report, tmp_path):
    old, module = new_engine(2, elements=None)
    take_steps(group, old, module, 3)
    path = Checkpoints(tmp_path, 2, IDENTITY, group, report).save(old, 3)
    found = to_resume(tmp_path, "latest")
    earlier = replace(found, facts={key: fact for key, fact in found.facts.items() if key != "parameter_groups"})
    mine = replace(IDENTITY, parameter_groups="up to 12,000 elements")
    for checkpoint in (found, earlier):
        why = why_not_resumed(checkpoint, mine)
        assert "parameter groups whole there, up to 12,000 elements here" in why
        assert f"To continue it with them, run: simpletuner-tui convert {path} - " in why
    convert(conversion(path, None), lambda done, total: None)
    converted = to_resume(tmp_path, "latest")
    assert converted.universal
    assert why_not_resumed(converted, replace(mine, zero_stage=target["stage"])) is None
    engine, other = new_engine(**target)
    assert len(engine.master_partitions()) > len(old.master_partitions()) == 1
    engine.load_universal(converted.path, converted.step)
    assert all(torch.equal(master, masters(old)[name]) for name, master in masters(engine).items())
    straight = take_steps(group, old, module, 2, first=3)
    assert take_steps(group, engine, other, 2, first=3)["losses"] == straight["losses"]
    assert all(torch.equal(master, masters(old)[name]) for name, master in masters(engine).items())


def test_masters_are_found_by_parameter_whatever_the_order_of_groups(group):
    _, module = new_engine(2, precision="no")
    for parameter in module.parameters():
        assert torch.equal(safe_get_full_fp32_param(parameter), parameter)


def test_alone_stage_3_tells_masters_and_states_where_they_lie(group):
    engine, module = new_engine(3, offload_param_device="cpu")
    take_steps(group, engine, module, 1)
    lies = {each.untyped_storage().data_ptr() for each in engine._optimizer.fp32_partitioned_groups_flat}
    for parameter in module.parameters():
        master = safe_get_full_fp32_param(parameter)
        assert master.untyped_storage().data_ptr() in lies, "it took no memory"
        with GatheredParameters(parameter):
            assert torch.equal(master.bfloat16(), parameter)
        mean = safe_get_full_optimizer_state(parameter, "exp_avg")
        assert mean.shape == master.shape
        assert mean.abs().sum() > 0


def test_groups_are_pieces_of_the_parameters_backwards():
    sizes = [4, 30, 9, 1, 2, 8]
    matrices = [torch.zeros(size, 1) for size in sizes]
    first, second = split_groups([{"params": matrices}, {"params": matrices[:1], "weight_decay": 0.0}], 10)[0::4]
    pieces = split_groups(matrices, 10)
    assert [[each.numel() for each in piece["params"]] for piece in pieces] == [[8, 2], [1, 9], [30], [4]]
    assert (len(first["params"]), second) == (2, {"params": matrices[:1], "weight_decay": 0.0})


def test_what_deepspeed_wants_whole_is_not_split():
    def of(kind: str, stage: int, device: str) -> int | None:
        zero = {"stage": stage, "offload_optimizer": {"device": device}}
        return parameter_groups({"zero_optimization": zero, "optimizer": {"type": kind}})

    split = [(kind, stage) for kind in ("AdamW", "Adagrad", "Muon") for stage in range(4) if of(kind, stage, "none")]
    assert split == [("AdamW", 1), ("AdamW", 2)]
    assert of("Adagrad", 2, "cpu") > GROUP_ELEMENTS
