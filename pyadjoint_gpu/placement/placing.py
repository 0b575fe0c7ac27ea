"""Placement of sensors, with its result as a Dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from numpy.typing import ArrayLike

from ..core.checks import count, finite_array
from ..core.errors import DataError, shown
from ..core.outputs import check_outputs
from ..lti.covariance import covariance
from ..lti.offline import cross_covariance, solve_lower, time_integral
from ..lti.priors import fitting
from ..lti.toeplitz import ToeplitzMap
from ..results.dataset import Variables, named, provenance
from ..statistics.densities import BoundPrior
from ..statistics.noise import Noise
from ..statistics.priors import Prior
from ..statistics.roundoff import factorised
from ..statistics.sensor_noise import SensorNoise
from ..statistics.separable import Separable
from .communicator import Communicator, SerialCommunicator
from .comparison import information_curves, random_networks
from .covariances import ConditionalCovariance, data_covariance
from .network import Network
from .selection import Selection, select

NEGLIGIBLE = 1e-12
"""Fraction of all information that counts as zero."""

_KINDS = {
    "long_name": "kind of candidate",
    "flag_values": np.array([-1, 0, 1], np.int8),
    "flag_meanings": "forbidden free existing",
}


def place_sensors(
    of: ToeplitzMap,
    prior: Prior | BoundPrior,
    noise: ArrayLike | Noise,
    budget: float,
    *,
    goal: ToeplitzMap | ArrayLike | None = None,
    weights: ArrayLike | None = None,
    costs: ArrayLike | None = None,
    existing: Sequence[int] = (),
    forbidden: Sequence[int] = (),
    random: int = 100,
    seed: int = 0,
    store: str | Path | None = None,
    dtype: str = "float64",
    lazy: bool | None = None,
    comm: Communicator | None = None,
    journal: str | Path | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> xr.Dataset:
    """Choose sensors greedily among candidates, each the one that adds most to the information that
    those before it give about m.

    The expected information gain of the sensors S (nats; of the posterior over the prior) is

        EIG(S) = [logdet K_S - logdet Gamma_n,S] / 2,    K = Gamma_n + F Gamma F^T,

    and of quantities of interest q = W m

        [logdet K_S - logdet (K_S - F_S Gamma W^T (W Gamma W^T)^-1 W Gamma F_S^T)] / 2.

    Chosen by `select`. Where the noise is independent between sensors, and m itself is what
    matters, EIG is submodular, and k sensors chosen so have at least 1 - (1 - 1/k)^k >= 1 - 1/e of
    the information that the best k would add to those in place (Nemhauser, Wolsey and Fisher 1978,
    Math. Program. 14, 265).

    Parameters
    ----------
    of : ToeplitzMap
        F of all candidates.
    prior : Prior or BoundPrior
        Of covariance Gamma, as for `LinearInversion`; its mean makes no difference.
    noise : float, array or Noise
        As for `LinearInversion`.
    budget : int or float
        Number of sensors; with `costs`, what they may cost together.
    goal : array of bool of shape (*sites,), or ToeplitzMap, optional
        Quantities of interest: m at some sites, while it stays unknown at the others; or the
        output of another map of m, such as waves at a coast. m everywhere unless given.
    weights : array, shape (*sites,), optional
        W_p of sites: W_p^(1/2) Gamma W_p^(1/2) replaces Gamma. A site of weight zero counts as
        known, which overstates the information of data about the others: see `goal`.
    costs : array, shape (C,), optional
        Costs of candidates; see `select`.
    existing, forbidden : sequence of int
        Candidates in place already, which cost nothing, and those that cannot be chosen.
    random, seed : int
        Random networks to compare with.
    store : path, optional
        Keep F Gamma F^T in this file (`CovarianceFile`). Otherwise it is in memory, or where it
        takes more than 2 GiB, formed block by block on request.
    dtype, lazy, comm, journal, progress
        As for `select`.
    overwrite : bool
        Replace the files `store` and `journal`.

    Returns
    -------
    Dataset
        By step: ``order``, ``gain`` and ``information`` (that of sensors in place included), and
        where there is a guarantee ``most_possible``, which no network of so many sensors exceeds.
        ``integral_sd``, the posterior standard deviation of the time integral of m, for those in
        place and after each step (dimension ``addition``). ``random_order`` and
        ``random_information`` of random networks, NaN (-1) where their budget is spent.
        ``candidate_kind``: 1 of those in place, -1 of those forbidden, else 0. Attributes say which
        guarantee holds.

    Raises
    ------
    ConfigError, DataError
        If the arguments do not fit together, or the noise is too small, as for `select`.
    """
    check_outputs({"store": store, "journal": journal})
    before = fitting(of, prior)
    if isinstance(goal, ToeplitzMap):
        fitting(goal, before, "goal")
    elif goal is not None and np.shape(goal) != of.sites:
        raise DataError(
            f"goal: expected a ToeplitzMap, or places: expected {of.sites} true or false, found"
            f" {shown(goal)}"
        )
    errors = of.noise(noise)
    network = Network.of(of.sensors, budget, costs, existing, forbidden)
    weights = None if weights is None else _checked(weights, of.sites)
    generator = np.random.default_rng(count("seed", seed, 0))
    together = comm or SerialCommunicator()
    file = None if store is None else Path(store)
    options: dict[str, Any] = {"overwrite": overwrite, "progress": progress}
    # F W^(1/2) Gamma W^(1/2) F^T is the covariance of the map F W^(1/2).
    seen = _weighted(of, weights)
    every = data_covariance(seen, before, file, together, **options)
    conditional = None
    if isinstance(goal, ToeplitzMap):
        conditional = ConditionalCovariance(every, seen, before, _weighted(goal, weights))
    elif goal is not None:
        beside = file and file.with_name(f"{file.stem}-goal{file.suffix}")
        # Sites of weight zero are not asked for.
        asked = np.asarray(goal)
        if weights is not None and asked.dtype == bool:
            asked = asked & (weights > 0)
        conditional = data_covariance(seen, before.given(asked), beside, together, **options)
    found = select(
        every,
        errors,
        budget,
        conditional=conditional,
        costs=costs,
        existing=existing,
        forbidden=forbidden,
        dtype=dtype,
        lazy=lazy,
        comm=comm,
        journal=journal,
        **options,
    )
    others = random_networks(network, count("random", random, 0), generator)
    compared = information_curves(every, errors, conditional, network.existing, others, together)
    guarantee = _guarantee(errors, goal, costs)
    return _dataset(of, before, errors, network, found, guarantee, others, compared)


def _checked(weights: ArrayLike, sites: tuple[int, ...]) -> Float[np.ndarray, "*sites"]:
    array = finite_array("weights", weights)
    if array.shape != sites or np.any(array < 0) or not np.any(array):
        raise DataError(
            f"weights: expected {sites} values >= 0, not all zero, found {shown(weights)}"
        )
    return array


def _weighted(of: ToeplitzMap, weights: Float[np.ndarray, "*sites"] | None) -> ToeplitzMap:
    return of if weights is None else of.scaled(np.sqrt(weights))


def _deviations(
    of: ToeplitzMap, prior: Separable, noise: SensorNoise, first: int, order: list[int]
) -> Float[np.ndarray, " additions *sites"]:
    """The posterior standard deviation of the integral of m, with the `first` so many sensors, one
    more, and so on."""
    sensors = np.array(order, dtype=int)
    total, before = time_integral(of, prior)
    reductions = np.zeros((len(order) + 1, before.size))
    if len(order):
        some = of.select(sensors)
        size = len(order) * of.steps
        factor = factorised(covariance(some, prior), noise.select(sensors), times_first=False)
        cross = cross_covariance(some, prior, total)
        cross = cross.reshape(of.steps, len(order), -1).swapaxes(0, 1).reshape(size, -1)
        squares = np.square(solve_lower(factor, cross))
        squares.reshape(len(order), of.steps, -1).sum(axis=1).cumsum(axis=0, out=reductions[1:])
    left = np.sqrt(np.maximum(before - reductions[first:], 0.0))
    return left.reshape(-1, *prior.sites)


def _guarantee(noise: SensorNoise, goal: object, costs: object) -> tuple[float, str]:
    """The guaranteed fraction of the best information, and the reason."""
    if goal is not None:
        return 0.0, "none: information on a goal is not submodular"
    if noise.correlated is not None:
        return 0.0, "none: noise is correlated between sensors"
    least = 1.0 - np.exp(-1.0)
    if costs is not None:
        text = "of what any network within the budget could add"
        return 0.5 * least, f"at least {0.5 * least:.3f}, (1 - 1/e) / 2, {text}"
    return least, f"at least {least:.3f}, 1 - 1/e, of what as many sensors could add"


def _dataset(
    of: ToeplitzMap,
    prior: Separable,
    noise: SensorNoise,
    network: Network,
    found: Selection,
    guarantee: tuple[float, str],
    others: list[list[int]],
    compared: list[Float[np.ndarray, " sensors"]],
) -> xr.Dataset:
    column, existing, chosen = of.column, network.existing, found.order.tolist()
    sites = column.dims[2:]
    longest = max([len(chosen), *map(len, others)])
    random_order = np.full((len(others), longest), -1)
    random_information = np.full((len(others), longest), np.nan)
    for k, (order, curve) in enumerate(zip(others, compared, strict=True)):
        random_order[k, : len(order)], random_information[k, : len(order)] = order, curve
    deviations = _deviations(of, prior, noise, len(existing), [*existing, *chosen])
    by_step = "design", "random_step"
    variables: Variables = {
        "order": ("step", found.order, named("candidate chosen")),
        "gain": ("step", found.gains, named("information gained by the sensor, nats")),
        "information": ("step", found.information, named("expected information gain, nats")),
        "integral_sd": (
            ("addition", *sites),
            deviations,
            named("posterior standard deviation of the integral over time", of.units[2]),
        ),
        "random_order": (by_step, random_order, named("candidate chosen at random")),
        "random_information": (
            by_step,
            random_information,
            named("expected information gain of random networks, nats"),
        ),
    }
    more: dict[str, Any] = {}
    idle = found.order[found.gains <= NEGLIGIBLE * found.information[-1]].tolist()
    if idle:
        which = f"sensors {', '.join(map(str, idle))}"
        more["warnings"] = f"{which}: chosen, but they add no information, nor would any other"
    variables["candidate_kind"] = "candidate", network.kinds, _KINDS
    fraction, text = guarantee
    if fraction and network.costs is None:
        k = np.arange(1.0, len(chosen) + 1.0)
        most = found.existing + (found.information - found.existing) / (1 - (1 - 1 / k) ** k)
        about = "no network of so many more sensors has more information, nats"
        variables["most_possible"] = "step", most, named(about)
    coordinates = {
        str(k).replace("sensor", "candidate"): (
            tuple("candidate" if d == "sensor" else d for d in v.dims),
            v.values,
            v.attrs,
        )
        for k, v in column.coords.items()
        if "lag" not in v.dims
    }
    attributes = provenance(
        "placement of sensors",
        kind="placement",
        title="pyadjoint_gpu placement",
        budget=network.budget,
        rule=found.rule,
        existing=list(existing),
        existing_information=found.existing,
        guarantee=text,
        guaranteed_fraction=fraction,
        blocks_read=found.blocks,
        **more,
    )
    return xr.Dataset(variables, coordinates, attributes)
