"""Finite volumes: means and differences on faces, and the divergence of flows.

Faces along an axis are the inner ones unless said otherwise, one fewer than cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from .declarations import Elliptic


def below(cells: Float[Array, "*cells"], axis: int) -> Float[Array, "*faces"]:
    """The cell below each face along an axis."""
    return lax.slice_in_dim(cells, 0, cells.shape[axis] - 1, axis=axis)


def above(cells: Float[Array, "*cells"], axis: int) -> Float[Array, "*faces"]:
    """The cell above each face along an axis."""
    return lax.slice_in_dim(cells, 1, cells.shape[axis], axis=axis)


def mean(cells: Float[Array, "*cells"], axis: int) -> Float[Array, "*faces"]:
    """Mean of the two cells at each face along an axis."""
    return 0.5 * (below(cells, axis) + above(cells, axis))


def difference(cells: Float[Array, "*cells"], axis: int) -> Float[Array, "*faces"]:
    """Difference across each face along an axis, the cell above minus the cell below."""
    return above(cells, axis) - below(cells, axis)


def pad(array: Float[Array, " ..."], axis: int, before: int, after: int) -> Float[Array, " ..."]:
    """The array with zeros added at the ends of an axis."""
    widths = [(before, after) if a == axis else (0, 0) for a in range(array.ndim)]
    return jnp.pad(array, widths)


def gather(
    r: Float[Array, "*cells"], flows: Sequence[Float[Array, " ..."]]
) -> Float[Array, "*cells"]:
    """r plus the net inflow to each cell; `flows` are those through the faces along each axis,
    positive against the axis."""
    for axis, flow in enumerate(flows):
        # XLA runs this form, inner faces padded to cells, fastest.
        r = r + pad(flow, axis, 0, 1) - pad(flow, axis, 1, 0)
    return r


def with_active_set(elliptic: Elliptic, active_set: Bool[Array, "*cells"], rate: float) -> Elliptic:
    """The operator with A u = rate u in the cells of the active set, whose values act as fixed
    boundary values on the others."""
    faces, sink = [], elliptic.sink
    for axis, k in enumerate(elliptic.faces):
        either = below(active_set, axis) | above(active_set, axis)
        faces.append(jnp.where(either, 0.0, k))
        cut = jnp.where(either, k, 0.0)
        sink = sink + pad(cut, axis, 0, 1) + pad(cut, axis, 1, 0)
    return Elliptic(tuple(faces), jnp.where(active_set, rate, sink))
