"""Placement of sensors, with its result as a Dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
import xarray as xr
from numpy.typing import ArrayLike

from ..core.checks import count
from ..core.errors import DataError, shown
from ..core.files import path_of
from ..core.outputs import check_outputs
from ..lti.covariance import FormedCovariance, check_fit, covariance
from ..lti.offline import seen, solved
from ..lti.store import CovarianceFile
from ..lti.toeplitz import ToeplitzMap
from ..results.dataset import provenance
from ..statistics.covariance import Covariance, DenseCovariance
from ..statistics.noise import Noise, in_units
from ..statistics.roundoff import factorised
from ..statistics.space_time import SpaceTimePrior
from .communicator import Communicator, SerialCommunicator, safely, share
from .information import information
from .network import Network
from .selection import Selection, select

LARGEST = 2**31
"""Most bytes of a covariance in memory; blocks of a larger one are formed on request."""

NEGLIGIBLE = 1e-12
"""Fraction of the largest variance of quantities of interest, or of all information, that counts
as zero."""


_KINDS = {
    "long_name": "kind of candidate",
    "flag_values": np.array([-1, 0, 1], np.int8),
    "flag_meanings": "forbidden free existing",
}


def place_sensors(
    of: ToeplitzMap,
    prior: SpaceTimePrior,
    noise: Any,
    budget: float,
    *,
    goal: Any = None,
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
    """Choose sensors greedily among candidates, each for the most information about m beside those
    before.

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
    prior : SpaceTimePrior
        Gamma.
    noise : float or array
        As for `LinearInversion`.
    budget : int or float
        How many sensors; with `costs`, what they may cost together.
    goal : array of bool of shape (*sites,), or ToeplitzMap, optional
        Quantities of interest: m at some sites, while it stays unknown at the others; or what
        another map gives of m, such as waves at a coast. m everywhere unless given.
    weights : array, shape (*sites,), optional
        W_p of sites: W_p^(1/2) Gamma W_p^(1/2) replaces Gamma. A site of weight zero counts as
        known, which overstates what data say of the others: see `goal`.
    costs : array, shape (C,), optional
        Costs of candidates; see `select`.
    existing, forbidden : sequence of int
        Candidates in place already, which cost nothing, and those that cannot be chosen.
    random, seed : int
        Random networks to compare with.
    store : path, optional
        Keep F Gamma F^T in this file (`CovarianceFile`). Otherwise it is in memory, or where it
        takes more than 2 GiB, formed block by block as these are asked for.
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
        If what is given does not fit together, or the noise is too small, as for `select`.
    """
    check_outputs({"store": store, "journal": journal})
    check_fit(of, prior)
    if isinstance(goal, ToeplitzMap):
        check_fit(goal, prior, "goal")
    elif goal is not None and np.shape(goal) != prior.sites:
        raise DataError(
            f"goal: expected a ToeplitzMap, or places: expected {prior.sites} true or false, found"
            f" {shown(goal)}"
        )
    noise = Noise(in_units(noise, of.units[0]), of.sensors, of.steps)
    network = Network.of(of.sensors, budget, costs, existing, forbidden)
    objective = prior if weights is None else prior.weighted(weights)
    generator = np.random.default_rng(count("seed", seed, 0))
    file, together = (
        None if store is None else path_of("store", store),
        comm or SerialCommunicator(),
    )
    every = _covariance(of, objective, file, together, progress, overwrite)
    conditional = None
    if goal is not None:
        conditional = _given(goal, of, objective, every, file, together, progress, overwrite)
    found = select(
        every,
        noise,
        budget,
        conditional=conditional,
        costs=costs,
        existing=existing,
        forbidden=forbidden,
        dtype=dtype,
        lazy=lazy,
        comm=comm,
        journal=journal,
        overwrite=overwrite,
        progress=progress,
    )
    others = _random(network, count("random", random, 0), generator)
    compared = _compared(every, noise, conditional, network.existing, others, together)
    guarantee = _guarantee(noise, goal, costs)
    return _dataset(of, prior, noise, network, found, guarantee, others, compared)


def _covariance(
    of: ToeplitzMap,
    prior: SpaceTimePrior,
    store: Path | None,
    comm: Communicator,
    progress: bool | None,
    overwrite: bool,
) -> Covariance:
    """F Gamma F^T; one rank writes the file, the others wait."""
    if store is None:
        if 8 * (of.sensors * of.steps) ** 2 > LARGEST:
            return FormedCovariance(of, prior)
        return DenseCovariance(covariance(of, prior))

    def make() -> None:
        if comm.Get_rank() == 0:
            CovarianceFile.make(store, of, prior, overwrite=overwrite, progress=progress)

    safely(comm, make)
    return CovarianceFile(store)


class Known:
    """The covariance X conditional on quantities of interest q,

        X' = X - R Q^+ R^T = X - A A^T,

    Q the covariance of q, R that of data with q. Q may be singular: before a wave arrives there is
    nothing to know.
    """

    def __init__(self, base: Covariance, of: ToeplitzMap, prior: SpaceTimePrior, goal: ToeplitzMap):
        self.base, self.candidates, self.steps = base, base.candidates, base.steps
        size = goal.sensors * goal.steps
        values, vectors = scipy.linalg.eigh(covariance(goal, prior).reshape(size, size))
        kept = values > NEGLIGIBLE * values[-1]
        cross = covariance(of, prior, goal).reshape(self.candidates, self.steps, size)
        self._roots = cross @ (vectors[:, kept] / np.sqrt(values[kept]))  # A, by candidate

    @property
    def made_with(self) -> Any:
        """The inputs of a journal's fingerprint, if the base has them."""
        return self.base.made_with, self._roots  # type: ignore[attr-defined]  # not all have it

    def diagonal(self, which: slice) -> np.ndarray:
        roots = self._roots[which]
        return self.base.diagonal(which) - roots @ roots.swapaxes(1, 2)

    def row(self, p: int, which: slice) -> np.ndarray:
        return self.base.row(p, which) - np.tensordot(self._roots[p], self._roots[which], (1, 2))


