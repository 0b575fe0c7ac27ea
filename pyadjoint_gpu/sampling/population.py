"""`population`: hyper-parameters of many objects, of each of which there is a posterior.

The objects' unknowns theta_i are drawn from p(theta | Lambda). With K draws theta_ik of the
posterior of each, made with the prior pi_i, the likelihood of Lambda is, up to the objects' own
evidences,

    ln L(Lambda) = sum_i ln (1 / K) sum_k p(theta_ik | Lambda) / pi_i(theta_ik).

(Hogg, Myers and Bovy 2010, Astrophys. J. 725, 2166, equation 7.) Its variance grows as p(theta |
Lambda) gets narrower than the posteriors: take more draws where it does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from ..core.checks import check_kind, count
from ..core.errors import ConfigError, DataError, nearest
from ..core.guards import is_list
from ..statistics.priors import Prior
from .compress import CompressedPosterior
from .log_density import LogDensity
from .reweighting import log_prior

Distribution = Callable[
    [dict[str, Float[np.ndarray, "objects draws ..."]], Float[Array, " hyper"]],
    Float[Array, "objects draws"],
]
"""ln p(theta | Lambda), of JAX operations."""


def population(
    catalogue: Sequence[CompressedPosterior],
    distribution: Distribution,
    names: Sequence[str],
    prior: Prior | Mapping[str, Any] | None = None,
    *,
    of: Sequence[str] | None = None,
    start: ArrayLike | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> LogDensity:
    """The density of the hyper-parameters of a catalogue, for `pag.sample`.

    Parameters
    ----------
    catalogue : sequence of CompressedPosterior
        Each of the same unknowns, and with the prior it was made with, ``compress(samples,
        prior=...)``.
    distribution : callable
        ln p(theta | Lambda) of JAX operations: it takes a dict of arrays of unknowns, shape
        (objects, draws, ...), and the vector Lambda, and gives an array (objects, draws).
    names, prior, start
        Of the hyper-parameters, as for `LogDensity`.
    of : sequence of str, optional
        Unknowns that `distribution` is a density of, by default all; the others keep their priors.
    draws : int
        Draws of each posterior, K.
    seed : int

    Raises
    ------
    ConfigError, DataError
        If a posterior has no prior, or others unknowns, or an argument cannot be used.

    Examples
    --------
    >>> def gaussian(theta, hyper):
    ...     return jax.scipy.stats.norm.logpdf(theta["mass"], hyper[0], jnp.exp(hyper[1]))
    >>> density = pag.sampling.population(
    ...     catalogue, gaussian, ("mean", "log_sd"), pag.Independent(2.0)
    ... )
    >>> samples = pag.sample(density)
    """
    count("draws", draws)
    count("seed", seed, 0)
    theta, before = _drawn(catalogue, of, draws, seed)
    shape = before.shape

    def log_likelihood(hyper: Float[Array, " hyper"]) -> Float[Array, ""]:
        log = jnp.asarray(distribution(theta, hyper))
        if log.shape != shape:
            raise DataError(
                f"distribution: found an array of shape {log.shape}, expected (objects, draws) ="
                f" {shape}"
            )
        return jnp.sum(logsumexp(log - before, axis=1) - jnp.log(draws))

    return LogDensity(log_likelihood, names, prior, start)


def _drawn(
    catalogue: Sequence[CompressedPosterior], of: Sequence[str] | None, draws: int, seed: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Draws of the unknowns by name, and ln of the prior of each."""
    if not is_list(catalogue) or not catalogue:
        raise ConfigError("catalogue: expected a list of one CompressedPosterior or more")
    wanted = None if of is None else list(of)
    for k, each in enumerate(catalogue):
        check_kind(f"catalogue[{k}]", each, CompressedPosterior)
        wanted = each.names if wanted is None else wanted
        for name in wanted:
            if name not in each.names:
                raise ConfigError(
                    f"catalogue[{k}]: found no unknown {name!r}{nearest(name, each.names)}"
                )
            if name not in (each.prior or {}):
                raise ConfigError(
                    f"catalogue[{k}]: found no prior of {name!r}; expected one, as of"
                    " compress(samples, prior=...)"
                )
    assert wanted
    values, logs = [], []
    for k, each in enumerate(catalogue):
        # Seeds of their own: equal posteriors have other draws.
        found = each.sample(draws, seed + k)
        own = {name: found[name].values[0] for name in wanted}
        values.append(own)
        logs.append(log_prior({name: (each.prior or {})[name] for name in wanted}, own))
    try:
        theta = {name: np.stack([own[name] for own in values]) for name in wanted}
    except ValueError:
        raise DataError("catalogue: found unknowns of several shapes, expected one") from None
    return theta, np.where(np.isfinite(logs), logs, np.inf)
