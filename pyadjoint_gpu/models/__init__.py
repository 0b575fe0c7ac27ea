"""The physics: one file a model."""

from .base import Elliptic, Model, Parameter, Variable
from .darcy import Darcy, Well

CATALOGUE: dict[str, type[Model]] = {"darcy": Darcy}
"""Models a run file can name."""

__all__ = ["CATALOGUE", "Darcy", "Elliptic", "Model", "Parameter", "Variable", "Well"]
