"""LoRA on the U-Net: peft's adapter beside its layers, and the files that diffusers' and kohya's tools load.

The adapter is there before an engine is made, so an engine knows of it only that some parameters are trained and the
others are frozen. What is saved comes from the engine's masters, whole: at ZeRO stage 3 a model's own parameters beyond
``stage3_param_persistence_threshold`` are empty on every rank, and what peft or diffusers write of them are files of
empty tensors, without a word.
"""

import shutil
from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.utils import convert_state_dict_to_kohya
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from safetensors.torch import save_file

from launcher.config.training import AdapterSettings, TrainingSettings
from launcher.errors import InvalidInputError, RunFailedError
from launcher.train.distributed import World
from launcher.train.engine import Engine
from launcher.train.export import DTYPES, GIB
from launcher.train.models import first_line, replacing
from launcher.train.report import Report
from launcher.train.seeds import seeded

ADAPTER, INITIAL = "default", "initial"
"""peft's names for what is trained, and for what it starts from while that is read."""

FOLDER = "lora"
"""Of an output folder: where the adapter's files lie."""
DIFFUSERS_FILE, KOHYA_FILE = "pytorch_lora_weights.safetensors", "kohya_lora.safetensors"
"""The first is what ``load_lora_weights`` looks for in a folder; the second has the names of sd-scripts, ComfyUI and
AUTOMATIC1111."""


def lora_config(settings: AdapterSettings) -> LoraConfig:
    """The adapter as peft describes it."""
    return LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=list(settings.targets),
        init_lora_weights="gaussian" if settings.lora_init_type == "gaussian" else True,
    )


def add_adapter(unet: UNet2DConditionModel, settings: AdapterSettings, seed: int) -> None:
    """Freezes the U-Net and puts an adapter beside its layers, in the dtype of their weights.

    Args:
        unet: on the CPU, before an engine is made of it.
        settings: of the adapter.
        seed: its first weights follow from it alone, so every rank and every engine begins alike.

    Raises:
        InvalidInputError: it should start from a LoRA of other layers or another rank.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded("lora", seed).initial_seed())
        if settings.init_lora:
            _load_initial(unet, settings)
        unet.add_adapter(lora_config(settings), ADAPTER)
    if settings.init_lora:
        _begin_as_initial(unet, settings)
        unet.delete_adapters(INITIAL)


def _load_initial(unet: UNet2DConditionModel, settings: AdapterSettings) -> None:
    """Beside the layers, as diffusers reads it, in whichever form it is."""
    try:
        state, alphas, metadata = StableDiffusionXLPipeline.lora_state_dict(
            settings.init_lora, unet_config=unet.config, return_lora_metadata=True
        )
        unet.load_lora_adapter(state, prefix="unet", network_alphas=alphas, metadata=metadata, adapter_name=INITIAL)
    except (SafetensorError, ValueError, KeyError, RuntimeError, TypeError, IndexError, OSError) as error:
        raise InvalidInputError(
            f"{settings.init_lora} could not be read as a LoRA of this U-Net: {first_line(error)}; give a .safetensors "
            "file in diffusers' or kohya's form, or leave training.init_lora empty"
        ) from error


@torch.no_grad()
def _begin_as_initial(unet: UNet2DConditionModel, settings: AdapterSettings) -> None:
    """Copies its weights; where its alpha is another, the second matrix makes up for it."""
    layers = {name: layer for name, layer in unet.named_modules() if isinstance(layer, LoraLayer)}
    ranks = {layer.r[INITIAL] for layer in layers.values() if INITIAL in layer.r}
    if ranks != {settings.lora_rank}:
        found = ", ".join(map(str, sorted(ranks))) or "none"
        raise InvalidInputError(
            f"{settings.init_lora} has rank {found}, not {settings.lora_rank}; give its own as training.lora_rank"
        )
    for there, here, whose in ((INITIAL, ADAPTER, "training.lora_target_modules"), (ADAPTER, INITIAL, "the file")):
        only = [name for name, layer in layers.items() if there in layer.r and here not in layer.r]
        if only:
            raise InvalidInputError(
                f"{settings.init_lora} and training.lora_target_modules are of other layers: {len(only)} are not in "
                f"{whose}, such as {only[0]}; choose the layers that the file has"
            )
    for layer in layers.values():
        layer.lora_A[ADAPTER].weight.copy_(layer.lora_A[INITIAL].weight)
        ratio = layer.scaling[INITIAL] / layer.scaling[ADAPTER]
        layer.lora_B[ADAPTER].weight.copy_(layer.lora_B[INITIAL].weight * ratio)


def seed_dropout(seed: int, number: int) -> None:
    """Seeds what an adapter's dropout draws from, on the CPU and the GPU.

    Args:
        seed: of the run.
        number: of the first picture in the micro-batch, which follows from step and rank.
    """
    torch.manual_seed(seeded("dropout", seed, number).initial_seed())


def export_adapter(engine: Engine, training: TrainingSettings, folder: Path, world: World, report: Report) -> Path:
    """Writes the adapter from its fp32 masters, in diffusers' form and in kohya's; every rank calls it.

    An earlier export in ``folder`` is replaced only when the new one is whole.

    Returns:
        ``folder``.

    Raises:
        RunFailedError: it cannot be written.
    """
    with report.phase("export"):
        state: dict[str, torch.Tensor] = {}
        dtype = DTYPES[training.export.export_dtype]
        for name, weights in engine.master_weights():
            if world.is_main:
                stored = weights.to(dtype=dtype, device="cpu", copy=True).contiguous()
                state[name.replace(f".{ADAPTER}.", ".")] = stored
        if world.is_main:
            try:
                with replacing(folder) as unfinished:
                    write_adapter(state, training.adapter, unfinished)
            except (OSError, SafetensorError) as error:
                free = shutil.disk_usage(folder.parent).free
                raise RunFailedError(
                    f"the LoRA could not be exported to {folder} ({free / GIB:.1f} GiB free there): "
                    f"{first_line(error)}; the checkpoints are whole. Make room and start the run again: it exports "
                    "without training anew"
                ) from error
            size = sum(file.stat().st_size for file in folder.iterdir())
            report.event("export", path=str(folder), bytes=size)
        world.barrier()
    return folder


def write_adapter(state: dict[str, torch.Tensor], settings: AdapterSettings, folder: Path) -> None:
    """Both files of an adapter.

    Args:
        state: its matrices by layer: ``….to_q.lora_A.weight`` (rank, in) and ``….to_q.lora_B.weight`` (out, rank).
        settings: its rank, alpha and layers, which both files name.
        folder: is made.
    """
    described = lora_config(settings).to_dict()
    described["target_modules"] = sorted(described["target_modules"])
    StableDiffusionXLPipeline.save_lora_weights(
        folder, unet_lora_layers=state, unet_lora_adapter_metadata=described, weight_name=DIFFUSERS_FILE
    )
    kohya = convert_state_dict_to_kohya({f"unet.{name}": weights for name, weights in state.items()})
    for name in kohya:
        if name.endswith(".alpha"):  # diffusers writes the rank whatever alpha is
            kohya[name] = torch.tensor(settings.alpha)
    about = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(settings.lora_rank),
        "ss_network_alpha": str(settings.alpha),
        "ss_base_model_version": "sdxl_base_v1-0",
    }
    save_file(kohya, folder / KOHYA_FILE, metadata=about)
