"""`laplace`: how sure a minimum is, by the curvature there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Int

from ..core.checks import check_kind, count
from ..core.errors import ConfigError, ConvergenceWarning, warn
from ..core.precision import compiled, double
from ..core.progress import progress_bar
from ..lti.rows import BlockRows, followed
from ..models.base import Fields
from ..problem.objective import Objective
from ..problem.observation import Observation
from ..problem.problem import Problem
from ..problem.specification import problem_parts
from ..problem.support import Support
from ..problem.variables import transformed_attributes
from ..problem.whiten import JointPrior
from ..results.dataset import Variables, describe, grid_coordinates, named
from ..statistics.low_rank import LowRank

OVERSAMPLED = 9
"""Number of random directions beyond the rank: with the two solves at the minimum itself there are
2 (rank + 10)."""
BATCH = 16
"""Number of products, or of predictions, between records and side by side."""
DECREMENT = 0.01
"""Largest decrease of J, by a Newton step, at what counts as its minimum."""


class HessianProducts(BlockRows):
    """Journal of products with random directions."""

    kind = "a journal of Hessian products"
    goes_on = "the same call of `laplace`"


@double
def laplace(
    problem: Problem,
    result: xr.Dataset | Mapping[str, Any],
    *,
    rank: int = 50,
    draws: int = 0,
    predict: Any = None,
    seed: int = 0,
    journal: str | Path | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
    title: str | None = None,
) -> xr.Dataset:
    """The Gaussian with the curvature of J at its minimum, an approximation of the posterior

        p(theta | d) ~ N(theta*, R (I + V L V^T)^-1 R^T),

    R R^T the prior's covariance, V and L the first eigenvectors and eigenvalues of R^T H R, H the
    Gauss-Newton Hessian of the misfit; of the unknown scale of the noise it has the Fisher
    information, whatever the data. It is exact where u depends linearly on theta and the prior
    is Gaussian. Where `rank` is less than the number of directions that data inform, standard
    deviations are too large, by a bound that is given.

    The eigenvectors come from one product of H with each of rank + 10 random directions, a tangent
    and an adjoint solve each, side by side where the engine can. (Bui-Thanh, Ghattas, Martin and
    Stadler 2013, SIAM J. Sci. Comput. 35, A2494; `LowRank.of_products` has the method.)

    Parameters
    ----------
    problem : Problem
        The problem that was inverted; every control has a prior or a `Smoothness`.
    result : Dataset or mapping
        The result of `invert`, or physical fields by control: the minimum.
    rank : int
        Largest number of eigenvectors.
    draws : int
        Number of draws from the posterior in the result.
    predict : points or Observation, optional
        Where to predict the first unknown: at points or over boxes, as `synthetic.observe` takes
        them; or an `Observation`. One adjoint solve for each.
    seed : int
        Seed of random directions and draws.
    journal : path, optional
        A file that keeps the products; the same call goes on from there, to the same bits.
    overwrite : bool
        Start the journal anew.
    progress : bool, optional
        By default a bar on a terminal or in a notebook, elsewhere a line a minute; False for
        neither.
    title : str, optional
        Title of the result.

    Returns
    -------
    Dataset
        ``<control>``, the minimum; ``<control>_sd``, the standard deviation of the transformed
        control (of ln K under transform "log"), ``<control>_sd_error``, by which it may be too
        large, ``<control>_prior_sd``; ``<control>_draw``; the same of ``noise_scale``, where that
        is unknown; ``eigenvalue``; ``predicted`` and ``predicted_sd``. Attributes:
        ``log_evidence``, ln of the integral of p(d | u(theta)) p(theta) with all constants, and
        ``log_evidence_error``, by which it may be too large; ``information_gain``,
        ln det(I + L) / 2, the expected information gain from prior to posterior in nats;
        ``decrement``, the decrease of J by a Newton step, zero at a minimum.

    Raises
    ------
    ConfigError, DataError
        If an option cannot be used, a control has no prior, or there are bounds on theta.
    ConvergenceError
        If a solve does not converge.

    Warns
    -----
    ConvergenceWarning
        If `result` is not a minimum.
    """
    check_kind("problem", problem, Problem)
    rank, draws, seed = count("rank", rank), count("draws", draws, 0), count("seed", seed, 0)
    observation, where = _observation(problem, predict)
    theta = problem.theta({c.name: _field(result, c.name) for c in problem.parts})
    of = _Curvature(problem, theta)
    probes = min(rank + OVERSAMPLED, problem.size)
    directions = _probes(problem.size, probes, seed)
    rows = followed(
        journal,
        directions.T.shape,
        lambda: {**problem_parts(problem), "result": theta, "directions": directions},
        lambda which: of.products(directions.T, which),
        overwrite,
        HessianProducts,
    )
    products = np.empty(directions.shape)
    for k, row in progress_bar(rows, shown=progress, total=probes, unit="products", desc="laplace"):
        products[:, k] = row
    posterior = LowRank.of_products(directions, products, probes)
    return _dataset(of, posterior, rank, probes, draws, seed, observation, where, title)


def _field(result: xr.Dataset | Mapping[str, Any], name: str) -> Any:
    if name not in result:
        raise ConfigError(f"result: found no {name!r}, expected the result of invert(problem)")
    return result[name]


def _probes(n: int, probes: int, seed: int) -> Float[np.ndarray, "n probes"]:
    """Orthonormal random directions."""
    gaussian = np.random.default_rng([seed, 0]).standard_normal((n, probes))
    return np.linalg.qr(gaussian)[0]


class _Curvature:
    """The Hessian of the misfit at theta, in the whitened variable of the prior there."""

    def __init__(self, problem: Problem, theta: Float[np.ndarray, " n"]):
        self.problem, self.theta = problem, theta
        self.prior: JointPrior = problem.prior.near(theta)
        self.evaluation = problem.evaluate(theta)
        self.state = {k: jnp.asarray(a) for k, a in self.evaluation.solution.fields.items()}
        self.hessian = problem.likelihood.hessian(theta, self.evaluation, gauss_newton=True)

    def products(
        self, directions: Float[np.ndarray, "probes n"], which: Int[np.ndarray, " some"]
    ) -> Iterator[Float[np.ndarray, " n"]]:
        """R^T H R p for `which` of the directions p."""
        for first in range(0, len(directions), BATCH):
            wanted = which[(which >= first) & (which < first + BATCH)] - first
            if wanted.size:
                # All of a batch, whatever is wanted of it, for the same bits.
                batch = self.prior.root(directions[first : first + BATCH])
                yield from self.prior.root_transposed(self.hessian.products(batch))[wanted]

    def sensitivities(self, observation: Observation) -> Iterator[Float[np.ndarray, "some n"]]:
        """R^T dq/dtheta of observed values q, some of them at a time."""
        of, x = self.problem.objective, jnp.asarray(self.theta)
        units = jnp.eye(observation.size)
        for first in range(0, len(units), BATCH):
            sources, direct = _sources(of, observation, self.state, x, units[first : first + BATCH])
            yield self.prior.root_transposed(self.hessian.transposed(sources) + direct)


@compiled
def _sources(
    of: Objective,
    observation: Observation,
    u: Fields,
    theta: Float[Array, " n"],
    units: Float[Array, "some values"],
) -> tuple[Fields, Float[Array, "some n"]]:
    """Derivatives of observed values by u and theta."""

    def observed(u: Fields, theta: Float[Array, " n"]) -> Float[Array, " *field"]:
        return jnp.asarray(observation.field(of.state(u, theta)))

    by_field = jax.vmap(observation.transposed)(units)
    return jax.vmap(jax.vjp(observed, u, theta)[1])(by_field)


@dataclass(frozen=True)
class _Where:
    """Name, units and coordinates of predictions, and their `cell_methods`."""

    name: str
    units: str
    coordinates: Variables
    methods: dict[str, str]


def _observation(problem: Problem, predict: Any) -> tuple[Observation | None, _Where]:
    model = problem.model
    name = model.unknowns[0].name
    if predict is None:
        return None, _Where(name, "1", {}, {})
    if isinstance(predict, Observation):
        return predict, _Where(predict.variable, predict.units, {}, {})
    support = Support.of(model, predict, "predict", "prediction")
    observation = Observation.at(model, name, support)
    coordinates = support.coordinates("prediction", "prediction_")
    methods = support.attributes("prediction_")
    return observation, _Where(name, observation.units, coordinates, methods)


def _dataset(
    of: _Curvature,
    all_of_it: LowRank,
    rank: int,
    probes: int,
    draws: int,
    seed: int,
    observation: Observation | None,
    where: _Where,
    title: str | None,
) -> xr.Dataset:
    problem, prior = of.problem, of.prior
    posterior = LowRank(all_of_it.values[:rank], all_of_it.vectors[:, :rank])
    # The largest eigenvalue left out, of those beyond that were computed.
    rest = float(all_of_it.values[rank]) if len(all_of_it.values) > rank else 0.0
    modes = prior.root(posterior.vectors.T)
    before = prior.variance
    variance = np.maximum(before - np.square(modes).T @ posterior.shrinkage, 0.0)
    left = np.maximum(before - np.sum(np.square(modes), axis=0), 0.0) * rest / (1.0 + rest)
    sd = np.sqrt(variance)
    columns = {
        "sd": (sd, "standard deviation of {}"),
        "sd_error": (
            sd - np.sqrt(np.maximum(variance - left, 0.0)),
            "largest error of the sd of {}",
        ),
        "prior_sd": (np.sqrt(before), "prior standard deviation of {}"),
    }
    generator = np.random.default_rng([seed, 1])
    z = generator.standard_normal((draws, problem.size))
    drawn = [problem.physical(of.theta + prior.root(row)) for row in posterior.root(z)]
    fields, variables = problem.physical(of.theta), dict[str, Any]()
    coordinates: Variables = grid_coordinates(problem.model.domain)
    for c in problem.parts:
        about, label = transformed_attributes(c), c.name.replace("_", " ")
        variables[c.name] = (
            c.field_dims,
            fields[c.name],
            named(f"most probable {label}", c.parameter.units),
        )
        for key, (vector, text) in columns.items():
            attributes = about | {"long_name": text.format(about["long_name"])}
            variables[f"{c.name}_{key}"] = c.dims, problem.split(vector)[c.name], attributes
        if draws:
            stacked = np.stack([one[c.name] for one in drawn])
            told = named(f"{label} drawn from the posterior", c.parameter.units)
            variables[f"{c.name}_draw"] = ("draw", *c.field_dims), stacked, told
        coordinates |= c.coordinates
    told = named("eigenvalue of the prior-preconditioned Hessian")
    variables["eigenvalue"] = "mode", posterior.values, told
    if observation is not None:
        variables |= _predictions(of, posterior, observation, where)
        coordinates |= where.coordinates
    decrement = _decrement(of, posterior)
    gain = 0.5 * posterior.log_determinant
    found = of.evaluation
    log_density = float(np.asarray(problem.prior.potential(of.theta)[0]))
    constant = problem.log_normaliser + problem.prior.log_normaliser - prior.log_normaliser
    unknown = max(min(_informed(problem), problem.size) - len(posterior.values), 0)
    return xr.Dataset(
        variables,
        coordinates,
        describe(
            "Laplace approximation",
            problem.engine,
            kind="laplace",
            title=title or "pyadjoint_gpu posterior",
            log_evidence=constant - found.misfit - log_density - gain,
            log_evidence_error=0.5 * unknown * float(np.log1p(rest)),
            information_gain=gain,
            decrement=decrement,
            rank=len(posterior.values),
            solves=2 * probes + 2,
            seed=seed,
        ),
    )


def _informed(problem: Problem) -> int:
    """The most directions that data can inform."""
    data = int(getattr(problem.misfit, "size", problem.size))
    return data + len(problem.experiment.nuisances)


def _predictions(
    of: _Curvature, posterior: LowRank, observation: Observation, where: _Where
) -> dict[str, Any]:
    state = of.problem.objective.state(of.state, jnp.asarray(of.theta))
    variance = np.concatenate(
        [
            np.sum(np.square(rows), axis=1) - posterior.reduction(rows)
            for rows in of.sensitivities(observation)
        ]
    )
    sd = np.sqrt(np.maximum(variance, 0.0))
    told = named(f"predicted {where.name}", where.units) | where.methods
    of_sd = named(f"standard deviation of predicted {where.name}", where.units)
    return {
        "predicted": ("prediction", np.asarray(observation(state)), told),
        "predicted_sd": ("prediction", sd, of_sd),
    }


def _decrement(of: _Curvature, posterior: LowRank) -> float:
    """g^T H^-1 g / 2, the decrease of J by a Newton step; a warning where it is large."""
    g = of.prior.root_transposed(of.evaluation.gradient)
    found = float(0.5 * np.sum(np.square(posterior.root(g))))
    if found > DECREMENT:
        warn(
            f"the result is not a minimum: a Newton step would lower J by {found:.2g}; go on with"
            " the inversion, to a smaller tolerance",
            ConvergenceWarning,
        )
    return found
