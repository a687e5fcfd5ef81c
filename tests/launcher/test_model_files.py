"""What a diffusers folder holds, read from headers and configurations alone."""

import json
import shutil
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.fake_model import UNET, write_header, write_model, write_safetensors
from launcher.errors import ExitCode, InvalidInputError
from launcher.model_files import (
    COMPONENTS,
    block_widths,
    check_components,
    check_whole,
    component_config,
    component_files,
    missing_shards,
    read_weights,
    resolution_step,
    weight_files,
)

SHARDS = ("diffusion_pytorch_model-00001-of-00002.safetensors", "diffusion_pytorch_model-00002-of-00002.safetensors")
INDEX = "diffusion_pytorch_model.safetensors.index.json"


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model")


def touch(folder, *names):
    for name in names:
        (folder / name).write_bytes(b"x")


def shard(component, *names):
    """Puts a component into shards of two tensors each, and lists them."""
    (component / "model.safetensors").unlink()
    for number, name in enumerate(names):
        write_safetensors(component / name, {f"{number}.weight": [3, 4], f"{number}.bias": [4 + number]})
    weights = {f"{number}.{part}": name for number, name in enumerate(names) for part in ("weight", "bias")}
    (component / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weights}))


# components


def test_a_whole_model_is_let_through(model):
    check_components(model)


def test_what_is_no_diffusers_model_says_what_to_give(tmp_path):
    with pytest.raises(InvalidInputError, match=r"is not a diffusers model: it has no model_index\.json\. Give the"):
        check_components(tmp_path)


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_missing_component_is_named_alone(model, component):
    shutil.rmtree(model / component)
    with pytest.raises(InvalidInputError) as refused:
        check_components(model)
    assert str(refused.value).startswith(f"{model} lacks {component}: training SDXL needs ")
    assert refused.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize(
    ("component", "file"),
    [
        ("unet", "config.json"),
        ("unet", "model.safetensors"),
        ("vae", "config.json"),
        ("text_encoder_2", "model.safetensors"),
        ("tokenizer_2", "vocab.json"),
        ("scheduler", "scheduler_config.json"),
    ],
)
def test_a_component_without_its_configuration_or_weights_is_missing(model, component, file):
    (model / component / file).unlink()
    with pytest.raises(InvalidInputError, match=f" lacks {component}: "):
        check_components(model)


def test_all_that_is_missing_is_told_at_once(model):
    for component in ("text_encoder_2", "tokenizer_2"):
        shutil.rmtree(model / component)
    with pytest.raises(InvalidInputError, match="lacks text_encoder_2, tokenizer_2: "):
        check_components(model)


def test_a_fast_tokenizer_is_a_tokenizer(model):
    (model / "tokenizer/vocab.json").rename(model / "tokenizer/tokenizer.json")
    check_components(model)


def test_a_model_that_may_not_be_looked_at_is_no_model(guarded):
    model = write_model(guarded.path / "shut/model")
    model.parent.chmod(0)
    with guarded.ordinary_user(), pytest.raises(InvalidInputError, match="is not a diffusers model"):
        check_components(model)


def test_a_missing_shard_is_named(model):
    shard(model / "unet", *SHARDS)
    check_components(model)
    (model / "unet" / SHARDS[1]).unlink()
    with pytest.raises(InvalidInputError, match=f"lacks unet/{SHARDS[1]}; copy them"):
        check_components(model)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": [1]}}'])
def test_a_damaged_index_of_shards_is_named(model, content):
    (model / "unet" / INDEX).write_text(content)
    with pytest.raises(InvalidInputError, match=r"index\.json cannot be read"):
        missing_shards(model / "unet")


# weights


@pytest.mark.parametrize(
    ("there", "loaded"),
    [
        (["a.safetensors", "a.fp16.safetensors"], ["a.safetensors"]),
        (["a.fp16.safetensors"], ["a.fp16.safetensors"]),
        (["a.safetensors", "a.bin"], ["a.safetensors"]),
        (["a.fp16.safetensors", "a.bin"], ["a.fp16.safetensors"]),
        (["b.bin", "a.bin"], ["a.bin", "b.bin"]),
        ([*SHARDS], [*SHARDS]),
        (
            [*SHARDS, "diffusion_pytorch_model.fp16-00001-of-00001.safetensors"],
            [*SHARDS],
        ),
        (["model.onnx", "flax_model.msgpack", "config.json"], []),
    ],
)
def test_weights_are_the_full_safetensors_where_there_are_any(tmp_path, there, loaded):
    touch(tmp_path, *there)
    assert [path.name for path in weight_files(tmp_path)] == loaded


def test_an_exported_component_has_configuration_vocabulary_and_the_weights_that_are_loaded(tmp_path):
    touch(tmp_path, "config.json", "merges.txt", "a.safetensors", "a.fp16.safetensors", "a.bin", "a.onnx")
    assert [path.name for path in component_files(tmp_path)] == ["a.safetensors", "config.json", "merges.txt"]


def test_weights_are_counted_from_the_header(model):
    weights = read_weights(model / "unet")
    assert (weights.parameters, weights.tensors, weights.largest) == (144, len(UNET), 108)


