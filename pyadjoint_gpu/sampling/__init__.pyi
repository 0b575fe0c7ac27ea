from .checks import SamplingWarning
from .fields import FieldPrior
from .fixed import LinearSMC
from .hierarchical import HierarchicalSMC
from .inputs import GaussianPrior
from .linear import Settings
from .problem import ProblemSMC

__all__ = [
    "FieldPrior",
    "GaussianPrior",
    "HierarchicalSMC",
    "LinearSMC",
    "ProblemSMC",
    "SamplingWarning",
    "Settings",
]
