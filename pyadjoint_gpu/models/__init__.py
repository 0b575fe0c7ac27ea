"""The physics: one file a model."""

from .base import Model, Parameter, Variable
from .darcy import Darcy, Well

CATALOGUE: dict[str, type[Model]] = {"darcy": Darcy}
"""Models a run file can name."""

__all__ = ["CATALOGUE", "Darcy", "Model", "Parameter", "Variable", "Well"]
