"""What a plan costs: GPU memory, host memory, disk."""

from launcher.estimate.model import SDXL, ModelFacts, read_model_facts
from launcher.estimate.parts import Part
from launcher.estimate.total import Estimate, estimate

__all__ = ["SDXL", "Estimate", "ModelFacts", "Part", "estimate", "read_model_facts"]
