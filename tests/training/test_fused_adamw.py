"""Adam in one pass over host memory: DeepSpeed's three to the bit, compiled once, done without if need be."""

import copy
import itertools
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from deepspeed.ops.adam import DeepSpeedCPUAdam

from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.deepspeed_json import to_deepspeed_json
from launcher.machine.toolchain import extensions_folder
from launcher.train.extensions import build_optimizer
from launcher.train.offload import fused_adamw
from launcher.train.offload.fused_adamw import FusedAdamW

VECTOR = 16
"""Elements of DeepSpeed's widest vectors: of what remains its compiler fuses other products."""
SIZES = (1, VECTOR - 1, VECTOR, 1000, 4099, 100_003)
SETTINGS = list(itertools.product((True, False), (True, False), (0.0, 0.01)))


@pytest.fixture(scope="module")
def fused() -> FusedAdamW:
    loaded = fused_adamw.load()
    assert isinstance(loaded, FusedAdamW), loaded
    return loaded


def masters(count: int) -> torch.Tensor:
    """Weights, some of them denormal."""
    values = torch.randn(count)
    values[: count // 7] *= 1e-39
    return values


def gradients(count: int, step: int) -> torch.Tensor:
    """Of all magnitudes; some are zero, or too small to square; at step 4 some are not finite."""
    values = torch.randn(count) * 10.0 ** torch.randint(-6, 3, (count,))
    values[::5] = 0
    values[1::97] = 1e-40
    values[2::97] = 1e-22
    if step == 4:
        values[3::1000] = math.inf
        values[4::1000] = -math.inf
        values[6::1000] = math.nan
    return values


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """As integers; every NaN the same."""
    integers = tensor.detach().view(torch.int32 if tensor.dtype == torch.float32 else torch.int16)
    return integers.masked_fill(tensor.isnan(), -1)


class Stock:
    """What DeepSpeed's step does with a partition on the CPU: clip, update, copy."""

    def __init__(self, start: torch.Tensor, *, adam_w_mode: bool, bias_correction: bool, weight_decay: float) -> None:
        self.master = torch.nn.Parameter(start.clone())
        self.weights = start.bfloat16()
        self.optimizer = DeepSpeedCPUAdam(
            [self.master],
            lr=1e-3,
            weight_decay=weight_decay,
            bias_correction=bias_correction,
            adamw_mode=adam_w_mode,
        )

    def step(self, gradient: torch.Tensor, scale: float) -> None:
        self.master.grad = gradient.to(torch.float32, copy=True)
        self.master.grad.mul_(torch.tensor(scale))
        self.optimizer.step()
        self.weights.copy_(self.master.data)

    @property
    def state(self) -> dict:
        return self.optimizer.state[self.master]

    @property
    def group(self) -> dict:
        return self.optimizer.param_groups[0]


def require_equal(stock: Stock, master: torch.Tensor, state: dict, weights: torch.Tensor) -> None:
    pairs = [(stock.master, master), *((stock.state[name], state[name]) for name in ("exp_avg", "exp_avg_sq"))]
    whole = master.numel() // VECTOR * VECTOR
    for theirs, ours in pairs:
        assert torch.equal(bits(theirs[:whole]), bits(ours[:whole]))
        torch.testing.assert_close(ours[whole:], theirs.data[whole:], rtol=1e-5, atol=1e-9, equal_nan=True)
    assert torch.equal(bits(weights), bits(master.bfloat16()))
    assert torch.equal(bits(weights[:whole]), bits(stock.weights[:whole]))
    assert state.keys() == stock.state.keys()
    assert state["step"] == stock.state["step"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize(("adam_w_mode", "bias_correction", "weight_decay"), SETTINGS)
def test_it_is_deepspeeds_three_passes_to_the_bit(fused, adam_w_mode, bias_correction, weight_decay, dtype):
    torch.manual_seed(0)
    for count in SIZES:
        start = masters(count)
        stock = Stock(start, adam_w_mode=adam_w_mode, bias_correction=bias_correction, weight_decay=weight_decay)
        master, state, weights = start.clone(), {}, torch.empty(count, dtype=torch.bfloat16)
        for step in range(1, 7):
            gradient = gradients(count, step).to(dtype)
            scale = 1.0 if step == 3 else 0.37 / step
            stock.group["lr"] = 1e-3 / step
            stock.step(gradient, scale)
            kept = gradient.clone()
            fused.update(
                master,
                gradient,
                state,
                stock.group,
                adam_w_mode=adam_w_mode,
                scale=scale,
                weights_out=weights,
                threads=1 + step % 3,
            )
            require_equal(stock, master, state, weights)
            assert torch.equal(bits(gradient), bits(kept))


def test_a_run_that_continues_takes_the_same_steps(fused):
    torch.manual_seed(0)
    count = 4096
    start = masters(count)
    stock = Stock(start, adam_w_mode=True, bias_correction=True, weight_decay=0.01)
    for step in range(1, 4):
        stock.step(gradients(count, step), 1.0)
    master, state, weights = stock.master.detach().clone(), copy.deepcopy(stock.state), stock.weights.clone()
    for step in range(5, 8):
        gradient = gradients(count, step)
        stock.step(gradient, 1.0)
        fused.update(master, gradient, state, stock.group, adam_w_mode=True, weights_out=weights)
        require_equal(stock, master, state, weights)


def test_weights_are_written_wherever_they_begin_and_nowhere_else(fused):
    torch.manual_seed(0)
    group = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "bias_correction": True}
    for offset, count in itertools.product(range(9), (1, 7, 8, 300, 1024)):
        room = torch.full((offset + count + 9,), 7.0, dtype=torch.bfloat16)
        master = torch.randn(count)
        fused.update(master, torch.randn(count), {}, group, adam_w_mode=True, weights_out=room[offset : offset + count])
        assert torch.equal(room[offset : offset + count], master.bfloat16())
        assert (room[:offset] == 7).all() and (room[offset + count :] == 7).all()


def test_to_bf16_it_rounds_as_torch_does(fused):
    """Every fp32 that lies at, just below and just above the middle of two bf16."""
    high = torch.arange(2**16, dtype=torch.int64).view(-1, 1) << 16
    values = (high + torch.tensor([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF])).view(-1).to(torch.int32).view(torch.float32)
    master, weights = values.clone(), torch.empty(len(values), dtype=torch.bfloat16)
    group = {"lr": 0.0, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "bias_correction": True}
    fused.update(master, torch.zeros(len(values)), {}, group, adam_w_mode=True, weights_out=weights)
    assert torch.equal(bits(master), bits(values))
    assert torch.equal(bits(weights), bits(values.bfloat16()))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"master": torch.zeros(8, dtype=torch.bfloat16)}, "master must be 8 contiguous elements of torch.float32"),
        ({"gradient": torch.zeros(7)}, "gradient must be 8 contiguous elements of torch.float32 or torch.bfloat16"),
        ({"gradient": torch.zeros(16)[::2]}, "strides (2,)"),
        ({"gradient": torch.zeros(8, device="meta")}, "gradient must be 8 .* on meta"),
        ({"weights_out": torch.zeros(8)}, "weights_out must be 8 contiguous elements of torch.bfloat16"),
        (
            {"state": {"step": 1, "exp_avg": torch.zeros(8, dtype=torch.bfloat16), "exp_avg_sq": torch.zeros(8)}},
            "exp_avg must be 8 contiguous elements of torch.float32",
        ),
    ],
)
def test_what_it_cannot_update_is_refused_before_anything_changes(fused, wrong, named):
    group = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "bias_correction": True}
    given = {"master": torch.ones(8), "gradient": torch.ones(8), "state": {}, **wrong}
    before = copy.deepcopy(given["state"])
    with pytest.raises(ValueError, match=re.escape(named).replace(r"\.\*", ".*")):
        fused.update(group=group, adam_w_mode=True, **given)
    assert given["state"].get("step") == before.get("step")
    assert given["state"].keys() == before.keys()
    assert given["master"].float().unique().numel() == 1


