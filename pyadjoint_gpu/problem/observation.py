"""Observations: from a state to data, linear, and where on the grid and in time they are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..core.errors import ConfigError, DataError
from ..models.base import Fields, Model


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["indices", "weights"],
    meta_fields=["variable", "model"],
)
@dataclass(frozen=True)
class Observation:
    """A field of the state at points: d = H u, H the (multi)linear interpolation.

    Attributes
    ----------
    indices, weights : array, shape (n, corners)
        Into the flat field, and the rows of H.
    variable, model : str
        What of the state it is, and whose.
    """

    indices: np.ndarray
    weights: np.ndarray
    variable: str
    model: str

    @classmethod
    def at(cls, model: Model, variable: str, points: np.ndarray) -> Observation:
        """A field of the model's state at points, array of shape (n, number of `Model.dims`)."""
        indices, weights = interpolation(model, points, model.observables[variable][1])
        return cls(indices, weights, variable, model.name)

    def __call__(self, state: Fields) -> jax.Array:
        if self.variable not in state:
            raise ConfigError(
                f"observations: these parameters give model {self.model!r} no {self.variable!r}"
            )
        field = jnp.asarray(state[self.variable]).ravel()
        return jnp.sum(field[self.indices] * self.weights, axis=1)


def axis_units(model: Model, axis: str) -> str:
    return model.time_units if axis == "time" else model.domain.units


def point_coordinates(model: Model, points: np.ndarray) -> dict[str, Any]:
    """Coordinates of `points` along the dimension ``observation``."""
    return {
        d: (
            "observation",
            points[:, k],
            {
                "units": axis_units(model, d),
                "long_name": "time" if d == "time" else f"{d} coordinate",
            },
        )
        for k, d in enumerate(model.dims)
    }


def check_inside(
    model: Model, points: np.ndarray, what: str, numbers: np.ndarray | None = None
) -> None:
    """Raise `DataError` naming the first of `points` outside the grid, or the times; by what it is
    called in `numbers`."""
    model.domain.check_inside(points[:, -model.grid.ndim :], what, numbers)
    if model.times is not None:
        times, found = model.times, points[:, 0]
        slack = 1e-9 * times[-1]
        bad = np.flatnonzero((found < times[0] - slack) | (found > times[-1] + slack))
        if bad.size:
            first = bad[0] if numbers is None else numbers[bad[0]]
            raise DataError(
                f"{what} {first} (time={found[bad[0]]:g}) lies outside the times of the state,"
                f" {times[0]:g} to {times[-1]:g}"
            )


def interpolation(
    model: Model, points: np.ndarray, dims: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Indices into a field of the state of these dimensions, flat, and their weights: multilinear
    in space and time."""
    spatial = dims[-model.grid.ndim :]
    on_faces = tuple(d.endswith("_face") for d in spatial)
    indices, weights = model.domain.interpolation(points[:, -model.grid.ndim :], on_faces)
    if model.times is None:
        return indices, weights
    size = math.prod(n + f for n, f in zip(model.grid.shape, on_faces, strict=True))
    s = np.interp(points[:, 0], model.times, np.arange(len(model.times)))
    before = np.minimum(s.astype(np.int64), len(model.times) - 2)
    w = s - before
    return (
        np.concatenate([indices + (before + k)[:, None] * size for k in (0, 1)], axis=1),
        np.concatenate([weights * f[:, None] for f in (1.0 - w, w)], axis=1),
    )
