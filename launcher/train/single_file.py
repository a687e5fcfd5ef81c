"""SDXL in the key layout of Stability's own code, which diffusers reads (``from_single_file``) and does not write.

The names are those of the script ``convert_diffusers_to_original_sdxl.py`` in diffusers' repository, which its package
leaves out.
"""

import re
from pathlib import Path

import torch
from safetensors.torch import load_file

from launcher.model_files import component_config, weight_files

Tensors = dict[str, torch.Tensor]

UNET_TOPS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
VAE = {
    "conv_norm_out": "norm_out",
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0": "mid.attn_1",
    "conv_shortcut": "nin_shortcut",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}
OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
OPEN_CLIP_TOPS = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
}


def single_file(unet: Tensors, folder: Path, vae_folder: Path) -> Tensors:
    """U-Net, VAE and both text encoders as one state in the original layout.

    Args:
        unet: its weights under diffusers' names.
        folder: the diffusers folder of the model that has the rest.
        vae_folder: of the VAE.
    """
    layers = component_config(folder, "unet")["layers_per_block"]
    blocks = len(component_config(vae_folder.parent, vae_folder.name)["block_out_channels"])
    tensors: Tensors = {"model.diffusion_model." + _unet(name, layers): weight for name, weight in unet.items()}
    for name, weight in _weights(vae_folder).items():
        tensors["first_stage_model." + _vae(name, blocks)] = _as_convolution(name, weight)
    for name, weight in _weights(folder / "text_encoder").items():
        tensors["conditioner.embedders.0.transformer.text_model." + name.removeprefix("text_model.")] = weight
    for name, weight in _open_clip(_weights(folder / "text_encoder_2")).items():
        tensors["conditioner.embedders.1.model." + name] = weight
    return {name: weight.contiguous() for name, weight in tensors.items()}


def _weights(component: Path) -> Tensors:
    return {name: weight for path in weight_files(component) for name, weight in load_file(path).items()}


def _unet(name: str, layers: int) -> str:
    for ours, theirs in UNET_TOPS.items():
        if name.startswith(ours + "."):
            return _resnet(theirs + name.removeprefix(ours), ".resnets." in name)
    match = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", name)
    assert match is not None, name  # the U-Net's own names, which were looked at
    side, block, kind, index, rest = match.groups()
    per_block = layers + 1
    if side == "down":
        number = 1 + int(block) * per_block + (layers if kind == "downsamplers" else int(index))
        place = f"input_blocks.{number}.{1 if kind == 'attentions' else 0}"
        rest = rest.replace("conv.", "op.") if kind == "downsamplers" else rest
    else:
        number = int(block) * per_block + (layers if kind == "upsamplers" else int(index))
        # Beside a resnet and an attention, or, in the last block that has one, beside both too.
        place = f"output_blocks.{number}.{ {'resnets': 0, 'attentions': 1, 'upsamplers': 2}[kind] }"
    return _resnet(f"{place}.{rest}", kind == "resnets")


def _resnet(name: str, is_resnet: bool) -> str:
    for ours, theirs in UNET_RESNET.items() if is_resnet else ():
        name = name.replace(f".{ours}.", f".{theirs}.")
    return name


def _vae(name: str, blocks: int) -> str:
    name = re.sub(r"down_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2", name)
    name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d+)\.resnets\.(\d+)", lambda m: f"up.{blocks - 1 - int(m[1])}.block.{m[2]}", name)
    name = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{blocks - 1 - int(m[1])}.upsample", name)
    for ours, theirs in VAE.items():
        name = name.replace(f".{ours}.", f".{theirs}.")
    return name


def _as_convolution(name: str, weight: torch.Tensor) -> torch.Tensor:
    is_projection = re.search(r"attentions\.0\.to_.*weight$", name)
    return weight[:, :, None, None] if is_projection else weight


def _open_clip(weights: Tensors) -> Tensors:
    tensors: Tensors = {"text_projection": weights["text_projection.weight"].T}
    for name, weight in weights.items():
        if name in OPEN_CLIP_TOPS:
            tensors[OPEN_CLIP_TOPS[name]] = weight
        elif match := re.fullmatch(r"text_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", name):
            layer, part, kind = match.groups()
            place = f"transformer.resblocks.{layer}"
            if part == "self_attn.q_proj":
                parts = [weights[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
                tensors[f"{place}.attn.in_proj_{kind}"] = torch.cat(parts)
            elif part in OPEN_CLIP:
                tensors[f"{place}.{OPEN_CLIP[part]}.{kind}"] = weight
    return tensors
