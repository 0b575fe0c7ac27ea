from .bathymetry import continental_margin
from .faults import Fault, gnss
from .rupture import Rupture
from .slip_data import SlipData, slip_data

__all__ = ["Fault", "Rupture", "SlipData", "continental_margin", "gnss", "slip_data"]
