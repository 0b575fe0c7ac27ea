"""Synthetic observations, for tests and twin experiments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from .arithmetic import double
from .engines import Engine
from .errors import ConfigError, DataError
from .forward import solve
from .misfit import BoundLeastSquares, check_inside
from .models.base import Model


@double
def observe(
    model: Model,
    parameters: Mapping[str, Any],
    points: Any,
    noise: float = 0.01,
    seed: int = 0,
    *,
    engine: str | Engine = "auto",
    tolerance: float = 1e-10,
) -> xr.Dataset:
    """Solve the model and observe its first unknown at `points`, with Gaussian noise.

    Parameters
    ----------
    model, parameters
        As for `solve`.
    points : array, shape (n, ndim)
        Positions in array order, ``(y, x)``; ``(time, y, x)`` for a transient model.
    noise : float
        Standard deviation of the noise, as a fraction of the largest absolute value observed.
        With 0 the values are exact, and the sigmas 1.
    seed : int
        Of ``numpy.random.default_rng``.

    Returns
    -------
    Dataset
        Along ``observation``: coordinates ``x``, ``y``, ..., variables ``<unknown>`` and
        ``<unknown>_sigma``, as `LeastSquares` takes them.
    """
    where, dims = np.asarray(points, dtype=float), model.dims
    if where.ndim != 2 or where.shape[1] != len(dims) or not len(where):
        raise DataError(
            f"points: found shape {where.shape}, expected (n, {len(dims)})"
            f" in the order {', '.join(dims)}"
        )
    if not noise >= 0:
        raise ConfigError(f"noise: found {noise!r}, expected a number >= 0")
    check_inside(model, where, "point")
    unknown = model.unknowns[0]
    state = solve(model, parameters, engine=engine, tolerance=tolerance)
    exact = BoundLeastSquares(
        model, unknown, where, np.zeros(len(where)), np.ones(len(where))
    ).predict({unknown.name: state[unknown.name].values})
    values = np.asarray(exact)
    sigma = noise * np.max(np.abs(values)) or 1.0
    if noise:
        values = values + sigma * np.random.default_rng(seed).standard_normal(len(values))
    data = BoundLeastSquares(model, unknown, where, values, np.full(len(where), sigma)).dataset()
    data.attrs = {
        "kind": "observations",
        "title": f"synthetic {unknown.name}, noise {noise:g}",
        "seed": seed,
    }
    return data
