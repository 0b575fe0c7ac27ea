from .inversion import LinearInversion
from .store import CovarianceFile
from .toeplitz import ToeplitzMap

__all__ = ["CovarianceFile", "LinearInversion", "ToeplitzMap"]
