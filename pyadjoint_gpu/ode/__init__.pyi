from .equations_of_state import EquationOfState, Incompressible, Polytrope
from .fit import fit
from .intervals import Interval
from .piecewise import PiecewisePolytrope
from .stars import mass_radius, maximum_mass, stars
from .structure import Star, structure

__all__ = [
    "EquationOfState",
    "Incompressible",
    "Interval",
    "PiecewisePolytrope",
    "Polytrope",
    "Star",
    "fit",
    "mass_radius",
    "maximum_mass",
    "stars",
    "structure",
]
