from .checks import SamplingWarning
from .fixed import LinearSMC
from .flow_chains import FlowMCMC
from .hierarchical import HierarchicalSMC
from .linear import Settings
from .mcmc import MCMC
from .population import population
from .smc import SMC

__all__ = [
    "MCMC",
    "SMC",
    "FlowMCMC",
    "HierarchicalSMC",
    "LinearSMC",
    "SamplingWarning",
    "Settings",
    "population",
]
