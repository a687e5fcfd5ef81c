"""How it is asked which model is fine-tuned."""

from simpletuner_tui.questions.training.topic import Topic

MODEL = Topic(
    section="Model",
    texts={
        "pretrained_model_name_or_path": "Which SDXL model should be fine-tuned?",
        "pretrained_vae_model_name_or_path": "Which VAE should replace the model's own?",
        "pretrained_model_config": "Where does a single .safetensors file find its configuration?",
    },
)
