"""Synthetic observations, to test inversions against a known truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from ..core.checks import check_kind, count, finite
from ..core.errors import ConfigError
from ..core.precision import double
from ..engines.base import Engine
from ..models.base import Model
from ..statistics.noise import Noise
from .forward import solve
from .likelihood import BoundLeastSquares
from .observation import Observation
from .support import Support


@double
def observe(
    model: Model,
    parameters: Mapping[str, Any],
    points: Any,
    noise: float | Noise = 0.01,
    seed: int = 0,
    *,
    variable: str | None = None,
    engine: str | Engine = "auto",
    tolerance: float = 1e-10,
) -> xr.Dataset:
    """Solve the model and observe its state at `points`, with Gaussian noise.

    Parameters
    ----------
    model, parameters
        As for `solve`.
    points : array, shape (n, ndim), or Dataset
        Positions in array order, ``(y, x)``; ``(time, y, x)`` for a transient model; or by name
        (``x``, ``y``, ...). In the grid's unit, and the model's unit of time, unless they state
        others. A Dataset may have bounds of its coordinates, as CF says them, and the attribute
        ``cell_methods``, as `LeastSquares` takes them.
    noise : float or Noise
        Standard deviation of independent noise, as a fraction of the largest absolute value
        observed; with 0 the values are exact, and the sigmas 1. Or a `Noise`, in the units of the
        observed field.
    seed : int
        Seed of the noise, for ``numpy.random.default_rng``.
    variable : str, optional
        Name of the observed field of the state (a flux, say); by default the first unknown.

    Returns
    -------
    Dataset
        Along ``observation``: coordinates ``x``, ``y``, ..., variables ``<variable>`` and
        ``<variable>_sigma``, as `LeastSquares` takes them.

    Raises
    ------
    ConfigError, DataError
        If an argument cannot be used, or a point lies outside the grid or the times.
    ConvergenceError
        If the solve does not converge.
    """
    check_kind("model", model, Model)
    seed = count("seed", seed, 0)
    if not isinstance(noise, Noise):
        noise = finite("noise", noise, "a number >= 0")
        if not noise >= 0:
            raise ConfigError(f"noise: found {noise!r}, expected a number >= 0")
    support = Support.of(model, points, "points", "point")
    name = model.unknowns[0].name if variable is None else variable
    observation = Observation.at(model, name, support)
    layout = support.layout(observation.units)
    errors = noise.on(layout) if isinstance(noise, Noise) else None
    state = solve(model, parameters, engine=engine, tolerance=tolerance)
    values = np.asarray(observation({str(k): v.values for k, v in state.data_vars.items()}))
    if errors is None:
        errors = Noise(noise * np.max(np.abs(values)) or 1.0).on(layout)
    if noise:
        values = values + errors.draw(np.random.default_rng(seed), 1)[0]
    data = BoundLeastSquares(model, name, support, values, np.asarray(errors.sd)).dataset()
    data.attrs = {
        "kind": "observations",
        "title": f"synthetic {name}, noise {noise if isinstance(noise, Noise) else f'{noise:g}'}",
        "seed": seed,
    }
    return data
