"""Observation operators: linear interpolation of a state to points in space and time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..core.errors import ConfigError, DataError
from ..models.base import Fields, Model
from ..results.dataset import named
from ..statistics.noise import Layout


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["indices", "weights"],
    meta_fields=["variable", "model"],
)
@dataclass(frozen=True)
class Observation:
    """A field of the state at n points: d = H u, with H the (multi)linear interpolation.

    Attributes
    ----------
    indices, weights : array, shape (n, corners)
        Positions of the nonzero elements of each row of H in the flat field, and their values.
    variable, model : str
        Names of the observed field of the state, and of the model.
    """

    indices: Int[np.ndarray, "n corners"]
    weights: Float[np.ndarray, "n corners"]
    variable: str
    model: str

    @classmethod
    def at(cls, model: Model, variable: str, points: Float[np.ndarray, "n dims"]) -> Observation:
        """The observation of `variable` at points with a coordinate for each of `Model.dims`."""
        spatial = model.observables[variable][1][-model.grid.ndim :]
        on_faces = tuple(d.endswith("_face") for d in spatial)
        indices, weights = model.domain.interpolation(points[:, -model.grid.ndim :], on_faces)
        if model.times is not None:
            size = math.prod(n + f for n, f in zip(model.grid.shape, on_faces, strict=True))
            s = np.interp(points[:, 0], model.times, np.arange(len(model.times)))
            before = np.minimum(s.astype(np.int64), len(model.times) - 2)
            w = s - before
            indices = np.concatenate(
                [indices + (before + k)[:, None] * size for k in (0, 1)], axis=1
            )
            weights = np.concatenate([weights * f[:, None] for f in (1.0 - w, w)], axis=1)
        return cls(indices, weights, variable, model.name)

    def __call__(self, state: Fields) -> Float[Array, " n"]:
        if self.variable not in state:
            raise ConfigError(
                f"observations: these parameters give model {self.model!r} no {self.variable!r}"
            )
        field = jnp.asarray(state[self.variable]).ravel()
        return jnp.sum(field[self.indices] * self.weights, axis=1)


def axis_units(model: Model, axis: str) -> str:
    """Units of positions along an axis of the model's states."""
    return model.time_units if axis == "time" else model.domain.units


def point_coordinates(model: Model, points: Float[np.ndarray, "n dims"]) -> dict[str, Any]:
    """Coordinates of `points` along the dimension ``observation``, as a Dataset takes them."""
    names = {d: "time" if d == "time" else f"{d} coordinate" for d in model.dims}
    return {
        d: ("observation", points[:, k], named(names[d], axis_units(model, d)))
        for k, d in enumerate(model.dims)
    }


def point_layout(model: Model, points: Float[np.ndarray, "n dims"], units: str) -> Layout:
    """The layout of data at `points` for their noise: those at the same point are of one place."""
    places = points[:, -model.grid.ndim :]
    _, sites = np.unique(places, axis=0, return_inverse=True)
    times = None if model.times is None else points[:, 0]
    return Layout(len(points), units, times, model.time_units, sites.ravel())


def check_inside(
    model: Model,
    points: Float[np.ndarray, "n dims"],
    what: str,
    numbers: Int[np.ndarray, " n"] | None = None,
) -> None:
    """Raise a `DataError` that names the first of `points` outside the grid or the times, by its
    number among `numbers` (0, 1, ... if not given)."""
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