# compiling


def compiler(folder: Path, script: str) -> str:
    """A compiler that does as a script says."""
    written = folder / "compiler"
    written.write_text(f"#!/bin/sh\n{script}\n")
    written.chmod(0o755)
    return str(written)


def test_it_is_compiled_once_for_a_compiler_and_what_it_is_told(tmp_path, monkeypatch):
    for command, files in (("c++", 1), ("c++", 1), ("c++ -DOTHER", 2)):
        monkeypatch.setenv("CXX", command)
        assert isinstance(fused_adamw.load(tmp_path / "cache"), FusedAdamW)
        assert len(list((tmp_path / "cache").iterdir())) == files


def test_two_processes_that_compile_at_once_both_get_it(tmp_path, monkeypatch):
    """Each compiles only once the other does too."""
    (tmp_path / "compiling").mkdir()
    both = f"""case "$*" in *-dM*) exec c++ "$@" ;; esac
touch {tmp_path}/compiling/$$
while [ $(ls {tmp_path}/compiling | wc -l) -lt 2 ]; do sleep 0.05; done
exec c++ "$@" """
    monkeypatch.setenv("CXX", compiler(tmp_path, both))
    cache = tmp_path / "cache"
    code = f"""
from pathlib import Path
from launcher.train.offload import fused_adamw
print(fused_adamw.load(Path({str(cache)!r})))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert isinstance(fused_adamw.load(cache), FusedAdamW)
        told, _ = other.communicate(timeout=120)
    assert "FusedAdamW object" in told
    assert [one.suffix for one in cache.iterdir()] == [".so"]


def test_without_a_compiler_it_says_so(tmp_path, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert fused_adamw.load(tmp_path / "cache") == "c++: No such file or directory"


def test_a_compiler_that_fails_is_quoted_and_leaves_nothing(tmp_path, monkeypatch):
    fails = """case "$*" in *-dM*) exit 0 ;; esac