def _given(
    goal: Any,
    of: ToeplitzMap,
    prior: SpaceTimePrior,
    base: Covariance,
    store: Path | None,
    comm: Communicator,
    progress: bool | None,
    overwrite: bool,
) -> Covariance:
    """The covariance of data conditional on the goal."""
    if isinstance(goal, ToeplitzMap):
        return Known(base, of, prior, goal)
    if store is not None:
        store = store.with_name(f"{store.stem}-goal{store.suffix}")
    return _covariance(of, prior.given(goal), store, comm, progress, overwrite)


def _random(network: Network, designs: int, generator: np.random.Generator) -> list[list[int]]:
    """Networks within the budget, of candidates in a random order."""
    out = []
    for _ in range(designs):
        order: list[int] = []
        for j in generator.permutation(network.candidates).tolist():
            if network.able(order)[j]:
                order.append(j)
        out.append(order)
    return out


def _compared(
    every: Covariance,
    noise: Noise,
    conditional: Covariance | None,
    existing: tuple[int, ...],
    designs: list[list[int]],
    comm: Communicator,
) -> list[np.ndarray]:
    """EIG of the first 1, 2, ... sensors of each, with those in place; each rank does its share."""

    own = designs[share(comm, len(designs))]

    def curves() -> dict[int, np.ndarray]:
        """Curves by index of design, designs of equal length computed together."""
        out: dict[int, np.ndarray] = {}
        for length in {len(design) for design in own}:
            which = [k for k, design in enumerate(own) if len(design) == length]
            networks = [[*existing, *own[k]] for k in which]
            found = information(every, noise, networks, conditional=conditional)
            out |= dict(zip(which, found[:, len(existing) :], strict=True))
        return out

    mine = safely(comm, curves)
    return [each[k] for each in comm.allgather(mine) for k in range(len(each))]


def _deviations(
    of: ToeplitzMap, prior: SpaceTimePrior, noise: Noise, first: int, order: list[int]
) -> np.ndarray:
    """The posterior standard deviation of the integral of m, with the first so many sensors, one
    more, and so on; of shape (additions, *sites)."""
    sensors = np.array(order, dtype=int)
    total = prior.times.sum(axis=1) * of.interval
    before = prior.spatial.variance * (total.sum() * of.interval)
    reductions = np.zeros((len(order) + 1, before.size))
    if len(order):
        some = of.select(sensors)
        size = len(order) * of.steps
        factor = factorised(covariance(some, prior), noise.select(sensors), times_first=False)
        seen_by = seen(some, prior, total).reshape(of.steps, len(order), -1).swapaxes(0, 1)
        told = np.square(solved(factor, seen_by.reshape(size, -1)))
        told.reshape(len(order), of.steps, -1).sum(axis=1).cumsum(axis=0, out=reductions[1:])
    left = np.sqrt(np.maximum(before - reductions[first:], 0.0))
    return left.reshape(-1, *prior.sites)


def _guarantee(noise: Noise, goal: object, costs: object) -> tuple[float, str]:
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
    prior: SpaceTimePrior,
    noise: Noise,
    network: Network,
    found: Selection,
    guarantee: tuple[float, str],
    others: list[list[int]],
    compared: list[np.ndarray],
) -> xr.Dataset:
    column, existing, chosen = of.column, network.existing, found.order.tolist()
    sites = column.dims[2:]
    longest = max([len(chosen), *map(len, others)])
    random_order = np.full((len(others), longest), -1)
    random_information = np.full((len(others), longest), np.nan)
    for k, (order, curve) in enumerate(zip(others, compared, strict=True)):
        random_order[k, : len(order)], random_information[k, : len(order)] = order, curve
    deviations = _deviations(of, prior, noise, len(existing), [*existing, *chosen])

    def named(dims: Any, values: Any, text: str, units: str = "1") -> Any:
        return dims, values, {"units": units, "long_name": text}

    variables = {
        "order": named("step", found.order, "candidate chosen"),
        "gain": named("step", found.gains, "information gained by the sensor, nats"),
        "information": named("step", found.information, "expected information gain, nats"),
        "integral_sd": named(
            ("addition", *sites),
            deviations,
            "posterior standard deviation of the integral over time",
            of.units[2],
        ),
        "random_order": named(
            ("design", "random_step"), random_order, "candidate chosen at random"
        ),
        "random_information": named(
            ("design", "random_step"),
            random_information,
            "expected information gain of random networks, nats",
        ),
    }
    more: dict[str, Any] = {}
    idle = found.order[found.gains <= NEGLIGIBLE * found.information[-1]].tolist()
    if idle:
        of_them = f"sensors {', '.join(map(str, idle))}"
        more["warnings"] = f"{of_them}: chosen, but they add no information, no other would"
    variables["candidate_kind"] = "candidate", network.kinds, _KINDS
    fraction, text = guarantee
    if fraction and network.costs is None:
        k = np.arange(1.0, len(chosen) + 1.0)
        most = found.existing + (found.information - found.existing) / (1 - (1 - 1 / k) ** k)
        about = "no network of so many more sensors has more information, nats"
        variables["most_possible"] = named("step", most, about)
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
