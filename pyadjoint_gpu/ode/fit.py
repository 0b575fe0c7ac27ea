"""All parameters of a function that fit data, and what the data leave open."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Int

from ..core.checks import count, positive
from ..core.errors import ConvergenceError
from ..core.precision import double
from ..core.progress import phase, progress_bar
from ..results.dataset import named, provenance, used_and_missing
from .descent import Reached, descend, refine
from .intervals import Interval, Intervals
from .observed import Observed

KIND = "fit"


@double
def fit(
    function: Callable[[dict[str, Float[Array, "*shape"]]], Any],
    data: Any,
    parameters: Mapping[str, Interval | tuple[float, float]],
    *,
    error: Any,
    starts: Any = 16,
    steps: int = 500,
    rate: float = 0.1,
    seed: int = 0,
    title: str | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Fit any JAX function to data from many starts, by gradient descent on the mean square of
    relative residuals,

        loss = mean of r^2,    r = (f(m) - d) / (error |d|),

    until each is in a minimum. Parameters stay in their intervals, of which z is the fraction.
    Starts have come to the same solution if they differ there by less than one error of the data,
    |dr/dz (z - z')| < 1.

    At each solution the singular values s of dr/dz, and its directions v in z, say what data tell:
    they change by s errors along v from one end of the intervals to the other. The standard
    deviation along v is 1/s of an interval, so that a direction with s < 1 is not determined.

    Parameters
    ----------
    function : callable
        From a dict of the parameters, JAX arrays, to an array of the data's shape, or to a mapping
        if the data are one. It has a gradient (a solve by `diffrax.diffeqsolve`, `structure`) and
        is mapped over starts; in double precision.
    data : array_like, or mapping or Dataset of them
        Not zero; NaN where one is missing.
    parameters : mapping
        Intervals by name; (low, high) is short for `Interval(low, high)`.
    error : array_like, or mapping of them
        Relative standard deviations of the data.
    starts : int or mapping
        So many, drawn evenly from the intervals, or values by name, of shape (starts, ...).
    steps : int
        Steps of gradient descent.
    rate : float
        Their first length, in ln(z / (1 - z)).
    seed, title, progress
        As for `invert`.

    Returns
    -------
    Dataset
        By ``solution``, the best first: each parameter, ``loss``, ``starts`` that came to it,
        ``singular_value``, ``determined`` and ``direction_<parameter>`` by ``direction``,
        ``<parameter>_open``, the part of its interval left open, (1 + J^T J)^(-1/2) on the
        diagonal, and the data as fitted. By ``start``: where each ended (``<parameter>_start``,
        ``loss_start``), and its ``solution_of_start``, -1 if it did not converge.

    Raises
    ------
    ConfigError, DataError
        If an argument cannot be used, or the function's result does not fit the data.
    ConvergenceError
        If no start converges.
    EngineError
        If optax is missing.
    """
    intervals = Intervals(parameters)
    observed = Observed(data, error)
    steps, rate = count("steps", steps), positive("rate", rate)
    begin = intervals.starts(starts, seed)
    intervals.check_names(observed.values)
    observed.check(function, intervals)

    def residual(z: Float[Array, " n"]) -> Float[Array, " data"]:
        return observed.residual(function(intervals.values(z)))

    with progress_bar(shown=progress, desc="fit", unit="steps", total=steps) as task:
        x = descend(residual, begin, steps, rate, task)
        with phase("Levenberg-Marquardt steps to the minima"):
            reached = refine(residual, x)
    loss = np.mean(reached.residual**2, axis=1)
    order = np.argsort(np.where(np.isfinite(loss), loss, np.inf))
    found, loss = Reached(*(a[order] for a in reached)), loss[order]
    if not np.isfinite(loss[0]):
        raise ConvergenceError(
            f"function: found values or gradients that are not finite at all {len(loss)} starts,"
            " expected intervals of the parameters in which it is finite"
        )
    number = solutions(found)
    result = _dataset(intervals, observed, found, loss, number).assign_attrs(
        provenance(
            f"fit from {len(loss)} starts",
            kind=KIND,
            title=title or "pyadjoint_gpu fit",
            seed=None if isinstance(starts, Mapping) else seed,
            status="converged" if np.any(number >= 0) else "not converged",
            message=_message(number),
            **used_and_missing(observed.size, observed.missing),
        )
    )
    if np.all(number < 0):
        raise ConvergenceError(f"fit: {_message(number)}; take more steps", result)
    return result


def solutions(found: Reached) -> Int[np.ndarray, " starts"]:
    """The solution to which each start has come, -1 where it has not converged: that of the first
    start from which it differs by less than one error of the data."""
    number = np.full(len(found.z), -1)
    first: list[int] = []
    for k in np.flatnonzero(found.converged).tolist():
        apart = [np.linalg.norm(found.jacobian[j] @ (found.z[k] - found.z[j])) for j in first]
        near = np.flatnonzero(np.asarray(apart) < 1.0)
        number[k] = near[0] if near.size else len(first)
        if not near.size:
            first.append(k)
    return number


def _message(number: Int[np.ndarray, " starts"]) -> str:
    came = np.count_nonzero(number >= 0)
    return f"{came} of {len(number)} starts converged, to {number.max() + 1} solutions"


def _dataset(
    intervals: Intervals,
    observed: Observed,
    found: Reached,
    loss: Float[np.ndarray, " starts"],
    number: Int[np.ndarray, " starts"],
) -> xr.Dataset:
    first = [int(np.argmax(number == k)) for k in range(number.max() + 1)]
    J = found.jacobian[first].reshape(len(first), observed.size, intervals.size)
    _, s, v = np.linalg.svd(J, full_matrices=True)
    s = np.pad(s, ((0, 0), (0, intervals.size - s.shape[1])))
    left = np.sqrt(np.einsum("sij,si->sj", v**2, 1.0 / (1.0 + s**2)))
    by_direction = ("solution", "direction")
    out: dict[str, Any] = {
        "loss": ("solution", loss[first], named("mean squared residual, in squared errors")),
        "starts": (
            "solution",
            [np.count_nonzero(number == k) for k in range(len(first))],
            named("starts that came to the solution"),
        ),
        "singular_value": (
            by_direction,
            s,
            named("change of the data along the direction, in errors an interval"),
        ),
        "determined": (by_direction, (s >= 1.0).astype(np.int8), named("singular value >= 1")),
        "loss_start": ("start", loss, named("mean squared residual where the start ended")),
        "solution_of_start": ("start", number, named("solution to which the start came, or -1")),
    }
    with_values = intervals.values(jnp.asarray(found.z))
    parts = zip(
        with_values.items(),
        intervals.split(left).values(),
        intervals.split(v).values(),
        strict=True,
    )
    for (name, values), part_left, part_v in parts:
        reached = np.asarray(values)
        dims = tuple(f"{name}_{k}" for k in range(reached.ndim - 1))
        out |= {
            name: (("solution", *dims), reached[first], named(f"{name} at the solution")),
            f"{name}_start": (("start", *dims), reached, named(f"{name} where the start ended")),
            f"{name}_open": (
                ("solution", *dims),
                part_left,
                named(f"part of the interval of {name} that the data leave open"),
            ),
            f"direction_{name}": (
                (*by_direction, *dims),
                part_v,
                named(f"component of the direction along {name}, in intervals"),
            ),
        }
    return xr.Dataset(out | observed.fitted(found.residual[first]), observed.coordinates)
