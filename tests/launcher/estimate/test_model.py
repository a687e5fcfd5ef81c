"""The facts of a model on disk that its cost follows from."""

import json
import math
import os

import pytest

from harness.fake_model import write_header, write_model, write_safetensors
from launcher.estimate import SDXL, read_model_facts

MIB = 2**20


def fill(path, mib):
    """A sparse file of this size."""
    with path.open("wb") as file:
        file.truncate(mib * MIB)


def test_a_folder_is_read(tmp_path):
    facts = read_model_facts(str(write_model(tmp_path / "model")))
    assert (facts.parameters, facts.largest_tensor, facts.is_sdxl, facts.assumed) == (144, 108, False, False)
    assert facts.other_components_mib == 1


@pytest.mark.parametrize("name", ["stabilityai/stable-diffusion-xl-base-1.0", "/nowhere/model.safetensors", "x" * 300])
def test_what_is_not_here_yet_is_taken_for_sdxl_and_says_so(name):
    facts = read_model_facts(name)
    assert facts is SDXL
    assert facts.assumed


def test_a_folder_that_may_not_be_looked_at_is_not_here(guarded):
    model = write_model(guarded.path / "shut/model")
    model.parent.chmod(0)
    with guarded.ordinary_user():
        assert read_model_facts(str(model)) is SDXL


@pytest.mark.parametrize(("widths", "is_sdxl"), [((320, 640, 1280), True), ((320, 640, 1280, 1280), False)])
def test_sdxl_is_known_by_the_widths_of_its_blocks(tmp_path, widths, is_sdxl):
    assert read_model_facts(str(write_model(tmp_path / "model", unet_widths=widths))).is_sdxl is is_sdxl


def test_only_what_an_export_writes_is_counted_beside_the_unet(tmp_path):
    model = write_model(tmp_path / "model")
    fill(model / "vae/model.safetensors", 300)
    fill(model / "text_encoder_2/model.safetensors", 200)
    fill(model / "unet/model.txt", 1000)
    # A repository as it is cloned: variants, other frameworks and single files lie there too.
    fill(model / "vae/model.fp16.safetensors", 1000)
    fill(model / "text_encoder/model.onnx", 1000)
    fill(model / "sd_xl_base_1.0.safetensors", 1000)
    fill(model / "unet/model.fp16.onnx", 1000)
    (model / "vae_1_0").mkdir()
    fill(model / "vae_1_0/model.safetensors", 1000)
    assert read_model_facts(str(model)).other_components_mib == 501


def test_a_unet_that_is_cut_off_is_not_priced(tmp_path):
    model = write_model(tmp_path / "model")
    path = model / "unet/model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert read_model_facts(str(model)) is SDXL


@pytest.mark.parametrize("config", [{}, {"block_out_channels": 3}, []])
def test_a_unet_of_another_kind_is_not_priced(tmp_path, config):
    model = write_model(tmp_path / "model")
    (model / "unet/config.json").write_text(json.dumps(config))
    assert read_model_facts(str(model)) is SDXL


def test_a_model_in_shards_is_as_large_as_all_of_them(tmp_path):
    model = write_model(tmp_path / "model")
    write_safetensors(model / "unet/model-00002.safetensors", {"z": [10, 20]})
    facts = read_model_facts(str(model))
    assert (facts.parameters, facts.largest_tensor) == (344, 200)


HEADS = {"addition_embed_type": "text_time", "attention_head_dim": [5, 10, 20]}


@pytest.mark.parametrize(
    ("layers", "config", "traced"),
    [
        (SDXL.layers, {**HEADS, "_name_or_path": "a fine-tune", "sample_size": 64}, SDXL.config),
        (SDXL.layers, {**HEADS, "attention_head_dim": [10, 10, 20]}, None),
        ({"conv_in": (4, 4, 3, 3)}, HEADS, None),
        (SDXL.layers, {"attention_head_dim": [5, 10, 20]}, ""),
    ],
)
def test_what_has_sdxls_layers_is_traced_as_sdxl_and_others_by_their_own_configuration(
    tmp_path, layers, config, traced
):
    model = write_model(tmp_path / "model", unet_widths=(320, 640, 1280))
    folder, widths = model / "unet", {"block_out_channels": [320, 640, 1280]}
    folder.joinpath("config.json").write_text(json.dumps({**widths, **config}))
    header, end = {}, 0
    for name, shape in layers.items():
        header[f"{name}.weight"] = {"dtype": "F8_E4M3", "shape": shape, "data_offsets": [end, end + math.prod(shape)]}
        end += math.prod(shape)
    write_header(folder / "model.safetensors", header)
    os.truncate(folder / "model.safetensors", folder.joinpath("model.safetensors").stat().st_size + end)
    own = json.dumps({**widths, **config}, sort_keys=True)
    assert read_model_facts(str(model)).config == (own if traced is None else traced)


def test_how_large_latents_are_follows_from_the_vae(tmp_path):
    assert read_model_facts(str(write_model(tmp_path / "a"))).pixels_per_latent == 16
    assert read_model_facts(str(write_model(tmp_path / "b", vae_widths=(8, 8, 8, 8)))).pixels_per_latent == 64
