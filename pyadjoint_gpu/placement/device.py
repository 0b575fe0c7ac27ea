"""The panels of `panel` on a GPU, by JAX."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from ..core.errors import DataError
from ..core.precision import double
from .panel import Blocks, Coefficients, Panel, Prepared, Row

SENSORS = 8
"""Sensors whose rows are multiplied together: one shape, so that products compile once."""


class DevicePanel(Panel):
    """A panel whose V is in blocks, zero where not known, of the rows of `SENSORS` sensors each."""

    left: Float[Array, "some times times"]
    rows: Float[Array, "blocks height columns"]

    @double
    def __init__(
        self,
        refusal: Callable[[], DataError],
        diagonal: Blocks,
        capacity: int,
        dtype: str,
    ):
        n, steps = diagonal.shape[:2]
        self.refusal = refusal
        self.least = np.finfo("f4").eps * diagonal.max(initial=0.0)
        self.left = jnp.asarray(diagonal, dtype)
        self.rows = jnp.zeros((-(-capacity // SENSORS), SENSORS * steps, n * steps), dtype)

    @double
    def prepared(self, coefficients: Coefficients) -> Prepared:
        steps, stop = coefficients.shape
        blocks, height, _ = self.rows.shape
        padded = np.zeros((steps, blocks * height), self.rows.dtype)
        padded[:, : stop - steps] = coefficients[:, :-steps]
        last = jnp.asarray(coefficients[:, -steps:], self.rows.dtype)
        return jnp.asarray(padded.reshape(steps, blocks, height).swapaxes(0, 1)), last, stop - steps

    @double
    def extend(self, coefficients: Prepared, row: Row) -> None:
        flat = row.reshape(len(row), -1).astype(self.rows.dtype)
        self.rows, self.left = _extend(self.rows, self.left, flat, *coefficients)

    @double
    def column(self, j: int, count: int) -> Float[np.ndarray, "rows times"]:
        steps = self.left.shape[1]
        # Compiled once; a slice with static bounds would compile for each j.
        column = lax.dynamic_slice_in_dim(self.rows, j * steps, steps, axis=2)
        return np.asarray(column).reshape(-1, steps)[: count * steps]

    @double
    def blocks(
        self, which: Int[np.ndarray, " some"] | int
    ) -> Float[np.ndarray, "*some times times"]:
        return np.asarray(self.left)[which]

    @double
    def logdets(self, which: Int[np.ndarray, " some"]) -> Float[np.ndarray, " some"]:
        values = np.asarray(_logdets(self.left), float)[which]
        bad = np.isnan(values)
        # Blocks that are not positive definite are treated as on the CPU.
        values[bad] = super().logdets(which[bad])
        return values


@partial(jax.jit, donate_argnums=(0, 1))
def _extend(
    rows: Float[Array, "blocks height columns"],
    left: Float[Array, "some times times"],
    row: Float[Array, "times columns"],
    coefficients: Float[Array, "blocks times height"],
    last: Float[Array, "times times"],
    known: Int[Array, ""],
) -> tuple[Float[Array, "blocks height columns"], Float[Array, "some times times"]]:
    """Rows and C with another sensor, after `known` rows."""
    multiply = partial(jnp.matmul, precision=lax.Precision.HIGHEST)
    height, steps = rows.shape[1], len(row)

    def add(i: int, new: jax.Array) -> jax.Array:
        return new + multiply(coefficients[i], rows[i])

    new = lax.fori_loop(0, (known + height - 1) // height, add, multiply(last, row))
    blocks = new.reshape(steps, -1, steps).swapaxes(0, 1)
    left = left - multiply(blocks.swapaxes(1, 2), blocks)
    place = known // height, known % height, 0
    return lax.dynamic_update_slice(rows, new[None], place), left


@jax.jit
def _logdets(left: Float[Array, "some times times"]) -> Float[Array, " some"]:
    """logdet C_j, NaN where a block is not positive definite."""
    factors = jnp.linalg.cholesky(left)
    return 2.0 * jnp.log(jnp.diagonal(factors, axis1=1, axis2=2)).sum(1)
