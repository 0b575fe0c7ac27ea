"""Priors of unknown fields, as they are stated; `Prior.on` a space they are densities.

A control, the slip of a fault and the forcing of a linear time-invariant system take the same ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ..core.checks import finite_array, positive, real_array
from ..core.errors import ConfigError, DataError, shown
from ..core.grid import Grid
from ..core.guards import is_list, is_mapping
from ..core.precision import double
from ..core.quantities import converter, power, spelling, stated
from ..core.spaces import CellSpace, Space
from ..models.forcing import ForcingSpace, SiteSpace
from .densities import BoundPrior, Diagonal, Full, Logistic, Spectral
from .matern import matern_spectrum
from .observed import check_units, factor
from .separable import Separable

Place = Space | Grid | int | tuple[int, ...]
"""Where a prior lives: a space, all cells of a grid, or a shape."""


@dataclass(frozen=True, eq=False)
class Placed:
    """What a prior is bound to: its space or shape, the mean, the units of theta, and the key of
    the prior in messages."""

    space: Space | tuple[int, ...]
    mean: Float[np.ndarray, "*shape"]
    units: str
    where: str


@dataclass(frozen=True, eq=False, repr=False)
class Prior(ABC):
    """A prior of theta, a control's transformed field or any other array of unknowns.

    Attributes
    ----------
    mean : number, array, DataArray or function, optional
        Of a control: the physical field in the middle of the prior (the median under transform
        "log"), by default the control's start. Else the mean, by default zero.
    """

    _: KW_ONLY
    mean: Any = None

    @double
    def on(
        self,
        place: Place,
        *,
        mean: ArrayLike | None = None,
        units: str = "1",
        where: str = "prior",
    ) -> BoundPrior:
        """The density on a space.

        Parameters
        ----------
        place : Space, Grid, int or tuple of int
            The space of theta (``model.space("permeability")``), a grid for its cells, or a shape.
        mean : array, optional
            In place of the prior's own; zero if there is neither.
        units : str
            Units of theta, to which a standard deviation or covariance that states its own is
            converted.
        where : str
            The key of the prior, in messages.

        Raises
        ------
        ConfigError, DataError
            If an argument of the prior cannot be used, or does not suit the space.
        """
        space = CellSpace(place) if isinstance(place, Grid) else place
        space = (space,) if isinstance(space, int) else space
        if mean is None:
            mean = _filled(f"{where}.mean", 0.0 if self.mean is None else self.mean, space, units)
        shape = space.shape if isinstance(space, Space) else space
        everywhere = np.broadcast_to(np.asarray(mean, float), shape)
        return self._on(Placed(space, everywhere, units, where))

    @abstractmethod
    def _on(self, at: Placed) -> BoundPrior: ...

    def __repr__(self) -> str:
        """The call that makes it, with arrays by their shapes."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        said = (f"{k}={shown(v)}" for k, v in given.items() if v is not None)
        return f"{type(self).__name__}({', '.join(said)})"


@dataclass(frozen=True, eq=False, repr=False)
class Independent(Prior):
    """Independent Gaussian components, N(mean, diag(sd^2)).

    Parameters
    ----------
    sd : float or array
        Standard deviation of theta, one or one a component, > 0.
    mean : number, array, DataArray or function, optional
        See `Prior`.
    """

    sd: Any

    def _on(self, at: Placed) -> BoundPrior:
        return Diagonal(at.mean, deviations(self.sd, at))


@dataclass(frozen=True, eq=False, repr=False)
class Matern(Prior):
    """A smooth Gaussian field of Matern covariance: the solution x of

        (1 - sum_a length_a^2 d^2/dx_a^2) x = white noise,    dx/dn = 0 on the boundary,

    divided by its own standard deviation, point by point, and multiplied by `sd`. At distance r,
    in units of the length, the correlation is (1 + r) exp(-r) in 1-D, r K_1(r) in 2-D, with the
    modified Bessel function K_1, and exp(-r) in 3-D (smoothness 2 - d/2): in 2-D 0.60 at r = 1 and
    0.28 at 2. It does not depend on the grid: the length is right to 1 % with two cells a length in
    1-D and 2-D, to 3 % with four in 3-D.

    Every point has exactly its standard deviation, at the boundary too. Correlations are larger
    across the boundary's neighbourhood: in 2-D 0.75 between a point of the boundary and one that is
    one length inside, 0.38 at two; those along the boundary, and more than two lengths inside, are
    as above. (Whittle 1954, Biometrika 41, 434; Lindgren, Rue and Lindstroem 2011, J. R. Stat. Soc.
    B 73, 423.)

    Parameters
    ----------
    sd : float or array
        Standard deviation of theta, one or one a point (a site, of a forcing, whose times are
        independent; see `SpaceTime`), > 0.
    length : float, sequence of float or mapping
        Correlation length, > 0, in the grid's unit; one for each axis, in array order or by name
        (``{"x": 0.5, "y": 0.1}``), for an anisotropic field.
    mean : number, array, DataArray or function, optional
        See `Prior`.
    """

    sd: Any
    length: Any

    def _on(self, at: Placed) -> BoundPrior:
        space, where = at.space, at.where
        if not isinstance(space, Space):
            raise ConfigError(
                f"{where}: a Matern prior needs a space, found values of shape {space}; bind it to"
                ' one, prior.on(model.space("source")) or prior.on(fault.space)'
            )
        if isinstance(space, ForcingSpace):  # times are independent
            spatial = self.on(space.spatial, mean=0.0, units=at.units, where=where)
            return Separable.of(at.mean, spatial)
        if isinstance(space, SiteSpace) and space.sites.at_points:
            raise ConfigError(f"{where}.length: points have no neighbours; take Independent")
        lengths = _lengths(f"{where}.length", self.length, space)
        sd = deviations(self.sd, at)
        modes, power = matern_spectrum(space, lengths, where)
        own = np.sqrt(np.asarray(modes.squares(power)))
        return Spectral(at.mean, sd / own, np.sqrt(power), modes)