def test_shards_are_counted_together(model):
    shard(model / "unet", *SHARDS)
    weights = read_weights(model / "unet")
    assert (weights.parameters, weights.tensors, weights.largest) == (12 + 4 + 12 + 5, 4, 12)


def test_a_scalar_is_one_parameter(tmp_path):
    write_safetensors(tmp_path / "a.safetensors", {"a": [], "b": [0, 3]})
    weights = read_weights(tmp_path)
    assert (weights.parameters, weights.tensors) == (1, 2)


@pytest.mark.parametrize("files", [[], ["pytorch_model.bin"]])
def test_weights_in_no_safetensors_file_say_how_to_get_one(tmp_path, files):
    touch(tmp_path, *files)
    with pytest.raises(InvalidInputError, match=r"has no safetensors weights; save the model again with safe_ser"):
        read_weights(tmp_path)


def test_a_file_that_is_cut_off_says_how_much_is_there(model):
    path = model / "unet/model.safetensors"
    whole = path.read_bytes()
    check_whole(path)
    path.write_bytes(whole[:-1])
    with pytest.raises(InvalidInputError, match=f"{len(whole) - 1} of {len(whole)} bytes are there; copy it again"):
        read_weights(model / "unet")


@pytest.mark.parametrize("kept", [0, 7, 8, 9, 60])
def test_a_file_that_is_cut_off_in_its_header_is_no_whole_file(model, kept):
    path = model / "unet/model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InvalidInputError, match=r"model\.safetensors is not a whole safetensors file"):
        check_whole(path)


@pytest.mark.parametrize(
    "content",
    [
        b"not a safetensors file at all",
        b"<!DOCTYPE html><html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 10\n",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 4) + b"\xff\xff\xff\xff",
        struct.pack("<Q", 5000) + b"[" * 5000,
    ],
)
def test_garbage_is_no_whole_file(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(InvalidInputError, match="is not a whole safetensors file"):
        check_whole(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    "header",
    [
        [],
        3,
        {"a": 3},
        {"a": {}},
        {"a": {"shape": [1], "data_offsets": [0]}},
        {"a": {"shape": [1], "data_offsets": None}},
        {"a": {"shape": 1, "data_offsets": [0, 0]}},
        {"a": {"shape": ["x"], "data_offsets": [0, 0]}},
        {"a": {"shape": [float("inf")], "data_offsets": [0, 0]}},
        {"a": {"shape": [float("nan")], "data_offsets": [0, 0]}},
    ],
)
def test_a_header_of_another_form_is_no_whole_file(tmp_path, header):
    write_header(tmp_path / "a.safetensors", header)
    with pytest.raises(InvalidInputError, match="is not a whole safetensors file"):
        check_whole(tmp_path / "a.safetensors")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([10**400, 2**64]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
entries = st.fixed_dictionaries({"shape": anything | st.lists(anything), "data_offsets": st.lists(anything)}) | anything


@given(header=st.dictionaries(st.text(), entries, max_size=3) | anything, size=st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_any_header_counts_or_is_refused(tmp_path_factory, header, size):
    folder = tmp_path_factory.getbasetemp() / "headers"
    folder.mkdir(exist_ok=True)
    write_header(folder / "a.safetensors", header, size)
    try:
        assert read_weights(folder).tensors > 0
    except InvalidInputError as error:
        assert "safetensors" in str(error)


# configurations


@pytest.mark.parametrize(
    ("unet", "vae", "step"),
    [((320, 640, 1280), (128, 256, 512, 512), 32), ((32, 64), (8, 8, 8), 8), ((8,), (8,), 1)],
)
def test_the_resolution_goes_in_steps_of_both_downscales(tmp_path, unet, vae, step):
    assert resolution_step(write_model(tmp_path / "model", unet_widths=unet, vae_widths=vae)) == step


def test_widths_are_those_of_the_configuration(model):
    assert (block_widths(model, "unet"), block_widths(model, "vae")) == ([32, 64], [8, 8, 8])


@pytest.mark.parametrize("widths", [None, [], 3, "abc", {}, [8] * 5000])
@pytest.mark.parametrize("component", ["unet", "vae"])
def test_a_configuration_without_widths_is_of_another_model(model, component, widths):
    (model / component / "config.json").write_text(json.dumps({"block_out_channels": widths}))
    with pytest.raises(InvalidInputError, match=rf"{component}/config\.json has no list of block_out_channels; copy"):
        resolution_step(model)


@pytest.mark.parametrize("content", ["", "{", "\xff", "[" * 5000])
def test_a_damaged_configuration_is_named(model, content):
    (model / "scheduler/scheduler_config.json").write_text(content, encoding="latin-1")
    with pytest.raises(InvalidInputError, match=r"scheduler/scheduler_config\.json cannot be read: .*; copy it again"):
        component_config(model, "scheduler")


@pytest.mark.parametrize("content", ["[]", "null", "3"])
def test_a_configuration_that_is_no_object_is_named(model, content):
    (model / "unet/config.json").write_text(content)
    with pytest.raises(InvalidInputError, match=r"unet/config\.json is no JSON object"):
        component_config(model, "unet")
