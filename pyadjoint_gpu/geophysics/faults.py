"""Rectangular faults, cut in patches: surface displacements by slip, and the space of slip."""

from __future__ import annotations

import math
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
from ..core.grid import Grid
from ..core.spaces import Space
from ..results.dataset import Variables, named
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

    @cached_property
    def space(self) -> SlipSpace:
        """The space of slip: ``Matern(sd, length).on(fault.space)`` is a prior of smooth slip."""
        return SlipSpace(self)


@dataclass(frozen=True)
class SlipSpace(Space):
    """Fields with one value for each component of a fault's slip; neighbours are components of one
    kind, on neighbouring patches."""

    fault: Fault

    @cached_property
    def grid(self) -> Grid:
        """The fault's plane, with axes along the strike and down the dip. (A grid has two cells
        along each axis at least.)"""
        fault = self.fault
        return Grid((max(2, fault.along), max(2, fault.down)), (fault.length, fault.width))

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.fault.components,)

    @property
    def dims(self) -> tuple[str, ...]:
        return ("component",)

    @property
    def measure(self) -> float:
        """Area of a patch."""
        return math.prod(self._spacing)

    @property
    def box(self) -> Grid | None:
        """The patches, once for each kind of slip."""
        return None if min(self.fault.along, self.fault.down) < 2 else self.grid

    @property
    def _spacing(self) -> tuple[float, float]:
        fault = self.fault
        return fault.length / fault.along, fault.width / fault.down

    def positions(self) -> tuple[Float[np.ndarray, " components"], ...]:
        """Distances along the strike from the fault's middle, and down the dip from the upper
        edge."""
        along, down = (self.fault.coordinates()[k][1] for k in ("along", "down"))
        return along, down

    def dirichlet(self, field: Float[Array, " components"]) -> Float[Array, ""] | float:
        """Integral of ``|grad field|^2`` over the fault, from differences between neighbouring
        patches, summed over kinds of slip."""
        fault = self.fault
        patches = jnp.reshape(field, (len(fault.slips), fault.along, fault.down))
        total = 0.0
        for axis, h in enumerate(self._spacing, 1):
            total = total + jnp.sum(jnp.square(jnp.diff(patches, axis=axis))) / h**2
        return total * self.measure


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

    @property
    def space(self) -> SlipSpace:
        """That of slip."""
        return self.fault.space

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
