"""The model from wherever it comes, and what is refused."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import load_file

from harness.recorder import Recorder
from harness.single_file import write_single_file
from launcher.config.training import DataSettings, ModelSettings, TrainingSettings
from launcher.errors import InvalidInputError
from launcher.model_files import COMPONENTS, WEIGHTS
from launcher.train.models import resolve_model


@pytest.fixture
def resolve(alone, tmp_path, report):
    def run(name, told: Recorder = report, **settings):
        model = ModelSettings(pretrained_model_name_or_path=str(name))
        training = TrainingSettings(
            model=replace(model, **{key: str(value) for key, value in settings.items()}),
            data=DataSettings(cache_dir=str(tmp_path / "cache")),
        )
        return resolve_model(training, alone, told)

    return run


def weights_of(component) -> dict[str, torch.Tensor]:
    (path,) = component.glob("*.safetensors")
    return load_file(path)


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def test_a_diffusers_folder_is_used_where_it_lies(resolve, assets, report):
    source = resolve(assets / "model")
    assert (source.folder, source.vae_folder) == (assets / "model", assets / "model/vae")
    assert report.events == []


def test_another_vae_takes_the_place_of_the_models_own(resolve, assets, tmp_path):
    shutil.copytree(assets / "model/vae", tmp_path / "vae")
    config = json.loads((tmp_path / "vae/config.json").read_text())
    (tmp_path / "vae/config.json").write_text(json.dumps({**config, "scaling_factor": 0.5}))
    source = resolve(assets / "model", pretrained_vae_model_name_or_path=tmp_path / "vae")
    assert source.vae_folder == tmp_path / "vae"
    assert source.vae_scaling_factor == 0.5
    assert source.vae_files[0] == tmp_path / "vae/config.json"


def test_a_folder_with_half_precision_weights_only_is_loaded_and_exported_whole(resolve, assets, tmp_path):
    shutil.copytree(assets / "model", tmp_path / "half")
    for name in WEIGHTS:
        (weights,) = (tmp_path / "half" / name).glob("*.safetensors")
        weights.rename(weights.with_name(weights.name.replace(".safetensors", ".fp16.safetensors")))
    source = resolve(tmp_path / "half")
    unet = source.unet(torch.float32)
    assert_equal(unet.state_dict(), weights_of(assets / "model/unet"))
    assert source.vae().decoder is not None
    assert source.prompt_pipeline().text_encoder_2 is not None
    source.write_pipeline(unet.state_dict(), tmp_path / "pipeline")
    exported = StableDiffusionXLPipeline.from_pretrained(tmp_path / "pipeline")
    assert_equal(exported.text_encoder.state_dict(), source.prompt_pipeline().text_encoder.state_dict())


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_missing_component_is_named(resolve, assets, tmp_path, component):
    shutil.copytree(assets / "model", tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / component)
    with pytest.raises(InvalidInputError, match=rf"{tmp_path / 'model'} lacks {component}: "):
        resolve(tmp_path / "model")


def test_a_place_where_nothing_is_is_named(resolve, tmp_path):
    with pytest.raises(InvalidInputError, match=f"{tmp_path / 'nothing'} does not exist"):
        resolve(tmp_path / "nothing")


@pytest.fixture(scope="session")
def single_file(assets, tmp_path_factory):
    return write_single_file(assets / "model", tmp_path_factory.mktemp("single") / "tiny.safetensors")


def test_a_single_file_becomes_the_same_model_once(resolve, assets, single_file, tmp_path):
    first = Recorder()
    source = resolve(single_file, first, pretrained_model_config=assets / "model")
    assert first.phases == ["convert"]
    for component in WEIGHTS:
        assert_equal(weights_of(source.folder / component), weights_of(assets / "model" / component))
    assert source.vae_scaling_factor == pytest.approx(
        json.loads((assets / "model/vae/config.json").read_text())["scaling_factor"]
    )
    assert source.noise_scheduler().config.beta_schedule == "scaled_linear"
    tokens = [
        one.prompt_pipeline().tokenizer("a red mushroom").input_ids for one in (source, resolve(assets / "model"))
    ]
    assert tokens[0] == tokens[1]
    again = Recorder()
    assert resolve(single_file, again, pretrained_model_config=assets / "model").folder == source.folder
    assert again.phases == []
    assert [path.name for path in (tmp_path / "cache/models").iterdir()] == [source.folder.name]


def test_a_single_file_of_something_else_is_refused_in_words(resolve, assets, single_file, tmp_path):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(single_file.read_bytes()[:-1000])
    (tmp_path / "model.ckpt").write_bytes(b"pickled")
    other = assets / "model/text_encoder"
    (wrong,) = other.glob("*.safetensors")
    for path in (cut, tmp_path / "model.ckpt", wrong):
        with pytest.raises(InvalidInputError) as caught:
            resolve(path, pretrained_model_config=assets / "model")
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").rglob("model_index.json"))
