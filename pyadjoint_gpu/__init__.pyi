from . import geophysics, lti, models, ode, placement, sampling, statistics
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
from .inversion.laplace import laplace
from .lti.block_column import block_column
from .models import Well
from .problem import synthetic
from .problem.control import Control
from .problem.experiment import Experiment
from .problem.forward import solve
from .problem.functional import solve_fields
from .problem.likelihood import LeastSquares
from .problem.observation import Observation
from .problem.penalty import Smoothness
from .problem.problem import Problem
from .problem.verify import adjoint_test, taylor_test
from .runfiles import examples
from .sampling.compress import CompressedPosterior, compress
from .sampling.evidence import evidence
from .sampling.log_density import LogDensity
from .sampling.sample import sample
from .statistics.noise import Noise
from .statistics.priors import Dense, Independent, Matern, Prior, Uniform
from .statistics.space_time import SpaceTime

__all__ = [
    "CompressedPosterior",
    "ConfigError",
    "Control",
    "ConvergenceError",
    "ConvergenceWarning",
    "DataError",
    "Dense",
    "EmbeddedEngine",
    "Engine",
    "EngineError",
    "Experiment",
    "Grid",
    "Independent",
    "JuliaEngine",
    "Launch",
    "LeastSquares",
    "LogDensity",
    "Matern",
    "Noise",
    "Observation",
    "Prior",
    "Problem",
    "Smoothness",
    "SpaceTime",
    "Uniform",
    "Well",
    "__version__",
    "adjoint_test",
    "block_column",
    "compress",
    "evidence",
    "examples",
    "geophysics",
    "invert",
    "laplace",
    "lti",
    "models",
    "ode",
    "placement",
    "resume",
    "sample",
    "sampling",
    "solve",
    "solve_fields",
    "statistics",
    "synthetic",
    "taylor_test",
]
