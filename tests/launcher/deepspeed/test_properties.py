"""Whatever comes in, a configuration or named problems come out, and a second time changes nothing."""

import json
from copy import deepcopy
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher.config.setting import Level
from launcher.deepspeed.fields import FIELDS, LEFT_OUT, SECTIONS, Kind
from launcher.deepspeed.installed import TESTED
from launcher.deepspeed.normalise import normalise
from launcher.deepspeed.opening import open_bytes, open_inline
from launcher.deepspeed.other_names import MOVED
from launcher.deepspeed.rules import judge
from launcher.deepspeed.run_facts import RunFacts
from launcher.deepspeed.view import ABSENT

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
THOROUGH = settings(max_examples=5000, deadline=None, suppress_health_check=list(HealthCheck))

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-3, 10)
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        ["auto", "none", "cpu", "nvme", "zero3", "2e6", "1e-4", "true", "", " ", "bf16", "AdamW", "OneCycle"]
    )
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab.", min_size=1, max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
PATHS = sorted(
    {*FIELDS, *SECTIONS, *LEFT_OUT, *(moved.old for moved in MOVED), "zero_optimization", "mine", "mine.own"}
)


def nested(values: dict[str, object]) -> dict[str, object]:
    config: dict = {}
    for path, value in values.items():
        *above, key = path.split(".")
        section = config
        for name in above:
            inner = section.setdefault(name, {})
            if not isinstance(inner, dict):
                break
            section = inner
        else:
            section[key] = value
    return config


CONFIGS = st.dictionaries(st.sampled_from(PATHS), VALUES, max_size=12).map(nested)
RUNS = st.builds(
    RunFacts,
    world_size=st.integers(1, 4),
    train_batch_size=st.integers(1, 8),
    gradient_accumulation_steps=st.integers(1, 4),
    gradient_clipping=st.sampled_from([0.0, 1.0]),
    lr_warmup_steps=st.integers(0, 10),
    mixed_precision=st.sampled_from(["no", "bf16", "fp16"]),
    offload_param_path=st.sampled_from(["", "/nvme"]),
    device=st.sampled_from(["cuda", "cpu"]),
)


def unknown(config: object, path: str = "") -> dict[str, object]:
    """Everything below keys that nobody knows."""
    found: dict[str, object] = {}
    if isinstance(config, dict) and (not path or path in SECTIONS):
        for key, value in config.items():
            inner = f"{path}.{key}" if path else key
            known = inner in FIELDS or inner in SECTIONS or inner in TESTED.removed
            if "." not in key and (known or any(moved.old == inner for moved in MOVED)):
                found |= unknown(value, inner)
            elif path not in ("optimizer.params", "scheduler.params"):
                found[inner] = value
    return found


def holds(config: dict, run: RunFacts) -> None:
    before = deepcopy(config)
    done = normalise(config, run, TESTED)
    assert config == before
    again = normalise(done.config, run, TESTED)
    assert again.changes == ()
    assert json.dumps(again.config) == json.dumps(done.config)
    assert unknown(before).items() <= unknown(done.config).items()
    for problem in (*done.problems, *judge(before, run, TESTED)):
        assert problem.field
        assert problem.message
        assert "\n" not in problem.message
    for change in done.changes:
        assert change.before != change.after or type(change.before) is not type(change.after)


@QUICK
@given(CONFIGS, RUNS)
def test_any_configuration_is_set_right_or_refused_and_then_stays(config, run):
    holds(config, run)


@pytest.mark.exhaustive
@THOROUGH
@given(CONFIGS, RUNS)
def test_any_configuration_is_set_right_or_refused_and_then_stays_thoroughly(config, run):
    holds(config, run)


def opens(data: bytes) -> None:
    opened = open_bytes(data, Path("/nowhere"))
    if opened.config is None:
        assert [problem for problem in opened.problems if problem.level is Level.ERROR]
        assert all(problem.message and problem.field for problem in opened.problems)
    else:
        holds(opened.config, RunFacts())
        json.dumps(opened.config, allow_nan=False, ensure_ascii=False).encode()


TEXTS = st.one_of(
    st.binary(max_size=80),
    st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")),
    VALUES.map(lambda value: json.dumps(value).encode()),
    CONFIGS.map(lambda config: json.dumps({"deepspeed_config": config}).encode()),
    CONFIGS.map(lambda config: json.dumps({"--deepspeed_config": repr(config)}).encode()),
    CONFIGS.map(lambda config: json.dumps({"distributed_type": "DEEPSPEED", "deepspeed_config": config}).encode()),
    st.tuples(CONFIGS, st.integers(0, 200)).map(lambda cut: json.dumps(cut[0]).encode()[: cut[1]]),
    st.tuples(CONFIGS, st.integers(0, 200), st.binary(max_size=3)).map(
        lambda spoilt: (text := json.dumps(spoilt[0]).encode())[: spoilt[1]] + spoilt[2] + text[spoilt[1] :]
    ),
    CONFIGS.map(lambda config: json.dumps(config).encode("utf-16")),
    CONFIGS.map(lambda config: b"\xef\xbb\xbf" + json.dumps(config).encode()),
)


@QUICK
@given(TEXTS)
def test_any_bytes_open_or_say_why_not(data):
    opens(data)


@pytest.mark.exhaustive
@THOROUGH
@given(TEXTS)
def test_any_bytes_open_or_say_why_not_thoroughly(data):
    opens(data)


@QUICK
@given(VALUES | st.text(max_size=30))
def test_any_inline_value_opens_or_says_why_not(value):
    opened = open_inline(value, Path("/nowhere"))
    assert (opened.config is None) == bool(opened.problems)


def valid_values(path: str) -> st.SearchStrategy:
    field = FIELDS[path]
    if field.choices:
        return st.sampled_from(field.choices)
    low, high = field.minimum, field.maximum
    return {
        Kind.BOOL: st.booleans(),
        Kind.INT: st.integers(int(low or 0), int(high or 10**9)),
        Kind.FLOAT: st.floats(low or 0, high or 10.0, allow_nan=False),
        Kind.NUMBERS: st.lists(st.floats(0, 0.999), min_size=2, max_size=2),
        Kind.TEXTS: st.lists(st.sampled_from(["Linear", "x"]), max_size=2),
    }.get(field.kind, st.sampled_from(["a", "b"]))


@pytest.mark.parametrize("path", FIELDS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_value_within_its_bounds_has_no_fault_and_is_not_changed(path, data):
    value = data.draw(valid_values(path))
    assert FIELDS[path].fault(value) is None
    config = nested({path: value})
    done = normalise(config, RunFacts(), TESTED)
    touched = {change.field for change in done.changes if change.before is not ABSENT}
    # What a class does not take goes, and so do names it has not; both are tests of their own.
    if not path.startswith(("optimizer.", "scheduler.")):
        assert touched == set()
