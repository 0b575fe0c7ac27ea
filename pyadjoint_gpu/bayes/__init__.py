"""Bayesian inference by sequential Monte Carlo, on the same operators as inversions."""

from .checks import SamplingWarning
from .data import SlipData, slip_data
from .faults import Fault, gnss
from .field import FieldPrior
from .fixed import LinearSMC
from .hierarchical import HierarchicalSMC
from .inputs import GaussianPrior
from .linear import Settings
from .problem import ProblemSMC

__all__ = [
    "Fault",
    "FieldPrior",
    "GaussianPrior",
    "HierarchicalSMC",
    "LinearSMC",
    "ProblemSMC",
    "SamplingWarning",
    "Settings",
    "SlipData",
    "gnss",
    "slip_data",
]
