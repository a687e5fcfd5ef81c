"""A LoRA on the U-Net: what is trained, what is saved, and that diffusers' and kohya's files are what was trained.

How it trains under every stage is test_parity's, how it is resumed test_resume's.
"""

import itertools
import shutil
from functools import partial

import pytest
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from peft import get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from harness.recorder import Recorder
from harness.tiny_zero import TINY
from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.deepspeed_json import to_deepspeed_json
from launcher.config.training import AdapterSettings, ExportSettings, TrainingSettings
from launcher.errors import InvalidInputError
from launcher.estimate import SDXL, read_model_facts
from launcher.estimate.adapter import trained
from launcher.estimate.sdxl import CONFIG, sdxl_layers
from launcher.runs.checkpoints import Identity
from launcher.runs.converting import conversion
from launcher.train.batches import Batches, Division
from launcher.train.checkpoint import Checkpoints
from launcher.train.convert import convert
from launcher.train.deepspeed_engine import TAG, DeepSpeedEngine
from launcher.train.exporting import Wanted, export
from launcher.train.lora import DIFFUSERS_FILE, KOHYA_FILE, add_adapter, export_adapter, seed_dropout, write_lora
from launcher.train.objective import diffusion_loss
from launcher.train.plain_engine import PlainEngine

SEED = 5
LORA = AdapterSettings(model_type="lora", lora_rank=4, lora_alpha=8.0)
WIDE = AdapterSettings(
    model_type="lora", lora_rank=2, lora_target_modules="attention, feed-forward,projections,resnets"
)
FP32 = ExportSettings(export_dtype="fp32")
FILES = (DIFFUSERS_FILE, KOHYA_FILE)


def config(**settings) -> dict:
    small = {**TINY, "stage3_param_persistence_threshold": 100}  # smaller ones stay whole on every rank
    chosen = DeepSpeedSettings(**{"offload_optimizer_device": "none", "precision": "no", **small, **settings})
    return to_deepspeed_json(chosen, train_batch_size=2, learning_rate=1e-2, warmup_steps=1, total_steps=4)


def adapted(model, settings=LORA, dtype=torch.float32):
    unet = model.unet(dtype)
    add_adapter(unet, settings, SEED)
    return unet


@pytest.fixture(scope="module")
def batches(model, dataset) -> Batches:
    return Batches(
        dataset,
        seed=SEED,
        scaling_factor=model.vae_scaling_factor,
        timesteps=1000,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )


def train(engine, model, batches, steps=3) -> None:
    for batch in batches.run(Division(0, 1, 2, 1), 0, steps):
        engine.backward(diffusion_loss(engine, model.noise_scheduler(), batch))
        engine.step()


@torch.no_grad()
def predict(unet, batches) -> torch.Tensor:
    batch = batches.evaluation(range(2), 2)
    return unet(
        batch.noise,
        batch.timesteps,
        encoder_hidden_states=batch.prompt_embeds,
        added_cond_kwargs={"text_embeds": batch.pooled, "time_ids": batch.time_ids},
        return_dict=False,
    )[0].clone()


class Trained:
    """An engine of a LoRA after three steps: what the model then holds of it, what it predicts, what it exported."""

    def __init__(self, engine, unet, settings, model, batches, world, report, folder) -> None:
        self.engine, self.unet, self.settings = engine, unet, settings
        train(engine, model, batches)  # the first two steps have a learning rate of zero
        self.direct = {name: tensor.numel() for name, tensor in get_peft_model_state_dict(unet).items()}
        engine.evaluating(True)
        self.predicted = predict(engine, batches)
        engine.evaluating(False)
        training = TrainingSettings(adapter=settings, export=FP32)
        self.folder = export_adapter(engine, training, folder / "lora", world, report)


