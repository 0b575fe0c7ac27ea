"""Linear systems that do not change with time: inversion in real time, and where sensors go."""

from .bathymetry import continental_margin
from .blocks import Covariance, DenseCovariance
from .information import information
from .inversion import LinearInversion
from .placing import place_sensors
from .prior import SpaceTimePrior
from .rupture import Rupture
from .selection import Selection, select
from .store import CovarianceFile
from .toeplitz import ToeplitzMap

__all__ = [
    "Covariance",
    "CovarianceFile",
    "DenseCovariance",
    "LinearInversion",
    "Rupture",
    "Selection",
    "SpaceTimePrior",
    "ToeplitzMap",
    "continental_margin",
    "information",
    "place_sensors",
    "select",
]
