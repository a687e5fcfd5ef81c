"""What is asked about model, data, duration, checkpoints and export: the settings of training.json."""

from launcher.config.training import training_declarations
from simpletuner_tui.questions.conditions import AllOf, Condition, Is, MoreThan
from simpletuner_tui.questions.derive import question_of

PREFIX = "training."

SECTIONS = {
    "model": "Model",
    "data": "Pictures",
    "optimization": "Training",
    "checkpoints": "Checkpoints",
    "export": "Export",
    "runtime": "Machine",
}
"""Headings by topic."""

TEXTS = {
    "pretrained_model_name_or_path": "Which SDXL model should be fine-tuned?",
    "pretrained_vae_model_name_or_path": "Which VAE should replace the model's own?",
    "pretrained_model_config": "Where does a single .safetensors file find its configuration?",
    "instance_data_dir": "Which folder holds the pictures and their captions?",
    "resolution": "At which resolution should it train?",
    "cache_dir": "Where should latents and prompt embeddings be kept?",
    "max_train_steps": "How many optimizer steps should it train?",
    "train_batch_size": "How many pictures per GPU and micro-batch?",
    "learning_rate": "Which learning rate?",
    "lr_warmup_steps": "Over how many steps should the learning rate rise?",
    "gradient_checkpointing": "Recompute activations to save VRAM (gradient checkpointing)?",
    "seed": "Which seed?",
    "num_eval_images": "On how many pictures should the loss be measured before and after?",
    "output_dir": "Where should checkpoints and exports go?",
    "checkpointing_steps": "Every how many steps should a checkpoint be written?",
    "checkpoints_total_limit": "How many checkpoints should be kept?",
    "resume_from_checkpoint": "Continue from the newest checkpoint, if there is one?",
    "export_pipeline": "Write a diffusers pipeline at the end?",
    "export_dtype": "In which number format should the U-Net be exported?",
    "num_validation_images": "How many sample pictures should be drawn at the end?",
    "validation_prompt": "With which prompt?",
    "validation_num_inference_steps": "With how many denoising steps?",
    "validation_guidance": "With which guidance?",
    "cpu_threads": "How many CPU threads per process?",
}
"""How each setting is asked, by key."""

EXPORTED = Is("training.export_pipeline", True)
DRAWN = AllOf(EXPORTED, MoreThan("training.num_validation_images", 0))

CONDITIONS: dict[str, Condition] = {
    "export_dtype": EXPORTED,
    "num_validation_images": EXPORTED,
    "validation_prompt": DRAWN,
    "validation_num_inference_steps": DRAWN,
    "validation_guidance": DRAWN,
}
"""What is asked only sometimes, by key."""

TRAINING = tuple(
    question_of(
        declared, PREFIX + declared.key, TEXTS[declared.key], SECTIONS[topic], when=CONDITIONS.get(declared.key)
    )
    for topic, declared in training_declarations()
)
