from .covariance import Covariance, DenseCovariance
from .space_time import SpaceTimePrior

__all__ = ["Covariance", "DenseCovariance", "SpaceTimePrior"]
