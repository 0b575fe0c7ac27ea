"""Symmetric stencils, which couple each cell with its 3^d - 1 neighbours, and their coarsening.

    (A u)_i = sum_o k_o(i) (u_i - u_{i+o}) + s_i u_i

over the offsets o to the neighbours. k is symmetric and stored once for each pair of cells. Written
in differences, A maps constants to s exactly, in any precision and on every level.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ..models.finite_volume import above, below, pad

Offset = tuple[int, ...]
Field = Float[Array, "*cells"]
Couplings = tuple[Float[Array, " ..."], ...]
Sink = Field | float


@jax.tree_util.register_pytree_node_class
class Stencil(NamedTuple):
    """Symmetric operator on one unknown: couplings k and sink s."""

    offsets: tuple[Offset, ...]
    """One of each pair (o, -o) of coupled neighbours."""
    couplings: Couplings
    """k_o(i) for each offset, on the cells i whose neighbour i + o exists."""
    sink: Sink

    def tree_flatten(self) -> tuple[tuple[Couplings, Sink], tuple[Offset, ...]]:
        return (self.couplings, self.sink), self.offsets

    @classmethod
    def tree_unflatten(
        cls, offsets: tuple[Offset, ...], children: tuple[Couplings, Sink]
    ) -> Stencil:
        return cls(offsets, *children)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of cells along each axis."""
        pairs = zip(self.couplings[0].shape, self.offsets[0], strict=True)
        return tuple(n + abs(o) for n, o in pairs)

    def apply(self, u: Field) -> Field:
        """The product A u."""
        out = self.sink * u
        for offset, k in zip(self.offsets, self.couplings, strict=True):
            flow = k * (_lower(u, offset) - _upper(u, offset))
            out = out + _at_lower(flow, offset) - _at_upper(flow, offset)
        return out

    def diagonal(self, weigh: Callable[[Any], Any] = lambda k: k) -> Field:
        """The diagonal s_i + sum_o k_o(i), with `weigh` applied to s and k."""
        out = weigh(self.sink)
        for offset, k in zip(self.offsets, self.couplings, strict=True):
            k = weigh(k)
            out = out + _at_lower(k, offset) + _at_upper(k, offset)
        return out

    def map(self, function: Callable[[Any], Any]) -> Stencil:
        """The stencil with a function applied to s and k."""
        return Stencil(self.offsets, tuple(map(function, self.couplings)), function(self.sink))


def from_faces(faces: Couplings, sink: Sink) -> Stencil:
    """The stencil of couplings through the inner faces along each axis."""
    ndim = len(faces)
    offsets = tuple(tuple(int(a == axis) for a in range(ndim)) for axis in range(ndim))
    return Stencil(offsets, tuple(faces), sink)


def _lower(u: Field, offset: Offset) -> Float[Array, "*pairs"]:
    """u_i on the cells i that have a neighbour i + offset."""
    ends = [n - max(0, o) for o, n in zip(offset, u.shape, strict=True)]
    return lax.slice(u, [max(0, -o) for o in offset], ends)


def _upper(u: Field, offset: Offset) -> Float[Array, "*pairs"]:
    """u_{i + offset} on the cells i that have a neighbour i + offset."""
    return _lower(u, tuple(-o for o in offset))


def _at_lower(flow: Float[Array, "*pairs"], offset: Offset) -> Field:
    """Values of the pairs (i, i + offset) as a field at i, zero elsewhere."""
    return jnp.pad(flow, [(max(0, -o), max(0, o)) for o in offset])


def _at_upper(flow: Float[Array, "*pairs"], offset: Offset) -> Field:
    """Values of the pairs (i, i + offset) as a field at i + offset, zero elsewhere."""
    return _at_lower(flow, tuple(-o for o in offset))


# Coarsening along one axis: cells 0, 2, 4, ... are kept, those between are interpolated.

Coarse = Float[Array, "*coarse"]
"""One value for each cell that is kept."""
Between = Float[Array, "*between"]
"""One value for each cell between."""


def _every_other(a: Field, axis: int, start: int, count: int) -> Coarse:
    """`count` entries start, start + 2, ... along an axis, zero beyond the end."""
    stop = start + 2 * (count - 1) + 1
    a = pad(a, axis, 0, max(0, stop - a.shape[axis]))
    return lax.slice_in_dim(a, start, stop, 2, axis)


def _behind(a: Coarse, axis: int) -> Coarse:
    """a_{I-1} at I, zero at the start."""
    return pad(below(a, axis), axis, 1, 0)


def _lengthen(a: Between, axis: int, size: int) -> Coarse:
    """The array with zeros added at the end of an axis, to `size` entries."""
    return pad(a, axis, 0, size - a.shape[axis])


