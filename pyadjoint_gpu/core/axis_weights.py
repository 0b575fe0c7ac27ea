"""Weights of values along one axis: interpolation to points, and integrals over intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float, Int

    Nodes = Float[np.ndarray, " nodes"]
    Ends = Float[np.ndarray, " n"]


class AxisWeights(NamedTuple):
    """Rows of a matrix on the values along an axis, each with its weights in one stretch: row k is
    ``sum_j weights[k, j] * values[first[k] + j]`` over ``j < length[k]``; zero weights follow."""

    first: Int[np.ndarray, " n"]
    length: Int[np.ndarray, " n"]
    weights: Float[np.ndarray, "n width"]


def interpolated(points: Ends, nodes: Nodes) -> AxisWeights:
    """Values at points, linear between nodes and constant beyond the outermost ones."""
    s = np.interp(points, nodes, np.arange(len(nodes)))
    first = np.minimum(s.astype(np.int64), len(nodes) - 2)
    w = s - first
    return AxisWeights(first, np.full(len(points), 2), np.stack([1.0 - w, w], axis=1))


def of_pieces(low: Ends, high: Ends, edges: Nodes) -> AxisWeights:
    """Integrals from `low` to `high` of a function that has one value between two edges."""
    first, count, left, right = _overlaps(low, high, edges)
    return AxisWeights(first, count, right - left)


def of_linear(low: Ends, high: Ends, nodes: Nodes) -> AxisWeights:
    """Integrals from `low` to `high` of a function that is linear between its values at nodes."""
    first, count, left, right = _overlaps(low, high, nodes)
    # The midpoint rule is exact on each piece.
    index = np.arange(len(nodes), dtype=float)
    at = np.asarray(np.interp(0.5 * (left + right), nodes, index), dtype=float)
    s = at - first[:, None] - index[: left.shape[1]]
    weights = np.zeros((len(low), left.shape[1] + 1))
    weights[:, :-1] += (right - left) * (1.0 - s)
    weights[:, 1:] += (right - left) * s
    return AxisWeights(first, count + 1, weights)


def _overlaps(
    low: Ends, high: Ends, edges: Nodes
) -> tuple[
    Int[np.ndarray, " n"],
    Int[np.ndarray, " n"],
    Float[np.ndarray, "n width"],
    Float[np.ndarray, "n width"],
]:
    """The first piece between `edges` that each interval overlaps, their number, and the ends of
    the overlaps; these are empty beyond that number."""
    pieces = len(edges) - 1
    first = np.clip(np.searchsorted(edges, low, side="right") - 1, 0, pieces - 1)
    count = np.clip(np.searchsorted(edges, high, side="left"), first + 1, pieces) - first
    k = np.minimum(first[:, None] + np.arange(np.max(count)), pieces)
    left = np.maximum(edges[k], low[:, None])
    right = np.minimum(edges[np.minimum(k + 1, pieces)], high[:, None])
    return first, count, left, np.maximum(left, right)


def product(
    axes: Sequence[AxisWeights], strides: Sequence[int]
) -> tuple[Int[np.ndarray, " entries"], Int[np.ndarray, " entries"], Float[np.ndarray, " entries"]]:
    """The rows of a tensor product of axes: numbers of rows, in order, and positions in the flat
    field, in which the axes have these `strides`, and weights of all entries."""
    counts = np.prod([axis.length for axis in axes], axis=0)
    rows = np.repeat(np.arange(len(counts)), counts)
    entry = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    indices, weights = np.zeros(len(rows), dtype=np.int64), np.ones(len(rows))
    for axis, stride in zip(axes, strides, strict=True):
        entry, k = np.divmod(entry, axis.length[rows])
        indices += stride * (axis.first[rows] + k)
        weights *= axis.weights[rows, k]
    return rows, indices, weights
