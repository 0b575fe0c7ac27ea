"""The evidence by the learned harmonic mean.

For any normalised density phi inside of the posterior p / Z, with samples of the posterior,

    1 / Z = E[phi(x) / p(x)],

and the better phi is, the smaller is the variance. Here phi is a flow fitted to one half of the
chains, drawn together so that its tails are lighter than the posterior's: the standard deviation of
its base is T < 1 in place of 1,

    ln phi_T(x) = ln q(x) + |z|^2 (1 - T^-2) / 2 - n ln T.

The other half gives rho_j, the mean of phi_T / p over the n_j samples of chain j, and

    rho = sum n_j rho_j / sum n_j,                s^2 = sum n_j (rho_j - rho)^2 / sum n_j,
    n_eff = (sum n_j)^2 / sum n_j^2,              sigma^2 = s^2 / (n_eff - 1),
    ln Z = -ln rho + ln(1 + sigma^2 / rho^2),     errors ln(1 -+ sigma / rho),

with the diagnostics kurtosis kappa = sum n_j (rho_j - rho)^4 / (s^4 sum n_j), 3 for a normal
distribution, and var(sigma^2) = sigma^4 (kappa - 1 + 2 / (n_eff - 1)) / n_eff. (McEwen, Wallis,
Price and Spurio Mancini 2021, arXiv:2111.12720; Polanska, Price, Piras, Spurio Mancini and McEwen
2024, arXiv:2405.05969.)

What phi has where no sample lies, such as between modes, is missing from rho: ln Z is then too
large by about that part of phi, some hundredths for narrow modes, and no diagnostic of the samples
shows it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from ..core.checks import finite_array, fraction
from ..core.errors import DataError
from ..core.extras import needed
from .flow.model import Flow
from .flow.training import fit

TEMPERATURES = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Standard deviations of the base among which one is chosen, on chains that neither the flow was
fitted to, where it is too good, nor the estimate is made of."""
WORSE = 1.5
"""The lowest temperature is taken whose error is less than this much times the least: its weights
have the lighter tails."""
CHAINS = 20
"""Chains from which on each is one mean; fewer are cut into blocks."""
BLOCKS = 100
"""Blocks that are enough."""
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


def learned_harmonic_mean(
    x: ArrayLike,
    log_density: ArrayLike,
    *,
    seed: int = 0,
    temperature: float | None = None,
) -> Harmonic:
    """ln Z = ln of the integral of p over R^n, from samples of p / Z.

    Every second chain is used for the estimate; of the others the flow is fitted to three of four,
    and T chosen by the fourth. Of fewer than eight chains each is divided so, its second half for
    the estimate. Fewer than 20 chains are cut into at most 100 blocks together, each
    at least ten times as long as the longest autocorrelation time of the components of x, of ln p,
    and of phi_T / p.

    Parameters
    ----------
    x
        Samples, shape (chains, draws, n), without burn-in. Chains are independent of each other.
    log_density
        ln p of each, shape (chains, draws), with all constants.
    temperature
        T, or None for a choice of 0.5 to 0.9.

    Raises
    ------
    DataError
        If arrays are not finite or do not fit, or the samples' covariance is singular.
    """
    places, logs = _checked(x, log_density)
    if temperature is not None:
        fraction("temperature", temperature)
    train, choose, test = _parts(len(places), places.shape[1])
    flow = fit(places[train].reshape(-1, places.shape[2]), seed=seed)

    def terms(part: Part) -> tuple[np.ndarray, np.ndarray]:
        return _terms(flow, places[part], logs[part])

    def estimated(squares: np.ndarray, plain: np.ndarray, part: Part, t: float) -> Means:
        found = _concentrated(squares, plain, places.shape[2], t)
        return _means(found, _ends(places[part], logs[part], found))

    chosen = temperature
    if chosen is None:
        given = *terms(choose), choose
        errors = [estimated(*given, t).error for t in TEMPERATURES]
        good = [t for t, e in zip(TEMPERATURES, errors, strict=True) if e <= WORSE * min(errors)]
        chosen = good[0]
    return _judged(estimated(*terms(test), test, chosen), chosen)


def harmonic_mean(
    flow: Flow, x: ArrayLike, log_density: ArrayLike, *, temperature: float = 0.8
) -> Harmonic:
    """ln Z from samples as for `learned_harmonic_mean`, all for the estimate, by a flow that there
    is. One that was fitted to the same samples is a little too good on them."""
    places, logs = _checked(x, log_density)
    ln = _concentrated(*_terms(flow, places, logs), places.shape[2], temperature)
    return _judged(_means(ln, _ends(places, logs, ln)), temperature)


def _checked(
    x: ArrayLike, log_density: ArrayLike
) -> tuple[Float[np.ndarray, "chains draws n"], Float[np.ndarray, "chains draws"]]:
    places, logs = finite_array("x", x), finite_array("log_density", log_density)
    if places.ndim != 3 or not places.size:
        raise DataError(f"x: found an array of shape {places.shape}, expected (chains, draws, n)")
    if logs.shape != places.shape[:2]:
        raise DataError(
            f"log_density: found an array of shape {logs.shape}, expected {places.shape[:2]}, one"
            " for each sample of x"
        )
    return places, logs


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


def _terms(
    flow: Flow, x: Float[np.ndarray, "chains draws n"], logs: Float[np.ndarray, "chains draws"]
) -> tuple[Float[np.ndarray, "chains draws"], Float[np.ndarray, "chains draws"]]:
    """|z|^2 and ln(q / p)."""
    z, log_q = (np.asarray(a) for a in flow.base(x.reshape(-1, x.shape[2])))
    return np.sum(z**2, axis=1).reshape(logs.shape), log_q.reshape(logs.shape) - logs


def _concentrated(
    squares: Float[np.ndarray, "chains draws"],
    plain: Float[np.ndarray, "chains draws"],
    n: int,
    t: float,
) -> Float[np.ndarray, "chains draws"]:
    """ln(phi_T / p) from |z|^2 and ln(q / p)."""
    return plain + 0.5 * squares * (1.0 - t**-2) - n * math.log(t)


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


def _means(ln: Float[np.ndarray, "chains draws"], ends: Int[np.ndarray, " ends"]) -> Means:
    """The estimate from ln(phi_T / p), for blocks that end at `ends`."""
    top = np.max(ln)
    blocks = np.split(np.exp(ln - top), ends, axis=1)
    rho = np.concatenate([np.mean(block, axis=1) for block in blocks])
    n = np.concatenate([np.full(len(block), block.shape[1], float) for block in blocks])
    n /= np.sum(n)
    mean = float(n @ rho)
    variance = float(n @ (rho - mean) ** 2)
    count = float(1.0 / np.sum(n**2))
    if not count > 1.0 or not variance > 0.0:
        return Means(top + math.log(mean), math.inf, math.nan, math.nan, count)
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
    if count < FEWEST:
        reason = (
            f"effective chains: found {count:.3g}, expected {FEWEST:g} or more: take more chains,"
            " or chains of more autocorrelation times"
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
    log_evidence = -means.log_rho + math.log1p(error**2)
    return Harmonic(log_evidence, lower, upper, 0.5 * (upper - lower), *about)
