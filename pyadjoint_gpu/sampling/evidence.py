"""`evidence`: ln Z of samples, by several methods, and whether they agree."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import combinations
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from ..core.checks import check_choice, count
from ..core.errors import ConfigError, DataError
from ..core.precision import compiled, double
from ..results.dataset import named
from ..results.samples import attributes, weights_of
from .flow.architecture import MOST
from .harmonic import learned_harmonic_mean
from .line import on_line
from .nested import nested
from .runs import taken
from .smc import SMC
from .target import Points, Target
from .targets import Sampled, target_of

METHODS = ("harmonic", "smc", "nested", "laplace", "bridge")
BY_FLOW = "log_evidence_smc"
"""Attribute of samples by flow-enhanced chains: ln Z by their particles."""
OF_PARTICLES = {"harmonic", "bridge", "smc"}
"""Methods that see the same modes, those that particles have found, where samples are of them."""
SAMPLES = 20
"""Samples that a flow needs for each unknown."""
APART = 3.0
"""Standard errors within which two estimates agree."""
KNOWN = 1.0
"""Error of ln Z beyond which an estimate confirms nothing."""
SAYS = {
    "certified": "independent estimates agree",
    "alone": "no independent estimate confirms it",
    "disagree": "estimates disagree, as where a mode was not sampled",
}
"""Meaning of a verdict."""


class Estimate(NamedTuple):
    """ln Z and its error, NaN where there is none; and why the method gives none, or ""."""

    log_evidence: float
    error: float
    reason: str = ""


def evidence(
    samples: xr.Dataset, target: Sampled | None = None, *, method: str = "harmonic", seed: int = 0
) -> xr.Dataset:
    """ln Z, the logarithm of the integral of the density that samples were drawn from.

    Parameters
    ----------
    samples : Dataset
        As from `sample`.
    target : Problem or LogDensity, optional
        What they are samples of, for the methods that evaluate it anew.
    method : {"harmonic", "bridge", "smc", "nested", "laplace", "all"}
        "harmonic": the learned harmonic mean of the samples, with their weights, by a flow fitted
        to one half of them (see `harmonic`), for up to 64 unknowns. "bridge": as flow-enhanced
        chains and their proposals gave it. "smc": as the sampler's particles gave it, or, for
        samples of Markov chains, by `sampling.SMC` of the target. "nested": nested sampling, and
        "laplace": the Gaussian at the highest of the modes that some searches find, of a target
        that is a JAX function, with a prior. "all": side by side all that can be done.
    seed : int

    Returns
    -------
    Dataset
        ``log_evidence``, ``log_evidence_error`` and the ``reason`` of a refusal, one for each
        ``method``. The attributes have the same of the method with the smallest error, all of them
        in one line, ``message``, and ``certified``: 1 where at least two independent methods agree
        within three errors, each known to 1, and no other disagrees. Where some do, ``status`` is
        "disagree", and the attributes have no ln Z. Laplace's approximation has no error and
        certifies nothing, but where it finds more than 1 above an estimate, there is a mode that
        was not sampled; estimates by SMC's particles, and by what started from them, are not
        independent of each other.

    Raises
    ------
    ConfigError, DataError
        If the method cannot be used, or refuses, naming why.

    Warns
    -----
    SamplingWarning
        As by `sampling.SMC`.
    """
    check_choice("method", method, (*METHODS, "all"))
    seed = count("seed", seed, 0)
    made = target_of(target, 32) if target is not None else None
    # Searched for once, where a method needs it.
    mode = cache(lambda: highest_mode(made, seed)) if made is not None else None
    wanted = (method,)
    if method == "all":
        wanted = tuple(name for name in METHODS if name != "bridge" or BY_FLOW in samples.attrs)
    found = {name: _estimate(name, samples, target, made, mode, seed) for name in wanted}
    if method != "all" and found[method].reason:
        raise DataError(f"method {method!r}: {found[method].reason}")
    by_smc = "log_evidence" in samples.attrs
    return _dataset(found, by_smc, seed)


def verdict(found: dict[str, Estimate], by_smc: bool) -> str:
    """ "certified" where two independent estimates agree, "alone" where there are no two, and
    "disagree"."""
    usable = {k: e for k, e in found.items() if e.error <= KNOWN and not e.reason}
    pairs = list(combinations(usable, 2))
    for a, b in pairs:
        apart = abs(usable[a].log_evidence - usable[b].log_evidence)
        if apart > APART * np.hypot(usable[a].error, usable[b].error):
            return "disagree"
    # A mode with more of Z than what was sampled.
    laplace = found.get("laplace", Estimate(-np.inf, np.nan)).log_evidence
    if any(laplace > e.log_evidence + APART * e.error + KNOWN for e in usable.values()):
        return "disagree"
    dependent = OF_PARTICLES if by_smc else set[str]()
    return "certified" if any(not set(pair) <= dependent for pair in pairs) else "alone"


def _dataset(found: dict[str, Estimate], by_smc: bool, seed: int) -> xr.Dataset:
    each = list(found.values())
    sound = [e for e in each if not e.reason]
    if not sound:
        reasons = "; ".join(f"{k}: {e.reason}" for k, e in found.items())
        raise DataError(f"evidence: no method gives one: {reasons}")
    best = min(sound, key=lambda e: e.error if np.isfinite(e.error) else np.inf)
    name = next(k for k, e in found.items() if e is best)
    status = verdict(found, by_smc)
    if status == "disagree":
        best = _none(status)
    return xr.Dataset(
        {
            "log_evidence": ("method", [e.log_evidence for e in each], named("ln Z")),
            "log_evidence_error": ("method", [e.error for e in each], named("error of ln Z")),
            "reason": ("method", [e.reason for e in each], {"long_name": "why there is none"}),
        },
        {"method": list(found)},
        attributes(
            f"evidence by {', '.join(found)}",
            seed=seed,
            method=None if status == "disagree" else name,
            log_evidence=best.log_evidence,
            log_evidence_error=best.error,
            certified=status == "certified",
            status=status,
            message=_message(found, status),
            kind="evidence",
            title="pyadjoint_gpu evidence",
        ),
    )


def _message(found: dict[str, Estimate], status: str) -> str:
    each = [
        f"{name} {e.log_evidence:.3f}" + (f" +- {e.error:.3f}" if np.isfinite(e.error) else "")
        for name, e in found.items()
        if not e.reason
    ]
    return f"{SAYS[status]}: ln Z by {', '.join(each)}"


def _estimate(
    method: str,
    samples: xr.Dataset,
    given: Sampled | None,
    target: Target | None,
    mode: Callable[[], Points] | None,
    seed: int,
) -> Estimate:
    if method == "harmonic":
        return _harmonic(samples, seed)
    by_flow = BY_FLOW in samples.attrs
    if method == "bridge" and not by_flow:
        return _none("it needs samples by method 'flow'")
    name = BY_FLOW if method == "smc" and by_flow else "log_evidence"
    if method in ("smc", "bridge") and name in samples.attrs:
        return Estimate(samples.attrs[name], samples.attrs[f"{name}_error"])
    if given is None or target is None or mode is None:
        return _none("it needs the target: evidence(samples, problem)")
    if method == "smc":
        attrs = SMC(given).run(seed=seed, progress=False).attrs
        return Estimate(attrs["log_evidence"], attrs["log_evidence_error"])
    if target.host is not None:
        return _none("it needs a LogDensity of JAX operations")
    if not target.has_prior:
        return _none("it needs a prior")
    if method == "nested":
        return Estimate(*nested(target, seed=seed, peak=-float(mode().value[0])))
    return Estimate(_laplace(target, mode()), np.nan)


def _none(reason: str) -> Estimate:
    return Estimate(np.nan, np.nan, reason)


def _harmonic(samples: xr.Dataset, seed: int) -> Estimate:
    x, log_density = on_line(samples)
    weights, n = weights_of(samples), x.shape[2]
    if n > MOST:
        return _none(f"found {n} unknowns, expected at most {MOST}")
    effective = 1.0 / float(np.sum(weights**2))
    if effective < SAMPLES * n * (1.0 - 1e-9):
        return _none(f"found {effective:.4g} samples, expected at least {SAMPLES * n}")
    found = learned_harmonic_mean(x, log_density, weights, seed=seed)
    return Estimate(found.log_evidence, found.error, found.reason)


SEARCHES = 8
"""Draws of the prior from which modes are searched for."""


def highest_mode(target: Target, seed: int) -> Points:
    """The one point of the highest mode found."""
    starts = target.drawn(np.random.default_rng([seed, 2]), SEARCHES)
    modes = np.stack([target.mode(start=start) for start in (None, *starts)])
    at = target.evaluate(modes)
    return taken(at, np.argmin(at.value + at.prior, keepdims=True))


@double
def _laplace(target: Target, mode: Points) -> float:
    """ln Z of the Gaussian at a mode: -U + n/2 ln 2 pi - ln det H / 2, U and its Hessian H by x."""

    def plain(x: jax.Array) -> jax.Array:
        return target.misfit(target.theta(x)) + target.potential(x)

    curvature = np.asarray(compiled(jax.hessian(plain))(jnp.asarray(mode.x[0])))
    sign, log_det = np.linalg.slogdet(curvature)
    if sign <= 0:
        raise ConfigError("method 'laplace': the Hessian at the mode is not positive definite")
    constant = target.log_normaliser + target.constant
    energy = float(mode.value[0] + mode.prior[0])
    return constant - energy + 0.5 * (target.size * float(np.log(2 * np.pi)) - float(log_det))
