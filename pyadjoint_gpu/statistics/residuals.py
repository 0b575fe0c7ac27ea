"""Statistics of whitened residuals w = L^-1 (d - predicted): whether they are as large as the noise
N(0, L L^T) says, and without pattern.

If the state and the noise are right, the n components of w are independent and standard normal.
Those of a fit are smaller, and alternate more, the more unknown numbers are fitted to the data: the
probabilities below then err on the large side.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.special import betaincinv, chdtrc, gammaln, ndtri

BAND = 0.95
"""Probability of each of the intervals of `normal_quantiles`."""


def chi2_p(chi2: float, size: int) -> float:
    """Probability that chi2 = |w|^2 / n is at least as large by chance, with n = `size`.

    Small where the data are not fitted to their errors, near 1 where they are fitted beyond them.
    """
    return float(chdtrc(size, chi2 * size))


def runs_test(w: Float[np.ndarray, " n"]) -> float:
    """Probability of as few runs of one sign as w has, or fewer, for signs in random order (Wald
    and Wolfowitz 1940).

    With n_1 positive and n_2 negative components, of all (n_1 + n_2 over n_1) orders of their signs

        2 C(n_1 - 1, k - 1) C(n_2 - 1, k - 1)                                     have 2 k runs,
        C(n_1 - 1, k - 1) C(n_2 - 1, k) + C(n_1 - 1, k) C(n_2 - 1, k - 1)         have 2 k + 1.

    Small where neighbours have the same sign: the model leaves out something that varies slowly
    along the data, or their errors are correlated. Zeros do not count; if all have one sign, the
    probability is 1.
    """
    positive = w[w != 0] > 0
    more = int(np.count_nonzero(positive))
    less = positive.size - more
    if min(more, less) == 0:
        return 1.0
    runs = np.arange(2, 2 + np.count_nonzero(np.diff(positive)))
    k, odd = runs // 2, runs % 2
    ways = np.logaddexp(
        _log_binomial(more - 1, k - 1) + _log_binomial(less - 1, k - 1 + odd),
        _log_binomial(more - 1, k - 1 + odd) + _log_binomial(less - 1, k - 1),
    )
    each = np.exp(ways - _log_binomial(positive.size, np.array(more)))
    return min(1.0, float(np.sum(each)))


def _log_binomial(n: int, k: Int[np.ndarray, "*m"]) -> Float[np.ndarray, "*m"]:
    """ln C(n, k), -inf for k > n."""
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def normal_quantiles(size: int) -> Float[np.ndarray, "3 n"]:
    """Medians of the sorted components of w, and the ends of an interval that has each of them with
    the probability `BAND`.

    The k-th of n uniform order statistics has the distribution Beta(k, n + 1 - k), here mapped by
    the inverse of the normal distribution. The intervals are pointwise: of n components, a fraction
    1 - `BAND` lies outside on average.
    """
    k = np.arange(1, size + 1)
    levels = np.array([0.5, 0.5 * (1.0 - BAND), 0.5 * (1.0 + BAND)])
    return ndtri(betaincinv(k, size + 1 - k, levels[:, None]))


def series_order(
    places: Float[np.ndarray, "n axes"], times: Float[np.ndarray, " n"] | None
) -> Int[np.ndarray, " n"]:
    """The order in which data are tested for runs: by place and then time if they have times, else
    as they are given."""
    if times is None:
        return np.arange(len(places))
    _, site = np.unique(places, axis=0, return_inverse=True)
    return np.lexsort((times, site.ravel()))


def data_sets(columns: dict[str, np.ndarray]) -> str | None:
    """The column of texts that divides the data into sets: of those whose labels repeat and differ,
    the one with the fewest labels. None if there is none."""
    counts = {name: len(np.unique(texts)) for name, texts in columns.items()}
    able = [name for name, count in counts.items() if 1 < count < len(columns[name])]
    return min(able, key=counts.__getitem__, default=None)
