"""Training of flows by maximum likelihood.

Adam (Kingma and Ba 2015, ICLR, arXiv:1412.6980) on batches of the whitened data, with a rate that
falls from `rate` to zero by a cosine. A running average of the parameters over the epochs takes
their noise away (Polyak and Juditsky 1992, SIAM J. Control Optim. 30, 838). A part of the data is
held out: the parameters kept are those averages with which its mean ln q was the greatest, the
first parameters included, and training ends where it has not grown for some epochs.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from ...core.checks import count, finite_array, positive
from ...core.errors import DataError
from ...core.extras import needed
from ...core.precision import AnyArray, compiled, double
from .architecture import Architecture
from .model import Flow, base_of_whitened, network, whitened

HELD_OUT = 0.1
"""Part of the data by which parameters are chosen."""
MEMORY = 0.8
"""Weight of earlier epochs in the average of the parameters."""


@double
def fit(
    x: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    seed: int = 0,
    start: Flow | None = None,
    kind: str = "spline",
    layers: int = 6,
    width: int = 32,
    knots: int = 5,
    epochs: int = 80,
    batch: int = 256,
    rate: float = 2e-3,
    patience: int = 20,
) -> Flow:
    """The flow of greatest likelihood of samples x, shape (rows, n), of the given `weights`.

    The first call for a shape of x, sizes and `batch` compiles; others of the same do not. With the
    same seed results are the same to the last bit.

    Parameters
    ----------
    start
        A flow whose parameters are trained further, and whose sizes are kept; x is whitened by its
        own mean and covariance.
    kind, layers, width, knots
        See `Architecture`.
    epochs
        Most passes through the data.
    batch
        Rows of a step.
    rate
        First rate of Adam, for whitened data.
    patience
        Passes without a better likelihood of the held out data, after which training ends.

    Raises
    ------
    DataError
        If x is not finite, has too few rows, or a singular covariance; if a weight is negative.
    """
    rows, w = _checked(x, weights)
    n = rows.shape[1]
    architecture = start.architecture if start else Architecture(n, kind, layers, width, knots)
    if architecture.n != n:
        raise DataError(f"x: found {n} components, expected the {architecture.n} of the flow")
    for name, value in (("epochs", epochs), ("batch", batch), ("patience", patience)):
        count(name, value)
    count("seed", seed, 0)
    positive("rate", rate)
    mean, factor = _moments(rows, w)
    split, first, order = jax.random.split(jax.random.key(seed), 3)
    parameters = start.parameters if start else network().initial(architecture, first)
    flow = Flow(mean, factor, np.asarray(parameters), architecture)
    which = np.asarray(jax.random.permutation(split, len(rows)))
    held, used = np.split(which, [max(1, round(HELD_OUT * len(rows)))])
    found = _train(
        flow, min(batch, len(used)), (rows[used], w[used]), (rows[held], w[held]),
        order, epochs, rate, patience,
    )  # fmt: skip
    return Flow(mean, factor, np.asarray(found), architecture)


def _checked(
    x: ArrayLike, weights: ArrayLike | None
) -> tuple[Float[np.ndarray, "rows n"], Float[np.ndarray, " rows"]]:
    rows = finite_array("x", x)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise DataError(f"x: found an array of shape {rows.shape}, expected (rows, components)")
    least = 2 * rows.shape[1] + 2
    if len(rows) < least:
        raise DataError(f"x: found {len(rows)} rows, expected {least} or more")
    w = np.ones(len(rows)) if weights is None else finite_array("weights", weights)
    if w.shape != (len(rows),) or np.any(w < 0.0) or not np.any(w):
        raise DataError(
            f"weights: found an array of shape {w.shape}, expected {len(rows)} numbers, none"
            " negative and not all zero"
        )
    return rows, w / np.mean(w)


def _moments(
    rows: Float[np.ndarray, "rows n"], w: Float[np.ndarray, " rows"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n n"]]:
    """Mean, and Cholesky factor of the covariance."""
    mean = w @ rows / len(rows)
    off = rows - mean
    covariance = (w[:, None] * off).T @ off / len(rows)
    # Of components on scales of their own.
    sd = np.sqrt(np.diag(covariance))
    try:
        if not np.all(sd > 0.0):
            raise np.linalg.LinAlgError
        return mean, sd[:, None] * np.linalg.cholesky(covariance / np.outer(sd, sd))
    except np.linalg.LinAlgError:
        raise DataError(
            "x: its covariance is singular, expected components none of which is constant or a sum"
            " of the others"
        ) from None


def _training(
    flow: Flow,
    batch: int,
    used: tuple[AnyArray, AnyArray],
    held: tuple[AnyArray, AnyArray],
    key: Array,
    epochs: Array | int,
    rate: Array | float,
    patience: Array | int,
) -> Float[Array, " parameters"]:
    def loss(parameters: Array, x: Array, w: Array) -> Array:
        return -jnp.mean(w * base_of_whitened(flow.architecture, parameters, x)[1])

    (x, w), (x_held, w_held) = (
        (whitened(flow, rows)[0], jnp.asarray(w)) for rows, w in (used, held)
    )
    batches = len(x) // batch
    adam = needed("optax", "sampling").scale_by_adam()

    def step(state: Any, which: Array) -> tuple[Any, None]:
        parameters, moments, done = state
        gradient = jax.grad(loss)(parameters, x[which], w[which])
        change: Any
        change, moments = adam.update(gradient, moments)
        now = 0.5 * rate * (1.0 + jnp.cos(jnp.pi * done / (epochs * batches)))
        return (parameters - now * change, moments, done + 1), None

    def epoch(carry: Any) -> Any:
        state, average, best, least, at, k = carry
        order = jax.random.permutation(jax.random.fold_in(key, k), len(x))
        state, _ = lax.scan(step, state, order[: batches * batch].reshape(batches, batch))
        average = MEMORY * average + (1.0 - MEMORY) * state[0]
        found = loss(average, x_held, w_held)
        better = found < least
        best = jnp.where(better, average, best)
        at = jnp.where(better, k, at)
        return state, average, best, jnp.where(better, found, least), at, k + 1

    def more(carry: Any) -> Array:
        *_, at, k = carry
        return (k <= epochs) & (k - at <= patience)

    first = jnp.asarray(flow.parameters)
    state = first, adam.init(first), jnp.zeros((), int)
    least = loss(first, x_held, w_held)
    return lax.while_loop(more, epoch, (state, first, first, least, 0, 1))[2]


_train = compiled(_training, static_argnums=1)
