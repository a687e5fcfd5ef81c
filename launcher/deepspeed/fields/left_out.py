"""What DeepSpeed reads and the builder does not offer, and why."""

from collections.abc import Mapping

_OTHER_MODELS = "for language models and mixtures of experts; SDXL's U-Net has neither"
_DEPRECATED = "an old spelling; opened files that hold it are rewritten"
_OURS = "the training here does this itself"
_REMOVED = "removed from DeepSpeed; it refuses a file that still holds it"

LEFT_OUT: Mapping[str, str] = {
    # Whole sections
    "autotuning": "searches batch sizes with DeepSpeed's own launcher",
    "checkpoint.writer": "needs an environment that DeepSpeed's own launcher alone sets",
    "compile": "needs engine.compile() and a CUDA extension; the U-Net is compiled by accelerate's own questions",
    "data_efficiency": "samples DeepSpeed's own data loader, which is not used here",
    "datastates_ckpt": "needs a package of its own that writes checkpoints",
    "expert_parallel": _OTHER_MODELS,
    "hybrid_engine": "switches between training and generating text",
    "pipeline": "needs a model cut into stages",
    "tensor_parallel": _OTHER_MODELS,
    "weight_quantization": "for inference",
    "zero_optimization.zenflow": "scrambles 2-D weights when the engine starts and cannot take convolutions",
    # Single keys
    "allgather_size": _DEPRECATED,
    "bfloat16": _DEPRECATED,
    "comet.api_key": "a secret: Comet reads COMET_API_KEY from the environment",
    "data_types.keep_in_fp32_modules": "SDXL's U-Net has no buffers to keep in fp32",
    "dataloader_drop_last": "for DeepSpeed's own data loader, which is not used here",
    "disable_allgather": "read by DeepSpeed and used nowhere",
    "managed_gradient_accumulation": "off, every micro-batch would be an optimizer step: the training here leaves "
    "accumulation to DeepSpeed",
    "optimizer.legacy_fusion": "for optimizers that are gone",
    "optimizer.params.max_grad_norm": "refused by DeepSpeed; gradient_clipping is its name",
    "optimizer.params.per_head_muon": "needs a language model's configuration, which counts its heads",
    "seq_parallel_communication_data_type": _OTHER_MODELS,
    "sequence_parallel_size": _OTHER_MODELS,
    "use_data_before_expert_parallelism": _OTHER_MODELS,
    "vocabulary_size": _OTHER_MODELS,
    "zero_allow_untested_optimizer": "for optimizers DeepSpeed has not tried; those offered here it has",
    "zero_force_ds_cpu_optimizer": "for optimizers made in code; the one here is named in the file",
    "zero_optimization.cpu_offload": _DEPRECATED,
    "zero_optimization.cpu_offload_param": _DEPRECATED,
    "zero_optimization.cpu_offload_use_pin_memory": _DEPRECATED,
    "zero_optimization.elastic_checkpoint": "old checkpoints for another number of GPUs; ignored at stage 3",
    "zero_optimization.legacy_stage1": "refused by DeepSpeed since 0.5.9",
    "zero_optimization.pipeline_loading_checkpoint": "needs a model cut into stages",
    "zero_optimization.save_muon_momentum_buffer_in_memory": "keeps in memory what NVMe offload is to take out of it",
    "zero_optimization.stage3_gather_fp16_weights_on_model_save": _DEPRECATED,
    # Removed
    "amp": _REMOVED,
    "compression_training": _REMOVED,
    "curriculum_learning": _REMOVED,
    "eigenvalue": _REMOVED,
    "elasticity": _REMOVED,
    "graph_harvesting": _REMOVED,
    "nebula": _REMOVED,
    "progressive_layer_drop": _REMOVED,
    "quantize_training": _REMOVED,
    "sparse_attention": _REMOVED,
    "sparse_gradients": _REMOVED,
    "zero_optimization.mics_hierarchical_params_gather": _REMOVED,
    "zero_optimization.mics_shard_size": _REMOVED,
    "zero_optimization.zeropp_loco_param": _REMOVED,
}
"""Why not, by path; a section stands for all below it."""
