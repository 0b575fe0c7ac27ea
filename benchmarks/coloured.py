"""Newton's method with SuperLU on any model's residual, its Jacobian from coloured products.

Cells three apart along each axis share no neighbour, so nine products with dR/du, by JAX as the
package has them, give all entries of a model on a plane whose stencil reaches one cell far.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from pyadjoint_gpu.engines.embedded import prepared
from pyadjoint_gpu.models import Model

from .machine import best

SHORTEST = 1e-6
"""Step length at which the search is given up."""


def newton(
    model: Model, m: Any, bar: np.ndarray, tolerance: float, start: np.ndarray | None = None
) -> tuple[dict[str, Any], np.ndarray]:
    """Steps, seconds of a gradient and of its adjoint alone; and u, with halved steps, from the
    package's own start (or another) to a residual of `tolerance`. Compilation is not counted. No
    steps are given where it comes to no solution."""
    (name,) = (v.name for v in model.unknowns)
    if start is None:
        start = (model.guess(m) or {name: np.zeros(model.grid.shape)})[name]
    with jax.enable_x64(True):
        c = jax.tree.map(jnp.asarray, prepared(model, m))
        masks, rows, columns, kept = _colours(model.grid.shape)

        @jax.jit
        def residual(u: Any) -> Any:
            return model.equations({name: u}, c)[name]

        @jax.jit
        def products(u: Any) -> Any:
            return jax.lax.map(lambda v: jax.jvp(residual, (u,), (v,))[1], masks)

        def factors(u: Any) -> Any:
            values = np.asarray(products(u))[kept]
            shape = (model.grid.size, model.grid.size)
            matrix = sp.csc_array(sp.coo_array((values, (rows, columns)), shape=shape))
            matrix.eliminate_zeros()  # corners, where the stencil has none
            return splu(matrix)

        def solve() -> tuple[Any, int | None]:
            u = jnp.asarray(start)
            scale = float(jnp.max(jnp.abs(residual(jnp.zeros_like(u)))))
            r, steps = residual(u), 0
            while float(jnp.max(jnp.abs(r))) > tolerance * scale:
                change = factors(u).solve(-np.asarray(r).ravel()).reshape(u.shape)
                length, size = 1.0, float(jnp.linalg.norm(r))
                while float(jnp.linalg.norm(residual(u + length * change))) > size:
                    length *= 0.5
                    if length < SHORTEST:
                        return u, None
                u = u + length * change
                r, steps = residual(u), steps + 1
            return u, steps

        solve()  # compiles
        ahead, (u, steps) = best(solve)
        behind, _ = best(lambda: factors(u).solve(bar.ravel(), trans="T"))
    return {"gradient": ahead + behind, "adjoint": behind, "steps": steps}, np.asarray(u)


def _colours(shape: tuple[int, ...]) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
    """One in the cells of each colour; rows and columns of the entries, and which they are of the
    products."""
    y, x = np.indices(shape)
    masks, columns, inside = [], [], []
    for colour in np.ndindex(3, 3):
        masks.append((y % 3 == colour[0]) & (x % 3 == colour[1]))
        # Of each row, the one neighbour of that colour.
        j, i = y + (colour[0] - y + 1) % 3 - 1, x + (colour[1] - x + 1) % 3 - 1
        inside.append((j >= 0) & (j < shape[0]) & (i >= 0) & (i < shape[1]))
        columns.append(j * shape[1] + i)
    kept = np.array(inside)
    rows = np.broadcast_to(np.arange(y.size).reshape(shape), kept.shape)
    return jnp.asarray(np.array(masks), float), rows[kept], np.array(columns)[kept], kept
