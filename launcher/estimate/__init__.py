"""What a plan costs: GPU memory, host memory, disk, traffic and time."""

from launcher.estimate.model import SDXL, ModelFacts, read_model_facts
from launcher.estimate.parts import Part, Phase
from launcher.estimate.step_time import StepTime
from launcher.estimate.total import Estimate, estimate
from launcher.estimate.traffic import Traffic
from launcher.estimate.verdict import Verdict, verdict

__all__ = [
    "SDXL",
    "Estimate",
    "ModelFacts",
    "Part",
    "Phase",
    "StepTime",
    "Traffic",
    "Verdict",
    "estimate",
    "read_model_facts",
    "verdict",
]
