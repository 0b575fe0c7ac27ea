"""Rectangular faults, cut in patches: surface displacements by slip, and priors of slip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ..core.checks import check_keys, count, finite, positive
from ..core.errors import ConfigError, DataError
from ..core.frozen import Frozen
from ..results.dataset import Variables, named
from ..sampling.inputs import STIFFEST, GaussianPrior
from ..statistics.observed import check_units
from .okada import SLIPS, displacement

GEOMETRY = ("east", "north", "depth", "strike", "dip")
"""Parameters of a fault's position and orientation."""
LIMITS = {"depth": (0.0, np.inf), "dip": (0.0, 180.0)}
"""Bounds of the geometry of a fault in a half space."""


@dataclass(frozen=True)
class Fault(Frozen):
    """A rectangle of `along` x `down` equal patches in an elastic half space.

    Parameters
    ----------
    length, width : float
        Extent along its strike and down its dip, in the units of the points.
    along, down : int
        Numbers of patches.
    slips : sequence of {"strike", "dip", "tensile"}
        Components of slip of each patch: left-lateral, thrust, opening.
    poisson : float
        Poisson's ratio of the half space.
    """

    length: float
    width: float
    along: int = 1
    down: int = 1
    slips: tuple[str, ...] = ("strike", "dip")
    poisson: float = 0.25

    def __post_init__(self) -> None:
        for name in ("length", "width"):
            positive(name, getattr(self, name))
        for name in ("along", "down"):
            count(name, getattr(self, name))
        slips = tuple(self.slips) if isinstance(self.slips, tuple | list) else ()
        if not slips or any(s not in SLIPS for s in slips) or len(set(slips)) < len(slips):
            raise ConfigError(
                f"slips: found {self.slips!r}, expected some of {', '.join(SLIPS)}, each once"
            )
        self._set(slips=slips)
        if not -1.0 < finite("poisson", self.poisson) <= 0.5:
            raise ConfigError(
                f"poisson: found {self.poisson}, expected more than -1 and at most 0.5"
            )

    @property
    def components(self) -> int:
        """Number of components of slip, all patches together."""
        return len(self.slips) * self.along * self.down

    def green(
        self,
        points: ArrayLike,
        look: ArrayLike,
        *,
        east: ArrayLike,
        north: ArrayLike,
        depth: ArrayLike,
        strike: ArrayLike,
        dip: ArrayLike,
    ) -> Float[Array, "data components"]:
        """Design matrix G: displacements along `look` per unit of each component of slip.

        Parameters
        ----------
        points : array, shape (m, 2)
            East and north of each datum.
        look : array, shape (m, 3)
            Unit vector (east, north, up) of each datum: an axis for a component of GNSS, the line
            of sight for InSAR.
        east, north, depth : float
            Position of the middle of the upper edge, depth >= 0; G is NaN above the surface.
        strike, dip : float
            Angles in degrees: strike clockwise from north, the fault dipping to the right of it;
            dip from 0 to 180.

        Returns
        -------
        array, shape (m, components)
            Columns by component of slip, then along the strike, then down the dip (the fastest).
        """
        points, look = jnp.asarray(points), jnp.asarray(look)
        azimuth, delta = jnp.deg2rad(strike), jnp.deg2rad(dip)
        ahead = jnp.stack([jnp.sin(azimuth), jnp.cos(azimuth)])
        left = jnp.stack([-jnp.cos(azimuth), jnp.sin(azimuth)])
        length, width = self.length / self.along, self.width / self.down
        i, j = (a.ravel() for a in np.indices((self.along, self.down)))
        # Offsets from the middle of the upper edge, then from where each patch begins.
        off = points - jnp.stack([jnp.asarray(east), jnp.asarray(north)])
        at = (
            (off @ ahead)[:, None] - (i * length - 0.5 * self.length),
            (off @ left)[:, None] + j * width * jnp.cos(delta),
            depth + j * width * jnp.sin(delta),
        )
        parts = []
        for slip in self.slips:
            u = displacement(*at, delta, length, width, slip, poisson=self.poisson)
            flat = u[..., 0, None] * ahead + u[..., 1, None] * left
            parts.append(jnp.einsum("mk,mnk->mn", look[:, :2], flat) + look[:, 2:] * u[..., 2])
        return jnp.concatenate(parts, axis=1)

    def forward(self, points: ArrayLike, look: ArrayLike, **known: float) -> Forward:
        """Map from theta, the unknown part of the geometry, to G, for `HierarchicalSMC`.

        Parameters
        ----------
        points, look
            As for `green`.
        **known : float
            The known part of the geometry, out of east, north, depth, strike, dip.
        """
        known = {k: finite(k, v) for k, v in check_keys(known, GEOMETRY, "").items()}
        for name, (low, high) in LIMITS.items():
            if not low <= known.get(name, low) <= high:
                raise ConfigError(f"{name}: found {known[name]:g}, expected {low:g} to {high:g}")
        where = np.asarray(points, dtype=float), np.asarray(look, dtype=float)
        return Forward(self, *where, known)

    def coordinates(self, units: str = "m") -> Variables:
        """Coordinates of slip components, for `xarray.Dataset.assign_coords` on a sampler's result:
        ``slip_kind``, and the distances ``along`` the strike from the fault's middle and ``down``
        the dip from the upper edge of the patches' middles.

        Parameters
        ----------
        units : str
            Unit of the fault's lengths.
        """
        kinds, i, j = (a.ravel() for a in np.indices((len(self.slips), self.along, self.down)))
        length, width = self.length / self.along, self.width / self.down
        return {
            "slip_kind": (
                "component",
                np.array(self.slips)[kinds],
                {"long_name": "kind of slip"},
            ),
            "along": (
                "component",
                (i + 0.5) * length - 0.5 * self.length,
                named("distance along the strike, from the fault's middle", units)
                | {"patch_length": length},
            ),
            "down": (
                "component",
                (j + 0.5) * width,
                named("distance down the dip, from the upper edge", units)
                | {"patch_length": width},
            ),
        }

    def smooth_prior(self, sd: ArrayLike, length: float) -> GaussianPrior:
        """Gaussian prior of smooth slip: components of one kind have the covariance

            sd_i sd_j C_ij / (C_ii C_jj)^(1/2),    C = (1 / length^2 - Laplacian)^(-2).

        and different kinds are independent. Every component has exactly its standard deviation, at
        the edges too. The correlation decreases with distance r as (r / length) K_1(r / length),
        with the modified Bessel function K_1 (Matern with smoothness one), to 0.60 at `length` and
        0.28 at twice that, whatever the size of the patches. (Lindgren, Rue and Lindstrom 2011, J.
        R. Stat. Soc. B 73, 423.)

        Parameters
        ----------
        sd : float, or array of shape (components,)
            Marginal standard deviation, in units of slip.
        length : float
            In units of the fault's length. An infinite one would be pure Laplacian smoothing, an
            improper prior that leaves uniform slip unbounded.

        Raises
        ------
        ConfigError
            If the prior would be improper, or `sd` or `length` is not positive.
        """
        size = self.along * self.down
        check_units("sd", sd)
        each = np.asarray(sd)
        if each.ndim == 0:
            each = np.asarray(positive("sd", sd))
        elif each.shape != (self.components,) or not np.all(each > 0):
            raise ConfigError(f"sd: expected one positive number, or {self.components} of them")
        values, vectors = np.linalg.eigh(-self.smoothing()[:size, :size])
        endless = isinstance(length, float) and length == np.inf
        square = np.inf if endless else positive("length", length) ** 2
        with np.errstate(over="ignore", invalid="ignore"):
            roots = 1.0 + square * np.maximum(values, 0.0)
            stiff = not np.max(roots) ** 2 < STIFFEST
        if stiff:
            raise ConfigError(
                f"length: found {length:g}, with which the prior is improper: uniform slip could"
                f" have any size; expected about the fault's length, {self.length:g}, or less"
            )
        variance = vectors**2 @ roots**-2.0
        # The precision of slip with unit variances.
        scaled = np.sqrt(variance)[:, None] * vectors * roots
        unit = np.kron(np.eye(len(self.slips)), scaled @ scaled.T)
        each = np.broadcast_to(each, self.components)
        return GaussianPrior(unit / each[:, None] / each)

    def smoothing(self) -> Float[np.ndarray, "components components"]:
        """The Laplacian of slip: differences of neighbouring patches, over the squares of their
        distances, for each component of slip separately."""
        size = self.along * self.down
        cells = np.arange(size).reshape(self.along, self.down)
        lap = np.zeros((size, size))
        for axis, h in enumerate((self.length / self.along, self.width / self.down)):
            low = np.take(cells, np.arange(cells.shape[axis] - 1), axis=axis).ravel()
            high = np.take(cells, np.arange(1, cells.shape[axis]), axis=axis).ravel()
            for a, b in ((low, high), (high, low)):
                np.add.at(lap, (a, a), -1.0 / h**2)
                np.add.at(lap, (a, b), 1.0 / h**2)
        return np.kron(np.eye(len(self.slips)), lap)