def interpolation(stencil: Stencil, axis: int) -> Between:
    """Interpolation weights of the cell behind, for each cell between; those of the cell ahead are
    one minus these. With the couplings summed across the axis, the interpolated field has
    continuous flux (Alcouffe et al. 1981; Dendy 1982)."""
    n = stencil.shape[axis]
    count = n // 2
    behind = ahead = jnp.zeros(stencil.shape, stencil.couplings[0].dtype)
    for offset, k in zip(stencil.offsets, stencil.couplings, strict=True):
        if offset[axis]:
            low, high = _at_lower(k, offset), _at_upper(k, offset)
            if offset[axis] > 0:
                ahead, behind = ahead + low, behind + high
            else:
                ahead, behind = ahead + high, behind + low
    behind, ahead = (_every_other(a, axis, 1, count) for a in (behind, ahead))
    total = behind + ahead
    weight = jnp.where(total > 0, behind / jnp.where(total > 0, total, 1), 0.5)
    weight = jnp.clip(weight, 0.0, 1.0)
    if n % 2 == 0:  # no cell ahead of the last
        last = lax.broadcasted_iota(jnp.int32, weight.shape, axis) == count - 1
        weight = jnp.where(last, 1.0, weight)
    return weight


def prolong(coarse: Coarse, weight: Between, axis: int, n: int) -> Field:
    """Interpolate from every other cell to the n cells along `axis`."""
    size = coarse.shape[axis]
    count = n // 2
    beyond = pad(above(coarse, axis), axis, 0, 1)
    kept, ahead = (lax.slice_in_dim(a, 0, count, axis=axis) for a in (coarse, beyond))
    between = _lengthen(ahead + weight * (kept - ahead), axis, size)
    shape = tuple(2 * m if k == axis else m for k, m in enumerate(coarse.shape))
    both = jnp.stack([coarse, between], axis + 1).reshape(shape)
    return lax.slice_in_dim(both, 0, n, axis=axis)


def restrict(fine: Field, weight: Between, axis: int) -> Coarse:
    """The transpose of `prolong`."""
    n = fine.shape[axis]
    size, count = (n + 1) // 2, n // 2
    between = _every_other(fine, axis, 1, count)
    behind = weight * between
    ahead = _lengthen(between - behind, axis, size)
    return _every_other(fine, axis, 0, size) + _lengthen(behind, axis, size) + _behind(ahead, axis)


def coarsen(stencil: Stencil, weight: Between, axis: int) -> Stencil:
    """The Galerkin product P^T A P for the interpolation P along one axis.

    For each offset o in the other axes A has tridiagonal matrices T_o along that axis, which become
    P(i)^T T_o P(i + o), tridiagonal again.
    """
    ndim = len(stencil.shape)
    size = (stencil.shape[axis] + 1) // 2
    given = dict(zip(stencil.offsets, stencil.couplings, strict=True))
    sink = jnp.broadcast_to(stencil.sink, stencil.shape)
    behind = _lengthen(weight, axis, size)
    ahead = _lengthen(1.0 - weight, axis, size)

    def entry(offset: Offset) -> Field | None:
        """The matrix entries between i and i + offset; None if all are zero."""
        if not any(offset):
            return stencil.diagonal()
        if offset in given:
            return -_at_lower(given[offset], offset)
        back = tuple(-o for o in offset)
        return -_at_upper(given[back], back) if back in given else None

    out: dict[Offset, Float[Array, " ..."]] = {}
    for across in _half(ndim - 1):
        offsets = [(*across[:axis], a, *across[axis:]) for a in (-1, 0, 1)]
        lines = [entry(o) for o in offsets]
        if all(a is None for a in lines):
            continue
        low, middle, high = (
            (0.0, 0.0)
            if a is None
            else (_every_other(a, axis, 0, size), _every_other(a, axis, 1, size))
            for a in lines
        )
        shift = offsets[1]
        q, r = (_at_lower(_upper(a, shift), shift) for a in (behind, ahead))
        # Rows of T P(i + o): of cells kept, with columns I - 1, I, I + 1; of those between, with
        # columns I, I + 1.
        stay = (
            low[0] * _behind(q, axis),
            low[0] * _behind(r, axis) + middle[0] + high[0] * q,
            high[0] * r,
        )
        between = (low[1] + middle[1] * q, middle[1] * r + high[1])
        before = [_behind(ahead * b, axis) for b in between]
        columns = (
            stay[0] + before[0],
            stay[1] + behind * between[0] + before[1],
            stay[2] + behind * between[1],
        )
        for offset, column in zip(offsets, columns, strict=True):
            if any(across) or offset[axis] == 1:
                out[offset] = -_lower(column, offset)
    return Stencil(tuple(out), tuple(out.values()), restrict(sink, weight, axis))


def _half(ndim: int) -> list[Offset]:
    """The zero offset, and one of each pair of opposite neighbours."""
    zero = (0,) * ndim
    return [o for o in product((-1, 0, 1), repeat=ndim) if o >= zero]