echo 'In file included from here:' >&2; echo 'adamw.cpp:9: fatal error: cmath: No such file' >&2; exit 1"""
    monkeypatch.setenv("CXX", compiler(tmp_path, fails))
    assert fused_adamw.load(tmp_path / "cache") == "adamw.cpp:9: fatal error: cmath: No such file"
    monkeypatch.setenv("CXX", compiler(tmp_path, "exit 3"))
    assert fused_adamw.load(tmp_path / "cache") == f"{tmp_path}/compiler ended with 3"
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_library_that_does_not_load_is_named(tmp_path):
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    assert isinstance(fused_adamw.load(whole), FusedAdamW)
    (library,) = whole.iterdir()
    torn.mkdir()
    (torn / library.name).touch()
    assert fused_adamw.load(torn) == f"{torn}/{library.name}: file too short"


# before training


@pytest.fixture
def own_extensions(tmp_path, monkeypatch) -> Path:
    """A folder of extensions in which only DeepSpeed's CPU Adam is compiled."""
    (tmp_path / "cpu_adam").symlink_to(extensions_folder() / "cpu_adam")
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    return tmp_path


def config_of(optimizer: str) -> dict:
    settings = DeepSpeedSettings(optimizer_type=optimizer, offload_optimizer_device="cpu")
    return to_deepspeed_json(settings, train_batch_size=1, learning_rate=1e-3, warmup_steps=1, total_steps=1)


@pytest.mark.usefixtures("fused")
def test_a_launch_compiles_it_for_adam_with_offload_alone(own_extensions, alone, report):
    build_optimizer(config_of("Muon"), alone, report)
    assert not (own_extensions / "fused_adamw").exists()
    build_optimizer(config_of("AdamW"), alone, report)
    assert [one.suffix for one in (own_extensions / "fused_adamw").iterdir()] == [".so"]
    assert report.events == []


def test_where_it_does_not_compile_the_configuration_stays_and_the_person_is_told(own_extensions, alone, report):
    (own_extensions / "fused_adamw").write_text("in the way")
    config = config_of("AdamW")
    assert build_optimizer(config, alone, report) == config
    (warning,) = report.warnings
    assert f"does not compile here ({own_extensions}/fused_adamw: File exists)" in warning
    assert "apt install g++" in warning
