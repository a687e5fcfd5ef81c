"""How it is asked what is learnt, and from how much noise."""

from simpletuner_tui.questions.conditions import MoreThan
from simpletuner_tui.questions.training.topic import Topic

OBJECTIVE = Topic(
    section="Objective",
    gate="Change how the loss is formed?",
    gate_help="What the U-Net predicts, how timesteps are chosen and weighted, and what is done to the noise.",
    texts={
        "prediction_type": "What should the U-Net learn to predict?",
        "rescale_betas_zero_snr": "Rescale the noise schedule to zero terminal SNR?",
        "snr_gamma": "Which min-SNR gamma should weigh the loss?",
        "noise_offset": "By how much should the noise be offset?",
        "noise_offset_probability": "For which share of the pictures?",
        "input_perturbation": "By how much should the input be perturbed?",
        "min_timestep": "From which timestep on should it train?",
        "max_timestep": "Up to which timestep should it train?",
    },
    conditions={"noise_offset_probability": MoreThan("training.noise_offset", 0)},
)
