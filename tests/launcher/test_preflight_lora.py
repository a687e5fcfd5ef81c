"""What refuses a LoRA before the model is loaded: layers that are not there, and a file that is of another LoRA."""

import pytest

from harness.fake_model import write_header, write_model, write_safetensors
from launcher.config.setting import Level
from launcher.preflight.adapter import adapter

UNET = {
    "down.to_q.weight": [8, 4],
    "down.to_k.weight": [8, 4],
    "up.to_q.weight": [8, 4],
    "up.conv1.weight": [8, 4, 3, 3],
    "up.norm.weight": [8],
}
DIFFUSERS = {
    f"unet.{layer}.{matrix}.weight": shape
    for layer in ("down.to_q", "up.to_q")
    for matrix, shape in (("lora_A", [4, 4]), ("lora_B", [8, 4]))
}
KOHYA = {
    f"lora_unet_{layer}.{name}": shape
    for layer in ("down_to_q", "up_to_q")
    for name, shape in (("lora_down.weight", [4, 4]), ("lora_up.weight", [8, 4]), ("alpha", []))
}


@pytest.fixture
def found(tmp_path, plan_of):
    """Findings about a LoRA on a U-Net of four layers, by question."""
    model = write_model(tmp_path / "model")
    write_safetensors(model / "unet/model.safetensors", UNET)

    def found(file=None, **changed):
        given = {"model_type": "lora", "lora_rank": 4, "lora_target_modules": "to_q", **changed}
        if file is not None:
            write_safetensors(tmp_path / "some.safetensors", file)
            given["init_lora"] = str(tmp_path / "some.safetensors")
        plan = plan_of(pretrained_model_name_or_path=str(model), **given)
        return {finding.field.removeprefix("training."): finding for finding in adapter(plan)}

    return found


def test_nothing_is_wrong_with_layers_that_are_there(found):
    assert found() == {}
    assert found(lora_target_modules="up.conv1, to_k") == {}
    assert found(model_type="full", lora_target_modules="nothing") == {}


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (" , ", "names no layer; give groups (attention, feed-forward, projections, resnets)"),
        ("to_qq", "no linear layer or convolution of this U-Net ends in 'to_qq'; did you mean to_q?"),
        ("norm", "ends in 'norm'"),
        ("atention", "did you mean attention?"),
    ],
)
def test_layers_that_are_not_there_are_named(found, targets, said):
    assert said in found(lora_target_modules=targets)["lora_target_modules"].message


@pytest.mark.parametrize("file", [DIFFUSERS, KOHYA])
def test_a_lora_of_the_same_rank_and_layers_may_be_started_from(found, file):
    assert found(file) == {}
    assert "has rank 4, not 8" in found(file, lora_rank=8)["lora_rank"].message
    other = found(file, lora_target_modules="to_k,conv1")["lora_target_modules"].message
    assert "has 2 layers, 0 of them among the 2 that are asked for" in other


def test_what_it_holds_of_text_encoders_is_left_out_and_that_is_said(found):
    finding = found({**KOHYA, "lora_te1_text_model_q.lora_down.weight": [4, 4]})["init_lora"]
    assert finding.level is Level.WARNING
    assert "it is left out" in finding.message


def test_names_of_sdxls_original_code_are_left_to_diffusers(found):
    assert found({"lora_unet_input_blocks_4_1_proj_in.lora_down.weight": [4, 4]}) == {}


def test_files_that_are_no_lora_are_refused(found, tmp_path):
    assert "holds no LoRA of a U-Net" in found({"conv_in.weight": [4, 4]})["init_lora"].message
    assert "is no .safetensors file" in found(init_lora=str(tmp_path / "missing.safetensors"))["init_lora"].message
    (tmp_path / "some.bin").write_bytes(b"")
    assert "is no .safetensors file" in found(init_lora=str(tmp_path / "some.bin"))["init_lora"].message
    write_header(tmp_path / "cut.safetensors", {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}})
    assert "is not a whole safetensors file" in found(init_lora=str(tmp_path / "cut.safetensors"))["init_lora"].message