@dataclass(frozen=True, eq=False, repr=False)
class Dense(Prior):
    """N(mean, covariance) of n components with any covariance.

    Parameters
    ----------
    covariance : array, shape (n, n)
        Symmetric and positive definite, of the components in C order.
    mean : number, array, DataArray or function, optional
        See `Prior`.
    """

    covariance: Any

    def _on(self, at: Placed) -> BoundPrior:
        key, n = f"{at.where}.covariance", at.mean.size
        given = finite_array(key, self.covariance)
        if given.shape != (n, n):
            raise DataError(f"{key}: found shape {given.shape}, expected {(n, n)}")
        check_units(key, self.covariance)
        own = stated(self.covariance)
        if own is not None and spelling(at.units) != "1":
            given = converter(key, own, power((at.units, 2))).difference(given)
        return Full(at.mean, factor(key, given, n))


@dataclass(frozen=True, eq=False, repr=False)
class Uniform(Prior):
    """Independent components, uniform between the bounds of a control with transform "logistic":
    theta = ln((m - a) / (b - m)) then has the standard logistic density.

    Parameters
    ----------
    low, high : float, optional
        The bounds (a, b), where the control does not have them: `Control(prior=Uniform(a, b))` is
        short for `Control(bounds=(a, b), transform="logistic", prior=Uniform())`.
    """

    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.mean is not None:
            raise ConfigError(f"prior.mean: found {shown(self.mean)}, a uniform prior takes none")

    def _on(self, at: Placed) -> BoundPrior:
        return Logistic(np.zeros(at.mean.shape))


def deviations(sd: Any, at: Placed) -> Float[np.ndarray, "*shape"]:
    """Standard deviations in the units of theta, one a component.

    Raises
    ------
    ConfigError, DataError
        If they are not positive, of another shape, or their units do not convert.
    """
    key, shape = f"{at.where}.sd", at.mean.shape
    check_units(key, sd)
    try:
        own = converter(key, stated(sd), at.units).difference(real_array(key, sd))
        out = np.broadcast_to(own, shape)
    except (TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise ConfigError(
            f"{key}: found {shown(sd)}, expected a number, or an array of shape {shape}"
        ) from None
    if not np.all(np.isfinite(out) & (out > 0)):
        raise DataError(f"{key}: found {np.min(out):g}, expected finite values > 0")
    return out


def _lengths(key: str, given: Any, space: Space) -> tuple[float, ...]:
    """One length for each axis of the space's grid."""
    grid = space.grid
    expected = f"a number > 0, or one for each of {', '.join(grid.dims)}"
    if is_mapping(given):
        if set(given) != set(grid.dims):
            raise ConfigError(f"{key}: found {', '.join(map(str, given))}, expected {expected}")
        each: list[Any] = [given[d] for d in grid.dims]
    elif is_list(given) or np.ndim(given):
        each = list(given)
    else:
        each = [given] * grid.ndim
    if len(each) != grid.ndim:
        raise ConfigError(f"{key}: found {len(each)} numbers, expected {expected}")
    out: list[float] = []
    for one in each:
        units = stated(one)
        if units is not None:
            one = converter(key, units, grid.units)(real_array(key, one)).item()
        out.append(positive(key, one, expected))
    if len(set(out)) > 1 and space.box is None:
        raise ConfigError(f"{key}: found {shown(given)}, expected one number for {space.dims}")
    return tuple(out)


def _filled(
    key: str, value: Any, space: Space | tuple[int, ...], units: str
) -> Float[np.ndarray, "*shape"]:
    """A mean as an array of the space."""
    how = converter(key, stated(value), units)
    if isinstance(space, Space):
        return how(space.fill(value, key))
    array = finite_array(key, how(real_array(key, value)))
    if array.shape not in ((), space):
        raise DataError(f"{key}: found shape {array.shape}, expected one number or {space}")
    return np.broadcast_to(array, space)
