"""Linear systems that do not change with time: inversion in real time, and where sensors go."""

from .inversion import LinearInversion
from .prior import SpaceTimePrior
from .toeplitz import ToeplitzMap

__all__ = ["LinearInversion", "SpaceTimePrior", "ToeplitzMap"]
