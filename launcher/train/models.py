"""The model to fine-tune, one component at a time, from whatever it comes as.

A hub id becomes its snapshot, a single file is converted once into a diffusers folder; from there on there is
one kind of model, a diffusers folder, and one way to load it.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.configuration_utils import FrozenDict
from diffusers.loaders.single_file_utils import SingleFileComponentError
from safetensors import SafetensorError
from transformers import CLIPTokenizer

from launcher.config.training import ObjectiveSettings, TrainingSettings
from launcher.errors import CannotRunHereError, InvalidInputError
from launcher.model_files import (
    COMPONENTS,
    check_components,
    check_whole,
    component_config,
    component_files,
    read_weights,
    variant,
    weight_files,
)
from launcher.noise_schedule import trained_schedule
from launcher.train.distributed import World
from launcher.train.hub import download
from launcher.train.known import KnownFiles
from launcher.train.report import Report


def resolve_model(training: TrainingSettings, world: World, report: Report) -> "ModelSource":
    """Finds, downloads or converts the model; rank 0 does it, the others wait.

    Raises:
        InvalidInputError: there is no such model, or a component of it is missing.
        CannotRunHereError: the hub cannot be reached or its model does not fit on the disk.
    """
    folder, vae_folder = world.on_main(lambda: _locate(training, report))
    return ModelSource(folder, vae_folder, training.objective)


def _locate(training: TrainingSettings, report: Report) -> tuple[Path, Path]:
    name = training.model.pretrained_model_name_or_path
    path = Path(name)
    folder = _convert(path, training, report) if path.is_file() else _folder(name, report)
    check_components(folder)
    vae = training.model.pretrained_vae_model_name_or_path
    return folder, _folder(vae, report, components=()) if vae else folder / "vae"


def _folder(name: str, report: Report, components: tuple[str, ...] = COMPONENTS) -> Path:
    if Path(name).is_dir():
        return Path(name)
    if Path(name).is_absolute():
        raise InvalidInputError(f"{name} does not exist")
    with report.phase("download") as phase:
        return download(name, phase.progress, components)


def _convert(file: Path, training: TrainingSettings, report: Report) -> Path:
    """A single file as a diffusers folder beside the caches, made once."""
    if file.suffix != ".safetensors":
        raise InvalidInputError(f"{file} is not a .safetensors file; convert it first")
    check_whole(file)
    cache = Path(training.data.cache_dir) / "models"
    content = KnownFiles(cache.parent / "known.json").fingerprint([file])
    folder = cache / hashlib.sha256(content.encode()).hexdigest()[:16]
    if (folder / "model_index.json").exists():
        return folder
    config = _folder(training.model.pretrained_model_config, report)
    with report.phase("convert"):
        try:
            pipeline = StableDiffusionXLPipeline.from_single_file(
                str(file), config=str(config), local_files_only=True, torch_dtype=None
            )
        except (SingleFileComponentError, ValueError, KeyError, RuntimeError, OSError) as error:
            raise InvalidInputError(
                f"{file} could not be read as an SDXL model with the configuration of {config}: {first_line(error)}; "
                "give a file that holds U-Net, VAE and both text encoders"
            ) from error
        try:
            with replacing(folder) as unfinished:
                pipeline.save_pretrained(unfinished)
        except (OSError, SafetensorError) as error:
            raise CannotRunHereError(
                f"{file} could not be converted into the cache folder {cache.parent}: {first_line(error)}; make room "
                "or choose another with training.cache_dir"
            ) from error
    return folder


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A place beside ``folder`` to write its replacement in; it takes the name when all went well."""
    unfinished, replaced = (folder.with_name(f"{folder.name}.{name}") for name in ("unfinished", "replaced"))
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        yield unfinished
        if folder.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            folder.rename(replaced)
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


