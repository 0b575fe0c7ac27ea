"""Training of flows by maximum likelihood, and by gradients of the density where there are some.

Of samples x of p alone the loss is the mean of -ln q(x). Where the gradients of ln p are known,
each tells n numbers more of the shape of p, without the noise of a sample:

    -mean ln q + c mean (sqrt(1 + |r|^2) - 1),    r = d ln (p / q)(x(z)) / dz,

up to a factor, with the base points z. r does not depend on how x is scaled; the root keeps few
samples in the tails from deciding all. (Hyvarinen 2005, J. Mach. Learn. Res. 6, 695, without the
root; arXiv:2603.18845 for r in the base.)

Adam (Kingma and Ba 2015, ICLR, arXiv:1412.6980) on batches of the whitened data, with a rate that
falls from `rate` to zero by a cosine. A running average of the parameters over the epochs takes
their noise away (Polyak and Juditsky 1992, SIAM J. Control Optim. 30, 838). A part of the data is
held out: the parameters kept are those averages with which its loss was least, the first parameters
included, and training ends where it has not fallen for some epochs.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float
from numpy.typing import ArrayLike
from scipy.linalg import solve_triangular

from ...core.checks import count, finite_array, positive
from ...core.errors import DataError
from ...core.extras import needed
from ...core.precision import AnyArray, compiled, double
from ...statistics.fisher import fisher_covariance
from .architecture import Architecture
from .model import Flow, base_of_whitened, network, pulled_back, whitened

HELD_OUT = 0.1
"""Part of the data by which parameters are chosen."""
MEMORY = 0.8
"""Weight of earlier epochs in the average of the parameters."""
SLOPES = 5.0
"""c, the weight of the gradients in the loss."""


@double
def fit(
    x: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    slopes: ArrayLike | None = None,
    slope_weights: ArrayLike | None = None,
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
    """The flow of samples x, shape (rows, n), of the given `weights`: that of greatest likelihood,
    or of the least loss by their `slopes`, too.

    The first call for a shape of x, sizes and `batch` compiles; others of the same do not. With the
    same seed results are the same to the last bit.

    Parameters
    ----------
    slopes
        Gradients of ln p by x, as x.
    slope_weights
        Weights of rows in what the gradients add to the loss, which any density of rows can have:
        wider ones tell of the tails.
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
        Passes without a smaller loss of the held out data, after which training ends.

    Raises
    ------
    DataError
        If x is not finite, has too few rows, or a singular covariance; if a weight is negative.
    """
    rows, w = _checked(x, weights)
    data = rows, w
    if slopes is not None:
        _, w_slopes = _checked(x, w if slope_weights is None else slope_weights)
        data = rows, w, _checked_slopes(slopes, rows), w_slopes
    n = rows.shape[1]
    architecture = start.architecture if start else Architecture(n, kind, layers, width, knots)
    if architecture.n != n:
        raise DataError(f"x: found {n} components, expected the {architecture.n} of the flow")
    for name, value in (("epochs", epochs), ("batch", batch), ("patience", patience)):
        count(name, value)
    count("seed", seed, 0)
    positive("rate", rate)
    mean, factor = _moments(rows, w) if slopes is None else _gaussian(*data)
    split, first, order = jax.random.split(jax.random.key(seed), 3)
    parameters = start.parameters if start else network().initial(architecture, first)
    flow = Flow(mean, factor, np.asarray(parameters), architecture)
    which = np.asarray(jax.random.permutation(split, len(rows)))
    held, used = np.split(which, [max(1, round(HELD_OUT * len(rows)))])
    found = _train(
        flow, min(batch, len(used)), tuple(a[used] for a in data), tuple(a[held] for a in data),
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


def _checked_slopes(
    slopes: ArrayLike, rows: Float[np.ndarray, "rows n"]
) -> Float[np.ndarray, "rows n"]:
    given = finite_array("slopes", slopes)
    if given.shape != rows.shape:
        raise DataError(f"slopes: found an array of shape {given.shape}, expected {rows.shape}")
    return given


def _gaussian(
    rows: Float[np.ndarray, "rows n"],
    w: Float[np.ndarray, " rows"],
    slopes: Float[np.ndarray, "rows n"],
    w_slopes: Float[np.ndarray, " rows"],
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n n"]]:
    """The moments, or those of the Gaussian by gradients where that explains the samples as well,
    but for the numbers fitted to them (Akaike 1974, IEEE Trans. Autom. Control 19, 716)."""
    own = _moments(rows, w)
    if np.ptp(slopes) == 0.0:
        return own
    covariance = fisher_covariance(rows, slopes, w_slopes)
    mean = (w_slopes @ rows + covariance @ (w_slopes @ slopes)) / len(rows)
    other = mean, np.linalg.cholesky(covariance)

    def surprise(moments: tuple[np.ndarray, np.ndarray]) -> float:
        """-ln of the density of as many samples as are effective."""
        z = solve_triangular(moments[1], (rows - moments[0]).T, lower=True)
        each = 0.5 * np.sum(z**2, axis=0) + np.sum(np.log(np.diag(moments[1])))
        return float(w @ each) * np.sum(w) / np.sum(w**2)

    n = rows.shape[1]
    return other if surprise(other) < surprise(own) + n * (n + 3) / 2 else own


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
    used: tuple[AnyArray, ...],
    held: tuple[AnyArray, ...],
    key: Array,
    epochs: Array | int,
    rate: Array | float,
    patience: Array | int,
) -> Float[Array, " parameters"]:
    def loss(parameters: Array, w: Array, weights: Array, *more: Array) -> Array:
        if not more:
            return -jnp.mean(weights * base_of_whitened(flow.architecture, parameters, w)[1])
        scores, score_weights = more
        log_q, score, z = pulled_back(flow.architecture, parameters, w, scores)
        apart = jnp.sqrt(1.0 + jnp.sum((score + z) ** 2, axis=1)) - 1.0
        return jnp.mean(SLOPES * score_weights * apart - weights * log_q) / (1.0 + SLOPES)

    def by_whitened(rows: AnyArray, weights: AnyArray, *more: AnyArray) -> tuple[Array, ...]:
        given = [jnp.asarray(a) for a in (weights, *more)]
        if more:
            given[1] = given[1] @ flow.factor
        return whitened(flow, rows)[0], *given

    data, out = by_whitened(*used), by_whitened(*held)
    rows = len(data[0])
    batches = rows // batch
    adam = needed("optax", "sampling").scale_by_adam()

    def step(state: Any, which: Array) -> tuple[Any, None]:
        parameters, moments, done = state
        gradient = jax.grad(loss)(parameters, *(a[which] for a in data))
        change: Any
        change, moments = adam.update(gradient, moments)
        now = 0.5 * rate * (1.0 + jnp.cos(jnp.pi * done / (epochs * batches)))
        return (parameters - now * change, moments, done + 1), None

    def epoch(carry: Any) -> Any:
        state, average, best, least, at, k = carry
        order = jax.random.permutation(jax.random.fold_in(key, k), rows)
        state, _ = lax.scan(step, state, order[: batches * batch].reshape(batches, batch))
        average = MEMORY * average + (1.0 - MEMORY) * state[0]
        found = loss(average, *out)
        better = found < least
        best = jnp.where(better, average, best)
        at = jnp.where(better, k, at)
        return state, average, best, jnp.where(better, found, least), at, k + 1

    def more(carry: Any) -> Array:
        *_, at, k = carry
        return (k <= epochs) & (k - at <= patience)

    first = jnp.asarray(flow.parameters)
    state = first, adam.init(first), jnp.zeros((), int)
    least = loss(first, *out)
    return lax.while_loop(more, epoch, (state, first, first, least, 0, 1))[2]


_train = compiled(_training, static_argnums=1)
