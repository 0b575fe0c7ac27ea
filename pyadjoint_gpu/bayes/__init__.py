"""Bayesian inference by sequential Monte Carlo, on the same operators as inversions."""

from .checks import SamplingWarning
from .faults import Fault, gnss
from .fixed import LinearSMC
from .hierarchical import HierarchicalSMC
from .inputs import GaussianPrior
from .linear import Settings

__all__ = [
    "Fault",
    "GaussianPrior",
    "HierarchicalSMC",
    "LinearSMC",
    "SamplingWarning",
    "Settings",
    "gnss",
]
