"""A configuration goes back into the place it came from, and nothing around it changes."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.deepspeed.opening import open_file
from launcher.deepspeed.writing import as_json, into_file
from launcher.errors import InvalidInputError

STAGE_3 = {"zero_optimization": {"stage": 3}, "note": "größe"}
CONFIG_JSON = b"""{
    "--model_type": "full",
    "learning_rate": 1e-4,   "caf\\u00e9": [1,2],
    "--deepspeed_config": VALUE,

    "resolution":1024
}"""


def put(tmp_path, data: bytes, config=STAGE_3, name: str = "config.json") -> bytes:
    path = tmp_path / name
    path.write_bytes(data)
    home, content = into_file(path, config)
    home.write_bytes(content)
    assert open_file(path).config == config
    return content


def around(value: bytes) -> tuple[bytes, bytes, bytes]:
    before, after = CONFIG_JSON.split(b"VALUE")
    return before, value, after


def test_what_is_not_there_becomes_a_file_of_its_own(tmp_path):
    assert into_file(tmp_path / "new.json", STAGE_3) == (tmp_path / "new.json", as_json(STAGE_3).encode())
    assert put(tmp_path, b'{"bf16": {}}') == as_json(STAGE_3).encode()
    assert put(tmp_path, b"\xff no text") == as_json(STAGE_3).encode()


@pytest.mark.parametrize(
    "value",
    [
        b'{"zero_optimization": {"stage": 2}}',
        b'{\n        "zero_optimization": {"stage": 2}\n    }',
        b'"{\\"zero_optimization\\": {\\"stage\\": 2}}"',
        b'"{\\n  \\"bf16\\": {}\\n}"',
        b"\"{'zero_optimization': {'stage': 2},}\"",
        b'"zero2"',
        b'""',
        b"null",
        b"5",
    ],
)
@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_everything_around_it_stays_byte_for_byte(value, ends, mark, tmp_path):
    before, _, after = (mark * (not number) + part.replace(b"\n", ends) for number, part in enumerate(around(b"")))
    content = put(tmp_path, before + value.replace(b"\n", ends) + after)
    assert content.startswith(before)
    assert content.endswith(after)
    written = content[len(before) : len(content) - len(after)]
    assert b"\n" not in written.replace(ends, b"")
    is_text = value.startswith(b'"{')
    assert written.startswith(b'"{' if is_text else b"{"), "text stays text"
    assert (b"'zero_optimization'" in written) == (b"'zero" in value), "a Python literal stays one"
    if not is_text:
        assert (b"\n" in written) == (b"\n" in value or not value.startswith(b"{")), "lines stay lines"


def test_it_is_indented_as_its_file_is(tmp_path):
    content = put(tmp_path, b'{\n\t"deepspeed_config": {\n\t\t"a": 1\n\t}\n}').decode()
    assert content.startswith('{\n\t"deepspeed_config": {\n\t\t"zero_optimization": {\n\t\t\t"stage": 3\n\t\t},\n')
    assert content.endswith("\n\t}\n}")


@pytest.mark.parametrize(
    "value", [json.dumps(STAGE_3), json.dumps(json.dumps(STAGE_3, indent=1)), json.dumps(repr(STAGE_3))]
)
def test_what_says_the_same_is_not_touched(value, tmp_path):
    data = b"".join(around(value.encode()))
    assert put(tmp_path, data) == data
    assert put(tmp_path, data, {**STAGE_3, "bf16": {"enabled": 1}}) != put(
        tmp_path, data, {**STAGE_3, "bf16": {"enabled": True}}
    ), "1 is not true"


def test_a_file_that_names_another_leads_there(tmp_path):
    own = tmp_path / "ds.json"
    own.write_text('{"bf16": {}}')
    for value in ("ds.json", {"deepspeed_config_file": "ds.json"}):
        path = tmp_path / "config.json"
        path.write_text(json.dumps({"deepspeed_config": value}))
        assert into_file(path, STAGE_3) == (own, as_json(STAGE_3).encode())
    path.write_text('{"deepspeed_config": "new.json"}')
    assert into_file(path, STAGE_3)[0] == tmp_path / "new.json"


def test_of_two_keys_the_one_that_is_read_is_written(tmp_path):
    data = b'{"deepspeed_config": {"a": 1}, "--deepspeed_config": {"a": 2}}'
    assert put(tmp_path, data).startswith(b'{"deepspeed_config": {"a": 1}, "--deepspeed_config": {"zero')


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: 2}\n", "is accelerate's, which cannot hold all"),
        (b'{"compute_environment": "LOCAL_MACHINE", "distributed_type": "NO"}', "is accelerate's"),
        (b"zero_optimization: {stage: 2}\n", "is YAML, and DeepSpeed reads JSON"),
        (b"deepspeed_config: {zero_optimization: {stage: 2}}\n", "is YAML"),
    ],
)
def test_what_cannot_hold_all_of_it_is_refused(data, words, tmp_path):
    with pytest.raises(InvalidInputError, match=words):
        put(tmp_path, data)
    assert (tmp_path / "config.json").read_bytes() == data


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("aé\"\\'\n{}:,"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('ab-"\\', max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(
    rest=st.dictionaries(st.text('ab-"\\', max_size=3), VALUES, max_size=4),
    old=st.dictionaries(st.sampled_from(["a", "zero_optimization"]), VALUES),
    new=st.dictionaries(st.sampled_from(["a", "b", "bf16"]), VALUES),
    form=st.sampled_from([lambda value: value, json.dumps, repr]),
    indent=st.sampled_from([None, 0, 2, "\t"]),
    key=st.sampled_from(["deepspeed_config", "--deepspeed_config"]),
)
@settings(max_examples=100, deadline=None)
def test_any_configuration_goes_into_any_file(tmp_path_factory, rest, old, new, form, indent, key):
    folder = tmp_path_factory.getbasetemp()
    items = [*rest.items(), (key, form(old)), ("last", 1)]
    content = put(folder, json.dumps(dict(items), indent=indent, ensure_ascii=False).encode(), new)
    read = json.loads(content)
    assert {name: value for name, value in read.items() if name != key} == {**rest, "last": 1}
    assert list(read) == list(dict(items))
