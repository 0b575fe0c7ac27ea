"""Waves, by leapfrog steps on a staggered grid: one scheme, and a medium for each physics."""

from .acoustic import AcousticWave
from .shallow_water import ShallowWater
from .staggered import Wave

__all__ = ["AcousticWave", "ShallowWater", "Wave"]