@pytest.fixture(scope="module")
def plain(model, batches, alone, tmp_path_factory) -> Trained:
    """Every kind of layer, with gradient checkpointing over the frozen U-Net."""
    unet = adapted(model, WIDE)
    unet.enable_gradient_checkpointing()
    engine = PlainEngine(unet, config(stage=0), alone)
    return Trained(engine, unet, WIDE, model, batches, alone, Recorder(), tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def divided(model, batches, group, tmp_path_factory) -> Trained:
    """ZeRO-3 with everything in host memory."""
    unet = adapted(model)
    unet.enable_gradient_checkpointing()
    offloaded = {"offload_optimizer_device": "cpu", "offload_param_device": "cpu"}
    engine = DeepSpeedEngine(unet, config(stage=3, **offloaded))
    return Trained(engine, unet, LORA, model, batches, group, Recorder(), tmp_path_factory.mktemp("divided"))


@pytest.fixture(params=["plain", "divided"])
def either(request) -> Trained:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("file", FILES)
def test_diffusers_loads_either_file_and_predicts_what_was_trained(either, model, batches, file):
    pipeline = StableDiffusionXLPipeline.from_pretrained(model.folder)
    before = predict(pipeline.unet, batches)
    pipeline.load_lora_weights(either.folder, weight_name=file)
    apart = (predict(pipeline.unet, batches) - either.predicted).abs().max()
    assert float(apart) < 1e-6
    assert float((before - either.predicted).abs().max()) > 1e-3


def test_a_folder_of_both_is_loaded_without_naming_a_file(divided, model, batches):
    pipeline = model.pipeline(torch.float32, divided.folder)
    torch.testing.assert_close(predict(pipeline.unet, batches), divided.predicted, rtol=0, atol=1e-6)


def test_every_matrix_is_saved_whole_where_the_model_has_none_of_them(divided):
    assert set(divided.direct.values()) == {0}  # elements of what peft would save
    saved = load_file(divided.folder / DIFFUSERS_FILE)
    assert {name.removeprefix("unet.") for name in saved} == divided.direct.keys()
    assert all(min(tensor.shape) == LORA.lora_rank for tensor in saved.values())


def test_what_reads_the_files_is_told_rank_and_alpha(divided):
    with safe_open(divided.folder / DIFFUSERS_FILE, "pt") as file:
        (described,) = (text for name, text in file.metadata().items() if name != "format")
    assert '"unet.lora_alpha": 8.0' in described
    assert '"unet.r": 4' in described
    with safe_open(divided.folder / KOHYA_FILE, "pt") as file:
        assert (file.metadata()["ss_network_dim"], file.metadata()["ss_network_alpha"]) == ("4", "8.0")
        alphas = {float(file.get_tensor(name)) for name in file.keys() if name.endswith(".alpha")}  # noqa: SIM118
    assert alphas == {8.0}


def test_only_the_adapter_is_trained_and_the_estimate_counts_it(plain, model):
    parameters = dict(plain.unet.named_parameters())
    learnt = {name: each for name, each in parameters.items() if each.requires_grad}
    assert all(".lora_" in name for name in learnt)
    assert (
        sum(each.numel() for each in learnt.values()) == trained(WIDE, read_model_facts(str(model.folder))).parameters
    )
    before = model.unet(torch.float32).state_dict()
    frozen = {name.replace(".base_layer", ""): each for name, each in parameters.items() if name not in learnt}
    assert frozen.keys() == before.keys()
    assert all(torch.equal(each, before[name]) for name, each in frozen.items())
    assert all(float(each.abs().max()) > 0 for each in learnt.values())  # the second matrix began at zero


def test_the_estimate_counts_what_peft_trains_of_sdxl():
    with torch.device("meta"):
        unet = UNet2DConditionModel(**CONFIG)
        layers = {
            name: tuple(layer.weight.shape)
            for name, layer in unet.named_modules()
            if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)
        }
        assert layers == sdxl_layers()
        for targets, millions in (("attention", 23.2), (WIDE.lora_target_modules, 49.2)):
            settings = AdapterSettings(model_type="lora", lora_target_modules=targets)
            add_adapter(unet, settings, SEED)
            learnt = sum(each.numel() for each in unet.parameters() if each.requires_grad)
            assert learnt == trained(settings, SDXL).parameters == pytest.approx(millions * 1e6, rel=0.01)
            unet.delete_adapters("default")


def test_the_first_weights_follow_from_the_seed_and_change_nothing(model, batches):
    torch.manual_seed(1)
    first, drawn = adapted(model), torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(3))  # nobody else's draws are moved
    second, half = adapted(model), adapted(model, dtype=torch.bfloat16)
    for (name, one), other, rounded in zip(
        first.named_parameters(), second.parameters(), half.parameters(), strict=True
    ):
        assert torch.equal(one, other), name
        assert rounded.dtype == torch.bfloat16
        assert torch.equal(one.bfloat16(), rounded), name
    assert torch.equal(predict(first.eval(), batches), predict(model.unet(torch.float32).eval(), batches))


