"""Whatever a file holds, it opens as a configuration or as reasons why not."""

import json

import pytest

from launcher.deepspeed.opening import open_bytes, open_file, open_inline
from launcher.deepspeed.reading import DEEPEST, LARGEST

STAGE_2 = {"zero_optimization": {"stage": 2}}
TEXT = json.dumps(STAGE_2)


def why_not(data: bytes, folder) -> str:
    opened = open_bytes(data, folder)
    assert opened.config is None
    (problem,) = opened.problems
    assert problem.level == "error"
    return f"{problem.field}: {problem.message}"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "file: is empty"),
        (b" \n", "file: is empty"),
        (TEXT[:-1].encode(), "ends too early (line 1, column 35)"),
        (b'{"a": 1,}', "is not JSON (line 1, column"),
        (b'{"a": 1} // stage', "has a comment (line 1, column 10)"),
        (b'{\n  # stage\n  "a": 1}', "has a comment (line 2, column 3)"),
        (b'{"a": /* x */ 1}', "has a comment (line 1, column 7)"),
        (b'{"a": {"b": 1, "b": 2}}', "says 'b' twice in one object"),
        (b'{"a": NaN}', "holds NaN, which is no JSON"),
        (b'{"a": -Infinity}', "holds -Infinity, which is no JSON"),
        (b'{"a": {"b": 1e999}}', "holds a number at a.b too large for anything"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "holds a number too large for anything"),
        (b'{"a":' * 200_000, "is nested more than 32 deep"),
        (b"[" * 40 + b"]" * 40, "is nested more than 32 deep"),
        (b" " * (LARGEST + 1), "is larger than 1 MiB"),
        (TEXT.encode("utf-16"), "is UTF-16; save it as UTF-8"),
        (TEXT.encode("utf-16-le"), "holds NUL bytes"),
        (TEXT.encode("utf-32"), "is UTF-16; save it as UTF-8"),
        ('{"a": "é"}'.encode("latin-1"), "is not UTF-8 (byte 7)"),
        (b'{"a": "\\ud800"}', "holds half a character at a"),
        (b'{"a\\u0000": 1}', "holds a NUL character"),
        (b"[1, 2]", "holds [1, 2], not an object"),
        (b'"zero2"', "holds 'zero2', not an object"),
        (b"a: [1", "is not YAML (line 1, column 6)"),
        (b"a: 2020-13-45", "is not YAML: it cannot be read"),
        (b"a: 2020-01-02", "for which JSON has no word"),
        (b"1: 2", "has the key 1, which is no text"),
        (b"? [a]\n: 1", "is not YAML"),
        (b"a: .nan", "too large for anything"),
        (b"a: !!python/object:os.system x", "is not YAML"),
        (b"compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU\n", "does not use DeepSpeed"),
    ],
    ids=range(31),
)
def test_what_cannot_be_read_says_why(data, words, tmp_path):
    assert words in why_not(data, tmp_path)


def test_a_byte_order_mark_is_nothing_to_speak_of(tmp_path):
    assert open_bytes(b"\xef\xbb\xbf" + TEXT.encode(), tmp_path).config == STAGE_2


def test_the_deepest_that_is_read_can_be_written_again(tmp_path):
    nested = "1"
    for _ in range(DEEPEST):
        nested = f'{{"a": {nested}}}'
    assert json.dumps(open_bytes(nested.encode(), tmp_path).config) == nested


@pytest.mark.parametrize("key", ["deepspeed_config", "--deepspeed_config"])
@pytest.mark.parametrize(
    "value",
    [
        STAGE_2,
        TEXT,
        f"  {TEXT}\n",
        str(STAGE_2),
        "{'zero_optimization': {'stage': 2,},}",
        "ds.json",
        "./ds.json",
        "zero2",
        "stage 2",
        {"deepspeed_config_file": "ds.json", "zero3_init_flag": True},
    ],
    ids=["dict", "json", "spaces", "literal", "commas", "path", "dotted", "word", "stage", "file mode"],
)
def test_an_inline_configuration_is_found_in_a_config_json(key, value, tmp_path):
    (tmp_path / "ds.json").write_text(TEXT)
    content = json.dumps({"--model_type": "full", key: value}).encode()
    assert open_bytes(content, tmp_path).config == STAGE_2


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("nothing.json", "nothing.json cannot be read: No such file"),
        ("", "is empty"),
        (3, "must be an object, JSON text or a path, not 3"),
        (None, "must be an object, JSON text or a path, not None"),
        ("{", "ends too early"),
        ("{1, 2}", "deepspeed_config: is not JSON"),
        ("{'a': b'x'}", "is not JSON"),
        ("~nobody-there/x", "cannot be read"),
        ("x\0y", "cannot be read"),
    ],
)
def test_an_inline_configuration_that_is_none_says_why(value, words, tmp_path):
    opened = open_inline(value, tmp_path)
    assert opened.config is None
    assert words in f"{opened.problems[0].field}: {opened.problems[0].message}"


def test_files_that_refer_to_each_other_are_given_up(tmp_path):
    (tmp_path / "a.json").write_text('{"deepspeed_config": "b.json"}')
    (tmp_path / "b.json").write_text('{"deepspeed_config": "a.json"}')
    assert "refers to file after file" in open_file(tmp_path / "a.json").problems[0].message


def test_accelerates_part_becomes_deepspeeds(tmp_path):
    content = b"""
compute_environment: LOCAL_MACHINE
distributed_type: DEEPSPEED
mixed_precision: bf16
deepspeed_config:
  deepspeed_multinode_launcher: standard
  gradient_accumulation_steps: 4
  offload_optimizer_device: cpu
  offload_param_device: none
  zero3_init_flag: false
  zero_stage: 2
"""
    opened = open_bytes(content, tmp_path)
    assert opened.config == {
        "gradient_accumulation_steps": 4,
        "zero_optimization": {
            "offload_optimizer": {"device": "cpu"},
            "offload_param": {"device": "none"},
            "stage": 2,
        },
        "bf16": {"enabled": True},
        # Not wanted, which DeepSpeed would take for 1.0.
        "gradient_clipping": 0.0,
    }
    assert [(problem.field, problem.level) for problem in opened.problems] == [
        ("deepspeed_config.deepspeed_multinode_launcher", "warning")
    ]


def test_accelerates_reference_is_followed_from_its_folder(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below/ds.json").write_text(TEXT)
    (tmp_path / "below/accelerate.yaml").write_text(
        "distributed_type: DEEPSPEED\ndeepspeed_config: {deepspeed_config_file: ds.json, zero3_init_flag: false}\n"
    )
    assert open_file(tmp_path / "below/accelerate.yaml").config == STAGE_2


@pytest.mark.parametrize("inline", ["abc", "[1]", "{zero_stage: {a: 1}}", "{deepspeed_config_file: 3}", "~"])
def test_odd_parts_of_accelerate_end_in_words_or_a_configuration(inline, tmp_path):
    opened = open_bytes(f"distributed_type: DEEPSPEED\ndeepspeed_config: {inline}\n".encode(), tmp_path)
    assert opened.problems or isinstance(opened.config, dict)


def test_a_folder_is_no_file(tmp_path):
    assert "cannot be read: Is a directory" in open_file(tmp_path).problems[0].message
