from .covariance import Covariance, DenseCovariance
from .noise import Layout, Noise
from .priors import Dense, Independent, Matern, Prior, Uniform
from .space_time import SpaceTime

__all__ = [
    "Covariance",
    "Dense",
    "DenseCovariance",
    "Independent",
    "Layout",
    "Matern",
    "Noise",
    "Prior",
    "SpaceTime",
    "Uniform",
]
