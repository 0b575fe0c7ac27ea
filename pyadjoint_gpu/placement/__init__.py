"""Linear systems that do not change with time: inversion in real time, and where sensors go."""

from .bathymetry import continental_margin
from .blocks import Covariance, DenseCovariance
from .cost import A100, Cost, Machine, placement_cost
from .information import information
from .inversion import LinearInversion
from .placing import place_sensors
from .prior import SpaceTimePrior
from .rupture import Rupture
from .selection import Selection, select
from .store import CovarianceFile
from .toeplitz import ToeplitzMap

__all__ = [
    "A100",
    "Cost",
    "Covariance",
    "CovarianceFile",
    "DenseCovariance",
    "LinearInversion",
    "Machine",
    "Rupture",
    "Selection",
    "SpaceTimePrior",
    "ToeplitzMap",
    "continental_margin",
    "information",
    "place_sensors",
    "placement_cost",
    "select",
]
