"""A run's start and its steps, played back on a simulated GPU: what torch allocates and reserves."""

from collections.abc import Mapping
from dataclasses import dataclass

from launcher.estimate.engine_facts import EngineFacts
from launcher.estimate.gpu import ACTIVATIONS, CUBLAS, Gpu, Peak, Tensor
from launcher.estimate.partitioned_weights import PartitionedWeights
from launcher.estimate.trace import Kind, Trace
from launcher.estimate.units import units_of
from launcher.estimate.whole_weights import WholeWeights

CUBLAS_BYTES = 33 * 2**20
"""What torch allocates for cuBLAS, for the thread that computes forward and for the one that computes backward: on an
H200 with torch 2.11."""
STEPS, PARTITIONED_STEPS = 2, 3
"""The first makes optimizer states, and teaches stage 3 the order of modules, which fetches ahead from then on."""


@dataclass(frozen=True, slots=True)
class Played:
    """What was seen, by phase."""

    start: Peak
    step: Peak
    resident: Mapping[str, int]
    """Bytes by part between steps."""


def play(trace: Trace, facts: EngineFacts, *, pictures: int, latents: int, expandable: bool = True) -> Played:
    """Plays a run.

    Args:
        trace: of the U-Net that is trained.
        facts: of the engine around it.
        pictures: of a micro-batch.
        latents: of a picture: height times width in latent pixels.
        expandable: whether torch's segments grow.
    """
    gpu = Gpu(expandable=expandable)
    units = units_of(trace, leaf_blocks=facts.leaf_blocks)
    engine = PartitionedWeights(gpu, trace, units, facts) if facts.stage == 3 else WholeWeights(gpu, trace, facts)
    gpu.take(CUBLAS, CUBLAS_BYTES)  # since the caches were made
    engine.start()
    gpu.empty_cache()  # as torch does by itself where memory runs short: a step is seen by itself
    start = gpu.phase()
    backward: Tensor | None = None
    sizes = [size.at(pictures, latents) for size in trace.sizes]
    for _ in range(PARTITIONED_STEPS if facts.stage == 3 else STEPS):
        tensors: list[Tensor] = []
        gradient: int | None = None
        for kind, index in units.events:
            if kind == Kind.ALLOCATE:
                tensors.append(gpu.take(ACTIVATIONS, sizes[index]))
            elif kind == Kind.FREE:
                if gradient is None:
                    gpu.give(tensors[index])
                else:
                    engine.gradient(gradient, tensors[index])
                    gradient = None
            elif kind == Kind.GRADIENT:
                gradient = index
            elif kind == Kind.LOSS:
                backward = backward or gpu.take(CUBLAS, CUBLAS_BYTES)
                engine.loss()
            else:
                engine.unit(index, begins=kind == Kind.ENTER)
        engine.end()
    return Played(start, gpu.phase(), gpu.parts)