def test_what_dropout_draws_follows_from_seed_and_picture():
    draws = []
    for seed, number in ((1, 1), (1, 2), (2, 1), (1, 1)):
        seed_dropout(seed, number)
        draws.append(float(torch.rand(())))
    assert draws[0] == draws[3]
    assert len(set(draws)) == 3


# a LoRA to start from


@pytest.mark.parametrize("file", FILES)
def test_it_starts_from_either_file_whatever_the_alpha(divided, model, batches, file):
    settings = AdapterSettings(model_type="lora", lora_rank=4, lora_alpha=2.0, init_lora=str(divided.folder / file))
    unet = adapted(model, settings).eval()
    torch.testing.assert_close(predict(unet, batches), divided.predicted, rtol=0, atol=1e-6)
    learnt = [name for name, each in unet.named_parameters() if each.requires_grad]
    assert len(learnt) == len(load_file(divided.folder / DIFFUSERS_FILE))
    assert all(".default." in name for name in learnt)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"lora_rank": 8}, "has rank 4, not 8"),
        ({"lora_target_modules": "to_q"}, "are not in training.lora_target_modules"),
        ({"lora_target_modules": "attention,feed-forward"}, "are not in the file"),
    ],
)
def test_a_lora_of_another_shape_is_refused(divided, model, changed, said):
    settings = {"lora_rank": 4, "init_lora": str(divided.folder / DIFFUSERS_FILE), **changed}
    with pytest.raises(InvalidInputError, match=said):
        adapted(model, AdapterSettings(model_type="lora", **settings))


def test_a_file_that_is_no_lora_is_refused(model, tmp_path):
    save_file({"unet.conv_in.weight": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(InvalidInputError, match="could not be read as a LoRA of this U-Net"):
        adapted(model, AdapterSettings(model_type="lora", init_lora=str(tmp_path / "other.safetensors")))


# checkpoints


def test_a_checkpoint_holds_the_adapter_alone_and_lacks_nothing_of_it(group, model, batches, tmp_path):
    engine = DeepSpeedEngine(adapted(model), config(stage=2))
    train(engine, model, batches)
    engine.save(tmp_path)
    (states,) = (tmp_path / TAG).glob("mp_rank_00_model_states.pt")
    held = torch.load(states, weights_only=False)
    masters = dict(engine.master_weights())
    assert held["module"].keys() == masters.keys()
    shutil.copytree(tmp_path, tmp_path.with_name("lacking"))
    del held["module"][next(iter(masters))]
    torch.save(held, tmp_path.with_name("lacking") / TAG / states.name)
    with pytest.raises(KeyError, match=r"it lacks .*lora_A"):
        engine.load(tmp_path.with_name("lacking"))
    engine.load(tmp_path)


def test_a_checkpoint_of_a_lora_is_converted_and_exported_without_an_engine(divided, model, alone, group, tmp_path):
    identity = Identity(
        zero_stage=3,
        precision="no",
        optimizer="AdamW",
        world_size=1,
        model=str(model.folder),
        resolution=32,
        seed=SEED,
        global_batch_size=2,
        pictures=8,
        model_type="lora",
        lora_rank=LORA.lora_rank,
        lora_alpha=LORA.alpha,
        lora_target_modules=",".join(LORA.targets),
    )
    write = partial(write_lora, training=TrainingSettings(adapter=LORA, export=FP32), world=group)
    path = Checkpoints(tmp_path, 2, identity, group, Recorder(), contents="both").save(divided.engine, 3, write)
    out = export(Wanted(path, tmp_path / "out", "pipeline", "fp32"), lambda done, total: None)
    for folder, file in itertools.product((out, path / "lora"), FILES):
        one, other = load_file(folder / file), load_file(divided.folder / file)
        assert one.keys() == other.keys()
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    with pytest.raises(InvalidInputError, match="is a LoRA: OUT becomes a folder"):
        export(Wanted(path, tmp_path / "no", "single-file", "fp32"), lambda done, total: None)
    found = convert(conversion(path, None), lambda done, total: None)
    engine = PlainEngine(adapted(model), config(stage=0), alone)
    engine.load_universal(found, 3)
    masters = dict(engine.master_weights())
    for name, master in divided.engine.master_weights():
        assert torch.equal(master, masters[name]), name