@dataclass(frozen=True, eq=False)
class Forward:
    """Map from the unknown part of a fault's geometry to G; see `Fault.forward`. Equal ones share
    compiled code."""

    fault: Fault
    points: Float[np.ndarray, "data 2"]
    look: Float[np.ndarray, "data 3"]
    known: Mapping[str, float]

    def __call__(self, theta: Mapping[str, ArrayLike]) -> Float[Array, "data components"]:
        unknown = [k for k in GEOMETRY if k not in self.known]
        check_keys(theta, unknown, "theta_prior")
        for name in unknown:
            if name not in theta:
                raise ConfigError(f"theta_prior.{name} is missing, and it is not given as known")
        return self.fault.green(self.points, self.look, **self.known, **theta)

    @cached_property
    def _key(self) -> tuple[Fault, bytes, bytes, tuple[tuple[str, float], ...]]:
        known = tuple(sorted(self.known.items()))
        return self.fault, self.points.tobytes(), self.look.tobytes(), known

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Forward) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


def gnss(points: ArrayLike) -> tuple[Float[np.ndarray, "data 2"], Float[np.ndarray, "data 3"]]:
    """Points and look vectors of the components east, north and up at stations of shape (k, 2)."""
    stations = np.asarray(points, dtype=float)
    if stations.ndim != 2 or stations.shape[1] != 2:
        raise DataError(f"points: found an array of shape {stations.shape}, expected (k, 2)")
    return np.repeat(stations, 3, axis=0), np.tile(np.eye(3), (len(stations), 1))
