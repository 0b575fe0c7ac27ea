"""Recover unknown fields of PDEs from data, with exact adjoint gradients."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import accessor as _accessor

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import bayes, examples, models, placement, synthetic
    from .control import Control, Smoothness
    from .engines.embedded import EmbeddedEngine
    from .engines.julia import JuliaEngine
    from .engines.ranks import Launch
    from .errors import (
        ConfigError,
        ConvergenceError,
        ConvergenceWarning,
        DataError,
        EngineError,
    )
    from .forward import solve
    from .functional import solve_fields
    from .grid import Grid
    from .inversion import invert, resume
    from .misfit import LeastSquares
    from .models import Well
    from .problem import Problem
    from .responses import block_column
    from .verify import adjoint_test, taylor_test

_accessor.register()

# Imported on first use: JAX, scipy and matplotlib cost nothing until something needs them.
_WHERE = {
    "Control": "control",
    "Smoothness": "control",
    "EmbeddedEngine": "engines.embedded",
    "JuliaEngine": "engines.julia",
    "Launch": "engines.ranks",
    "ConfigError": "errors",
    "ConvergenceError": "errors",
    "ConvergenceWarning": "errors",
    "DataError": "errors",
    "EngineError": "errors",
    "solve": "forward",
    "solve_fields": "functional",
    "Grid": "grid",
    "invert": "inversion",
    "resume": "inversion",
    "LeastSquares": "misfit",
    "Well": "models",
    "Problem": "problem",
    "block_column": "responses",
    "adjoint_test": "verify",
    "taylor_test": "verify",
    "bayes": "",
    "examples": "",
    "models": "",
    "placement": "",
    "synthetic": "",
}

__all__ = [
    "ConfigError",
    "Control",
    "ConvergenceError",
    "ConvergenceWarning",
    "DataError",
    "EmbeddedEngine",
    "EngineError",
    "Grid",
    "JuliaEngine",
    "Launch",
    "LeastSquares",
    "Problem",
    "Smoothness",
    "Well",
    "adjoint_test",
    "bayes",
    "block_column",
    "examples",
    "invert",
    "models",
    "placement",
    "resume",
    "solve",
    "solve_fields",
    "synthetic",
    "taylor_test",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if not _WHERE[name]:
        return importlib.import_module(f".{name}", __name__)
    value = getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