def first_line(error: BaseException) -> str:
    """What a library says went wrong, without its advice."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@dataclass(frozen=True)
class ModelSource:
    """A model as a diffusers folder, and the VAE to use with it."""

    folder: Path
    vae_folder: Path
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    """What it is trained for, which its noise schedule must say."""

    def unet(self, dtype: torch.dtype) -> UNet2DConditionModel:
        """The U-Net on the CPU, in training mode."""
        unet = UNet2DConditionModel.from_pretrained(
            self.folder, subfolder="unet", torch_dtype=dtype, variant=variant(self.folder / "unet")
        )
        return unet.train()

    def vae(self) -> AutoencoderKL:
        """The VAE on the CPU in fp32: SDXL's overflows in fp16, and latents are computed only once."""
        vae = AutoencoderKL.from_pretrained(
            self.vae_folder, torch_dtype=torch.float32, variant=variant(self.vae_folder)
        )
        return vae.eval()

    def prompt_pipeline(self) -> StableDiffusionXLPipeline:
        """Both text encoders and tokenizers in fp32, as a pipeline without U-Net and VAE."""
        half = variant(self.folder / "text_encoder") or variant(self.folder / "text_encoder_2")
        return StableDiffusionXLPipeline.from_pretrained(
            self.folder, unet=None, vae=None, torch_dtype=torch.float32, variant=half
        )

    def pipeline(self, dtype: torch.dtype, adapter: Path) -> StableDiffusionXLPipeline:
        """The whole model as it came, with a LoRA from a folder."""
        half = variant(self.folder / "text_encoder") or variant(self.folder / "text_encoder_2")
        pipeline = StableDiffusionXLPipeline.from_pretrained(
            self.folder, unet=self.unet(dtype).eval(), vae=self.vae().to(dtype), torch_dtype=dtype, variant=half
        )
        pipeline.load_lora_weights(adapter)
        return pipeline

    def drawing_pipeline(self) -> StableDiffusionXLPipeline:
        """A pipeline without anything that has weights; its scheduler samples what the objective trains."""
        without = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
        pipeline = StableDiffusionXLPipeline.from_pretrained(
            self.folder, add_watermarker=False, **dict.fromkeys(without)
        )
        schedule = trained_schedule(self.own_schedule, self.objective)
        pipeline.register_modules(scheduler=pipeline.scheduler.from_config(schedule))
        return pipeline

    def tokenizer(self) -> CLIPTokenizer:
        """The first text encoder's; the second's splits text alike and only pads otherwise."""
        return CLIPTokenizer.from_pretrained(self.folder, subfolder="tokenizer")

    def noise_scheduler(self) -> DDPMScheduler:
        """The noise schedule it is trained with, in the form that adds noise in training."""
        return DDPMScheduler.from_config(trained_schedule(self.own_schedule, self.objective))

    @cached_property
    def own_schedule(self) -> dict[str, Any]:
        """The configuration of the model's own scheduler."""
        return component_config(self.folder, "scheduler")

    @cached_property
    def unet_config(self) -> FrozenDict:
        """The U-Net's configuration, with what it leaves to its defaults."""
        with torch.device("meta"):
            return UNet2DConditionModel.from_config(component_config(self.folder, "unet")).config

    @cached_property
    def vae_config(self) -> dict[str, Any]:
        """The VAE's configuration."""
        return component_config(self.vae_folder.parent, self.vae_folder.name)

    @property
    def vae_scaling_factor(self) -> float:
        """From latents to what the U-Net sees."""
        return float(self.vae_config["scaling_factor"])

    @property
    def vae_scale_factor(self) -> int:
        """Pixels for each latent, along a side."""
        return int(2 ** (len(self.vae_config["block_out_channels"]) - 1))

    @property
    def unet_parameters(self) -> int:
        """Parameters of the U-Net."""
        return read_weights(self.folder / "unet").parameters

    @property
    def unet_tensors(self) -> int:
        """Tensors of the U-Net."""
        return read_weights(self.folder / "unet").tensors

    @property
    def vae_files(self) -> list[Path]:
        """What latents depend on: the VAE's configuration and weights."""
        return [self.vae_folder / "config.json", *weight_files(self.vae_folder)]

    @property
    def text_files(self) -> list[Path]:
        """What prompt embeddings depend on: encoders and tokenizers."""
        folders = [self.folder / name for name in ("text_encoder", "text_encoder_2")]
        weights = [file for folder in folders for file in [folder / "config.json", *weight_files(folder)]]
        tokenizers = [
            file
            for name in ("tokenizer", "tokenizer_2")
            for file in sorted((self.folder / name).iterdir())
            if file.is_file()
        ]
        return weights + tokenizers

    def write_pipeline(self, state: dict[str, torch.Tensor], folder: Path) -> None:
        """Writes a pipeline folder: this model with another U-Net, sampled as it was trained.

        Args:
            state: the U-Net's weights, in the dtype to write. They are not copied.
            folder: must not exist.
        """
        folder.mkdir(parents=True)
        shutil.copy2(self.folder / "model_index.json", folder)
        for name in COMPONENTS:
            if name != "unet":
                _copy_component(self.vae_folder if name == "vae" else self.folder / name, folder / name)
        schedule = trained_schedule(self.own_schedule, self.objective)
        if schedule != self.own_schedule:
            (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(schedule, indent=2) + "\n")
        self.write_unet(state, folder / "unet")

    def write_unet(self, state: dict[str, torch.Tensor], folder: Path) -> None:
        """Writes a U-Net of this model's shape.

        Args:
            state: its weights, in the dtype to write. They are not copied.
            folder: must not exist.
        """
        unet = self._empty_unet()
        unet.load_state_dict(state, assign=True)
        unet.save_pretrained(folder, safe_serialization=True)

    def unet_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the U-Net's weights by name."""
        return {name: tuple(weight.shape) for name, weight in self._empty_unet().state_dict().items()}

    def _empty_unet(self) -> UNet2DConditionModel:
        with torch.device("meta"):
            return UNet2DConditionModel.from_config(self.unet_config)


def _copy_component(source: Path, target: Path) -> None:
    """Configuration, vocabulary and the weights that are loaded, under the names that need no variant."""
    target.mkdir()
    for file in component_files(source):
        copy = target / file.name.replace(".fp16", "")
        if ".index." in file.name:
            copy.write_text(file.read_text().replace(".fp16", ""))
        else:
            shutil.copy2(file, copy)


def cache_key(**dependencies: object) -> str:
    """One name for everything a cached value depends on."""
    return hashlib.sha256(json.dumps(dependencies, sort_keys=True).encode()).hexdigest()
