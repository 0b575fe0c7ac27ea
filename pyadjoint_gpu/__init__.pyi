from . import geophysics, lti, models, placement, sampling, statistics
from .core.errors import (
    ConfigError,
    ConvergenceError,
    ConvergenceWarning,
    DataError,
    EngineError,
)
from .core.grid import Grid
from .core.version import __version__
from .engines.base import Engine
from .engines.embedded import EmbeddedEngine
from .engines.julia.engine import JuliaEngine
from .engines.julia.ranks import Launch
from .inversion.invert import invert, resume
from .lti.block_column import block_column
from .models import Well
from .problem import synthetic
from .problem.control import Control, Smoothness
from .problem.forward import solve
from .problem.functional import solve_fields
from .problem.likelihood import LeastSquares
from .problem.problem import Problem
from .problem.verify import adjoint_test, taylor_test
from .runfiles import examples

__all__ = [
    "ConfigError",
    "Control",
    "ConvergenceError",
    "ConvergenceWarning",
    "DataError",
    "EmbeddedEngine",
    "Engine",
    "EngineError",
    "Grid",
    "JuliaEngine",
    "Launch",
    "LeastSquares",
    "Problem",
    "Smoothness",
    "Well",
    "__version__",
    "adjoint_test",
    "block_column",
    "examples",
    "geophysics",
    "invert",
    "lti",
    "models",
    "placement",
    "resume",
    "sampling",
    "solve",
    "solve_fields",
    "statistics",
    "synthetic",
    "taylor_test",
]
