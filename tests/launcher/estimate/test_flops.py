"""What SDXL's U-Net computes, as ``torch.utils.flop_counter`` counts it on tensors without memory."""

import pytest

from launcher.estimate.flops import RESNET, TRANSFORMER, flops
from launcher.estimate.sdxl import sdxl_layers


@pytest.mark.parametrize(
    ("side", "forward", "training", "checkpointed"),
    [(128, 6.76123639808, 20.62280015872, 25.83472668672), (16, 0.14579400704, 0.38523092992, 0.50679939072)],
)
def test_it_computes_what_torch_counts(side, forward, training, checkpointed):
    kinds = flops(sdxl_layers(), side * side)
    passing, returning, again = (
        sum(getattr(kind, way) for kind in kinds.values()) / 1e12 for way in ("forward", "backward", "recomputed")
    )
    assert passing == pytest.approx(forward)
    assert passing + returning == pytest.approx(training)
    assert passing + returning + again == pytest.approx(checkpointed, rel=0.002)
    assert (kinds[TRANSFORMER].blocks, kinds[RESNET].blocks) == (70, 17)


def test_frozen_weights_have_no_gradient_of_their_own():
    whole, frozen = (flops(sdxl_layers(), 128 * 128, frozen=each)[RESNET] for each in (False, True))
    assert frozen.backward == pytest.approx(whole.backward / 2)
    assert frozen.forward == whole.forward
