"""The choice of an engine, by name and for a model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ..core.checks import check_choice
from ..core.errors import ConfigError, EngineError, nearest
from ..models.base import Model
from ..models.explicit import Explicit
from .base import Engine
from .embedded import SOLVERS, EmbeddedEngine
from .implicit_time import ImplicitTimeStepper
from .julia import installation
from .julia.engine import JuliaEngine
from .julia.ranks import Launch
from .launches import current

ENGINES = ("auto", "embedded", "julia")
AUTO = "PYADJOINT_GPU_ENGINE"
"""The environment variable that says what "auto" means."""


def get_engine(
    engine: str | Engine = "auto",
    model: Model | None = None,
    *,
    launcher: Sequence[str] | None = None,
    topology: Sequence[int] | None = None,
    solver: str = "auto",
    **options: Any,
) -> Engine:
    """The engine of a name, or `engine` itself.

    Parameters
    ----------
    engine : {"auto", "embedded", "julia"} or Engine
        "auto" takes Julia if it is set up and has the model, else the embedded engine. The
        environment variable ``PYADJOINT_GPU_ENGINE`` overrides that choice.
    model : Model, optional
        The model to be solved.
    launcher, topology
        Launcher and layout of many ranks, see `Launch`.
    solver : {"auto", "multigrid", "pseudo-transient"}
        Method of the embedded engine. Julia has pseudo-transient iterations only, within
        continuation for models with bounds.
    **options
        ``dtype``, and ``backend`` of Julia; None for the default.

    Raises
    ------
    ConfigError
        If there is no engine of that name, or it has no such option.
    EngineError
        If the engine cannot run here.
    """
    check_choice("solver", solver, SOLVERS)
    if isinstance(engine, Engine):
        if solver not in ("auto", engine.solver):
            raise ConfigError(f"solver: found {solver!r} beside an engine; set it there")
        return engine
    if not isinstance(engine, str):
        raise ConfigError(f"engine: found {engine!r}, expected one of {', '.join(ENGINES)}")
    if engine not in ENGINES:
        raise ConfigError(f"engine: found {engine!r}{nearest(engine, ENGINES)}")
    options = {k: v for k, v in options.items() if v is not None}
    if topology is not None and launcher is None:
        raise ConfigError(f"topology: found {topology!r}, but no launcher")
    if launcher is not None or "backend" in options:
        engine = "julia" if engine == "auto" else engine
    if engine == "auto":
        engine = "embedded" if solver == "multigrid" else automatic(model)[0]
    if engine == "julia" and solver == "multigrid":
        raise ConfigError(
            "solver: engine 'julia' has pseudo-transient iterations only; use engine = \"embedded\""
        )
    if engine == "embedded":
        for key, value in {"launcher": launcher, "backend": options.pop("backend", None)}.items():
            if value is not None:
                raise ConfigError(f"{key}: engine 'embedded' has none; use engine = \"julia\"")
        return EmbeddedEngine(solver=solver, **options)
    try:
        if launcher is not None:
            return Launch(launcher, topology=topology, **options)
        return JuliaEngine(**options)
    except EngineError as error:
        raise EngineError(f"engine 'julia': {error}; engine 'embedded' needs no Julia") from None


def automatic(model: Model | None = None) -> tuple[str, str]:
    """The engine that "auto" stands for, and why."""
    chosen = os.environ.get(AUTO, "auto")
    if chosen != "auto":
        if chosen not in ENGINES:
            raise ConfigError(f"{AUTO}: found {chosen!r}{nearest(chosen, ENGINES)}")
        if chosen == "embedded" or model is None or model.julia_spec() is not None:
            return chosen, f"{AUTO} says so"
    try:
        found = installation.find()
    except EngineError as error:
        return "embedded", str(error)
    if model is not None and model.julia_spec() is None:
        return "embedded", f"model {model.name!r} exists in Python only"
    return "julia", f"Julia is set up by {found.origin}"


def running(engine: Engine, model: Model) -> Engine:
    """The engine that solves a model now: the innermost `Launch` under way, or `engine`, within a
    time stepper for models with time steps."""
    chosen = current(engine)
    if chosen is not engine and engine.solver == "multigrid":
        raise ConfigError("solver: found 'multigrid', but ranks have pseudo-transient iterations")
    if model.times is None:
        return chosen
    if isinstance(model, Explicit):
        return chosen.explicit()
    return ImplicitTimeStepper(chosen)


def of_tangents(engine: Engine, model: Model) -> Engine:
    """The engine of tangent solves beside another, from `running`: that itself, or the embedded
    one, which solves the same equations."""
    return engine if engine.has_tangents else running(EmbeddedEngine(), model)
