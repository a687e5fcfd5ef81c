"""On a real NVIDIA GPU: what is cached is what models that lie there whole compute, and nothing of it stays."""

import pytest
import torch

from harness.data import scan
from harness.recorder import Recorder
from launcher.config.training import DataSettings, TrainingSettings
from launcher.machine.gpus import read_nvml
from launcher.train import caches
from launcher.train.caches import encode
from launcher.train.distributed import World
from launcher.train.models import ModelSource
from launcher.train.pictures import load_pixels

NVML = read_nvml()

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not NVML.gpus, reason=NVML.reason or "no GPU")]


@torch.no_grad()
def test_streamed_text_encoders_and_strips_give_what_whole_models_do(assets, tmp_path, monkeypatch):
    monkeypatch.setattr(encode, "PROMPTS_AT_ONCE", 5)  # from the second batch on, layers come ahead
    device = torch.device("cuda", 0)
    model = ModelSource(assets / "model", assets / "model/vae")
    training = TrainingSettings(data=DataSettings(resolution=64, cache_dir=str(tmp_path)))
    pictures = scan(assets / "pictures", 64)
    told, world = Recorder(), World(rank=0, world_size=1, device=device)
    before = torch.cuda.memory_allocated(device)
    dataset = caches.prepare(training, model, pictures, torch.float32, world, told)
    assert told.named("data")[0]["prompts_computed"] > 10
    assert torch.cuda.memory_allocated(device) - before <= 40 * 2**20  # cuBLAS's workspace
    pipeline, vae = model.prompt_pipeline().to(device), model.vae().to(device)
    for index, picture in enumerate(pictures):
        embeds, _, pooled, _ = pipeline.encode_prompt(picture.caption, device=device, do_classifier_free_guidance=False)
        mean = vae.encode(load_pixels(picture)[None].to(device)).latent_dist.mean[0]
        for cached, whole, scale in (
            (dataset[index].prompt_embeds, embeds[0], 1e-4),
            (dataset[index].pooled, pooled[0], 1e-4),
            (dataset[index].mean, mean, 1e-2),  # TF32
        ):
            assert torch.allclose(cached, whole.cpu(), rtol=0, atol=scale * float(whole.abs().max()))
