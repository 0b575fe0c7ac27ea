from .checks import SamplingWarning
from .fixed import LinearSMC
from .hierarchical import HierarchicalSMC
from .linear import Settings
from .problem import ProblemSMC

__all__ = [
    "HierarchicalSMC",
    "LinearSMC",
    "ProblemSMC",
    "SamplingWarning",
    "Settings",
]
