"""Whether a plan fits."""

from enum import StrEnum

from launcher.estimate.total import Estimate


class Verdict(StrEnum):
    """In words for people."""

    FITS = "fits"
    TIGHT = "tight"
    DOES_NOT_FIT = "does not fit"


def verdict(cost: Estimate, gpu_mib: int) -> Verdict:
    """Whether a plan fits a GPU.

    Args:
        cost: of the plan.
        gpu_mib: what each GPU has for it, or has free now.
    """
    if cost.gpu_mib <= gpu_mib:
        return Verdict.FITS
    return Verdict.TIGHT if cost.gpu_least_mib <= gpu_mib else Verdict.DOES_NOT_FIT
