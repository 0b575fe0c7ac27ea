"""The evidence by the learned harmonic mean.

For any normalised density phi inside of the posterior p / Z, with samples of the posterior,

    1 / Z = E[phi(x) / p(x)],

and the better phi is, the smaller is the variance. Here phi is a flow q fitted to one half of the
chains, drawn together so that its tails are lighter than the posterior's: the standard deviation of
its base is T <= 1 in place of 1,

    ln q_T(x) = ln q(x) + |z|^2 (1 - T^-2) / 2 - n ln T,

and it is cut off where q is low, as what q has where no sample lies would be missing from rho, and
ln Z too large by as much, without a sign of it in the samples. Threads of q between modes are such,
and concentration, which draws to the centre of the base, does not end them:

    phi(x) = q_T(x) / P where q(x) >= c, else 0,    P = the share of q_T where q >= c,

with c such that q has a fifth of its mass below, and P from draws of q_T. (As the uniform density
on a region of high density of Robert and Wraith 2009, AIP Conf. Proc. 1193, 251.)

The other half gives rho_j, the mean of phi / p over the samples of chain j. With n_j the number of
them, or the sum of their weights,

    rho = sum n_j rho_j / sum n_j,                s^2 = sum n_j (rho_j - rho)^2 / sum n_j,
    n_eff = (sum n_j)^2 / sum n_j^2,              sigma^2 = s^2 / (n_eff - 1),
    ln Z = -ln rho - sigma^2 / (2 rho^2),         errors ln(1 -+ sigma / rho),

with the diagnostics kurtosis kappa = sum n_j (rho_j - rho)^4 / (s^4 sum n_j), 3 for a normal
distribution, and var(sigma^2) = sigma^4 (kappa - 1 + 2 / (n_eff - 1)) / n_eff. (McEwen, Wallis,
Price and Spurio Mancini 2021, arXiv:2111.12720; Polanska, Price, Piras, Spurio Mancini and McEwen
2024, arXiv:2405.05969.) The last term of ln Z departs from these: they add ln(1 + sigma^2 / rho^2),
which makes Z the mean of 1 / r for r ~ N(rho, sigma^2). But rho varies about 1 / Z, so that

    E[-ln rho] = ln Z + sigma^2 Z^2 / 2 + ...,

by the expansion of ln about 1 / Z to second order, and it is this that is subtracted.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from ..core.checks import finite_array, fraction
from ..core.errors import DataError
from ..core.extras import needed
from .flow.model import Flow
from .flow.training import fit

TEMPERATURES = (0.6, 0.7, 0.8, 0.9, 1.0)
"""Standard deviations of the base among which that of the least error is chosen, on chains that
neither the flow was fitted to, where it is too good, nor the estimate is made of."""
OUTSIDE = 0.2
"""Share of q that is cut off."""
DRAWN, TOGETHER = 65536, 16384
"""Draws of q_T by which P is found, and how many are drawn at once."""
CHAINS = 20
"""Chains from which on each is one mean; fewer are cut into blocks."""
BLOCKS = 40
"""Blocks that are enough: of more, each is shorter, and its mean less normal."""
LENGTH = 10.0
"""Least length of a block in autocorrelation times: means of neighbours are then independent but
for some hundredths."""
FEWEST = 16.0
"""Effective chains below which neither the error nor its diagnostics mean much."""
LARGEST = 0.5
"""sigma / rho above which ln Z is not known to one."""


class Harmonic(NamedTuple):
    """ln Z and its error; of an estimate that is refused both are NaN.

    Attributes
    ----------
    log_evidence
        ln Z.
    lower, upper
        Errors ln(1 - sigma / rho) < 0 and ln(1 + sigma / rho).
    error
        Half of upper - lower.
    temperature
        T.
    kurtosis
        kappa.
    variance_ratio
        var(sigma^2)^(1/2) / sigma^2, over sqrt(2 / (n_eff - 1)), its value for normal rho_j.
    effective_chains
        n_eff of chains, or of blocks of chains.
    reason
        Why the estimate is refused, or "".
    """

    log_evidence: float
    lower: float
    upper: float
    error: float
    temperature: float
    kurtosis: float
    variance_ratio: float
    effective_chains: float
    reason: str


Part = tuple[Int[np.ndarray, " part"], slice]
"""Some of the chains, and of the draws of each."""


class Means(NamedTuple):
    """ln rho, sigma / rho, and the diagnostics."""

    log_rho: float
    error: float
    kurtosis: float
    variance_ratio: float
    effective_chains: float


class Given(NamedTuple):
    """Samples, ln p of each, and their weights."""

    x: Float[np.ndarray, "chains draws n"]
    log_density: Float[np.ndarray, "chains draws"]
    weights: Float[np.ndarray, "chains draws"]

    def part(self, which: Part) -> Given:
        return Given(*(a[which] for a in self))


class Core(NamedTuple):
    """A flow where it is at least so high, ln q >= `level`."""

    flow: Flow
    level: float

    def log_ratio(self, given: Given, t: float) -> Float[np.ndarray, "chains draws"]:
        """ln(P phi / p)."""
        n = given.x.shape[2]
        z, found = (np.asarray(a) for a in self.flow.base(given.x.reshape(-1, n)))
        shape = given.log_density.shape
        squares, log_q = np.sum(z**2, axis=1).reshape(shape), found.reshape(shape)
        inside = np.where(log_q >= self.level, log_q, -np.inf)
        return _concentrated(squares, inside, n, t) - given.log_density


def learned_harmonic_mean(
    x: ArrayLike,
    log_density: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    seed: int = 0,
    temperature: float | None = None,
) -> Harmonic:
    """ln Z = ln of the integral of p over R^n, from samples of p / Z.

    Every second chain is used for the estimate; of the others the flow is fitted to three of four,
    and T chosen by the fourth. Of fewer than eight chains each is divided so, its second half for
    the estimate. Fewer than 20 chains are cut into at most 40 blocks together, each at least ten
    times as long as the longest autocorrelation time of the components of x, of ln p, and of
    phi / p. The particles of a run of `SMC` are a chain so, too: those that descend from one are
    neighbours, and correlated, and a block is longer than such families.

    Parameters
    ----------
    x
        Samples, shape (chains, draws, n), without burn-in. Chains are independent of each other.
    log_density
        ln p of each, shape (chains, draws), with all constants.
    weights
        Of each, shape (chains, draws), by default equal.
    temperature
        T, or None for a choice of 0.6 to 1.

    Raises
    ------
    DataError
        If arrays are not finite or do not fit, or the samples' covariance is singular.
    """
    given = _checked(x, log_density, weights)
    if temperature is not None:
        fraction("temperature", temperature)
    train, choose, test = (given.part(part) for part in _parts(*given.log_density.shape))
    rows = train.x.reshape(-1, given.x.shape[2])
    core = _core(fit(rows, weights=train.weights.ravel(), seed=seed), seed)
    chosen = temperature
    if chosen is None:
        chosen = min(TEMPERATURES, key=lambda t: _estimated(core, choose, t).error)
    return _found(core, test, chosen, seed)


def harmonic_mean(
    flow: Flow,
    x: ArrayLike,
    log_density: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    seed: int = 0,
    temperature: float = 0.8,
) -> Harmonic:
    """ln Z from samples as for `learned_harmonic_mean`, all for the estimate, by a flow that there
    is. One that was fitted to the same samples is a little too good on them."""
    return _found(_core(flow, seed), _checked(x, log_density, weights), temperature, seed)


def _checked(x: ArrayLike, log_density: ArrayLike, weights: ArrayLike | None) -> Given:
    places, logs = finite_array("x", x), finite_array("log_density", log_density)
    if places.ndim != 3 or not places.size:
        raise DataError(f"x: found an array of shape {places.shape}, expected (chains, draws, n)")
    w = np.ones(places.shape[:2]) if weights is None else finite_array("weights", weights)
    for name, array in (("log_density", logs), ("weights", w)):
        if array.shape != places.shape[:2]:
            raise DataError(
                f"{name}: found an array of shape {array.shape}, expected {places.shape[:2]}, one"
                " for each sample of x"
            )
    return Given(places, logs, w)


def _parts(chains: int, draws: int) -> tuple[Part, Part, Part]:
    """Chains and draws to which the flow is fitted, by which T is chosen, and for the estimate."""
    if chains < 8:
        a, b = 3 * draws // 8, draws // 2
        every = np.arange(chains)
        return (every, slice(a)), (every, slice(a, b)), (every, slice(b, None))
    others = np.arange(1, chains, 2)
    chooses = np.arange(len(others)) % 4 == 3
    whole = slice(None)
    return (others[~chooses], whole), (others[chooses], whole), (np.arange(0, chains, 2), whole)


def _core(flow: Flow, seed: int) -> Core:
    _, log_q = flow.draw(jax.random.key(seed), TOGETHER)
    return Core(flow, float(np.quantile(np.asarray(log_q), OUTSIDE)))


def _share(core: Core, t: float, seed: int) -> float:
    """P."""
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), 1), DRAWN // TOGETHER)
    each = [core.flow.draw(key, TOGETHER, temperature=t)[1] for key in keys]
    return float(np.mean(np.concatenate(each) >= core.level))


def _concentrated(
    squares: Float[np.ndarray, "chains draws"],
    log_q: Float[np.ndarray, "chains draws"],
    n: int,
    t: float,
) -> Float[np.ndarray, "chains draws"]:
    """ln q_T from |z|^2 and ln q."""
    return log_q + 0.5 * squares * (1.0 - t**-2) - n * math.log(t)


def _estimated(core: Core, given: Given, t: float) -> Means:
    """The estimate, of P rho in place of rho."""
    ln = core.log_ratio(given, t)
    if np.max(ln) == -np.inf:
        return Means(-math.inf, math.inf, math.nan, math.nan, math.nan)
    ratio = np.exp(ln - np.max(ln))
    return _means(ln, given.weights, _ends(given.x, given.log_density, ratio))


def _found(core: Core, given: Given, t: float, seed: int) -> Harmonic:
    means, share = _estimated(core, given, t), _share(core, t, seed)
    error = math.hypot(means.error, math.sqrt((1.0 - share) / share / DRAWN))
    return _judged(means._replace(log_rho=means.log_rho - math.log(share), error=error), t)


def _ends(
    x: Float[np.ndarray, "chains draws n"], *others: Float[np.ndarray, "chains draws"]
) -> Int[np.ndarray, " ends"]:
    """The draws with which blocks begin, the first excluded."""
    chains, draws = x.shape[:2]
    if chains >= CHAINS:
        return np.zeros(0, int)
    ess = needed("arviz_stats.base", "sampling").array_stats.ess
    series = [*np.moveaxis(x, 2, 0), *others]
    least = min(float(ess(one, method="mean")) for one in series)
    # NaN where a series is constant or too short.
    most = int(least / chains / LENGTH) if np.isfinite(least) else 1
    blocks = max(1, min(most, BLOCKS // chains, draws))
    return np.cumsum([len(part) for part in np.array_split(np.arange(draws), blocks)])[:-1]


def _means(
    ln: Float[np.ndarray, "chains draws"],
    weights: Float[np.ndarray, "chains draws"],
    ends: Int[np.ndarray, " ends"],
) -> Means:
    """The estimate from ln(phi / p), for blocks that end at `ends`."""
    top = np.max(ln)
    terms, n = (
        np.concatenate([np.sum(block, axis=1) for block in np.split(a, ends, axis=1)])
        for a in (weights * np.exp(ln - top), weights)
    )
    rho, n = terms[n > 0.0] / n[n > 0.0], n[n > 0.0] / np.sum(n)
    mean = float(n @ rho)
    variance = float(n @ (rho - mean) ** 2)
    count = float(1.0 / np.sum(n**2))
    if not count > 1.0 or not variance > 0.0:
        return Means(math.nan, math.inf, math.nan, math.nan, count)
    kurtosis = float(n @ (rho - mean) ** 4) / variance**2
    normal = 2.0 / (count - 1.0)
    ratio = math.sqrt((kurtosis - 1.0 + normal) / count / normal)
    error = math.sqrt(variance / (count - 1.0)) / mean
    return Means(float(top) + math.log(mean), error, kurtosis, ratio, count)


def _judged(means: Means, t: float) -> Harmonic:
    """The result, refused where diagnostics fail."""
    count, error = means.effective_chains, means.error
    # Four standard deviations of the kurtosis of as many normal numbers, and no less than what
    # means of some skewness have.
    most = 3.0 + max(3.0, 4.0 * math.sqrt(24.0 / count))
    reason = ""
    if means.log_rho == -math.inf:
        reason = "samples: none lies where the flow has most of its mass; it is of other samples"
    elif count < FEWEST:
        reason = (
            f"effective chains: found {count:.3g}, expected {FEWEST:g} or more: take more chains"
            " or draws, of SMC more repeats or particles"
        )
    elif not means.kurtosis <= most:
        reason = (
            f"kurtosis: found {means.kurtosis:.3g}, expected 3, and at most {most:.3g}: few samples"
            " dominate; take more, or a lower temperature"
        )
    elif not means.variance_ratio <= 2.0:
        reason = (
            f"variance of the variance: found {means.variance_ratio:.3g} times the expected root:"
            " the error is not known; take more samples, or a lower temperature"
        )
    elif not error <= LARGEST:
        reason = f"error: found {error:.3g} of Z, expected {LARGEST:g} or less: take more samples"
    about = t, means.kurtosis, means.variance_ratio, count, reason
    if reason:
        return Harmonic(math.nan, math.nan, math.nan, math.nan, *about)
    lower, upper = math.log1p(-error), math.log1p(error)
    log_evidence = -means.log_rho - 0.5 * error**2
    return Harmonic(log_evidence, lower, upper, 0.5 * (upper - lower), *about)
