"""Gaussian priors of forcings in space and time."""

# JAX annotates the functions that its transformations take and return as bare `Callable`.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Bool, Float
from numpy.typing import ArrayLike

from ..core.checks import count as count_of
from ..core.checks import finite_array, positive, real_array
from ..core.errors import ConfigError, DataError, shown
from ..core.grid import Grid
from ..core.pickling import AsGiven
from ..core.precision import double
from ..core.spaces import CellSpace, Space
from ..models.forcing import ForcingSpace
from .matern import DENSE, FieldMap, MaternField
from .observed import factor


@dataclass(frozen=True, eq=False)
class Matrix(AsGiven):
    """A spatial covariance Gamma_s = R R^T of n sites, given as a matrix."""

    matrix: Float[np.ndarray, "sites sites"]

    @property
    def variance(self) -> Float[np.ndarray, " sites"]:
        """The diagonal of Gamma_s."""
        return np.diag(self.matrix)

    def covariance(self, x: Float[Array, "*batch sites"]) -> Float[Array, "*batch sites"]:
        """The product Gamma_s x."""
        return x @ jnp.asarray(self.matrix, x.dtype)

    def root(self, z: Float[Array, "*batch sites"]) -> Float[Array, "*batch sites"]:
        """The product R z."""
        return z @ jnp.asarray(self._root, z.dtype)

    @cached_property
    def _root(self) -> Float[np.ndarray, "sites sites"]:
        """The symmetric square root, which singular covariances have too (conditional ones are)."""
        values, vectors = scipy.linalg.eigh(self.matrix)
        return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T

    def scaled(self, factor: Float[np.ndarray, " sites"]) -> Matrix:
        """The covariance D Gamma_s D, with `factor` the diagonal of the diagonal matrix D."""
        return Matrix(factor[:, None] * self.matrix * factor)

    def arrays(self) -> dict[str, Float[np.ndarray, " ..."]]:
        """Arrays from which `restored` makes it again."""
        return {"matrix": self.matrix}


@dataclass(frozen=True, eq=False)
class Cells(AsGiven):
    """The covariance of a Matern field on a rectangle of cells, by cosine transforms; like
    `Matrix`."""

    grid: Grid
    sd: Float[np.ndarray, " sites"]
    length: float

    @cached_property
    def _field(self) -> MaternField:
        return MaternField(CellSpace(self.grid), self.length)

    @property
    def variance(self) -> Float[np.ndarray, " sites"]:
        return self.sd**2

    def covariance(self, x: Float[Array, "*batch sites"]) -> Float[Array, "*batch sites"]:
        return self._covariance(x * self.sd) * self.sd

    def root(self, z: Float[Array, "*batch sites"]) -> Float[Array, "*batch sites"]:
        return self._root(z) * self.sd

    @cached_property
    def _covariance(self) -> FieldMap:
        field = self._field
        return self._each(lambda x: field.root(field.root_transposed(x)))

    @cached_property
    def _root(self) -> FieldMap:
        return self._each(self._field.root)

    def _each(self, of: FieldMap) -> FieldMap:
        """A map of fields, compiled for arrays (..., n) of fields."""

        def all_of(x: Float[Array, "*batch sites"]) -> Float[Array, "*batch sites"]:
            fields = x.reshape(-1, *self.grid.shape)
            return jax.vmap(of)(fields).reshape(x.shape).astype(x.dtype)

        return jax.jit(all_of)

    def scaled(self, factor: Float[np.ndarray, " sites"]) -> Cells:
        return replace(self, sd=self.sd * factor)

    def arrays(self) -> dict[str, Float[np.ndarray, " ..."]]:
        grid = self.grid
        return {
            "grid": np.array([grid.shape, grid.extent], dtype=float),
            "sd": self.sd,
            "length": np.array(self.length),
        }


Spatial = Matrix | Cells


def restored(arrays: Mapping[str, Float[np.ndarray, " ..."]]) -> Spatial:
    """The spatial covariance from its `Spatial.arrays`."""
    if "matrix" in arrays:
        return Matrix(arrays["matrix"])
    shape, extent = arrays["grid"]
    grid = Grid(tuple(int(n) for n in shape), tuple(extent))
    return Cells(grid, arrays["sd"], float(arrays["length"]))


@dataclass(frozen=True, eq=False)
class SpaceTimePrior(AsGiven):
    """Gaussian prior N(0, Gamma), Gamma = T (x) Gamma_s, of a forcing m of shape (steps, *sites).

    Gamma_s is the covariance of the sites, the Toeplitz matrix T the correlation of times. Made by
    `matern`, or by `of` from a matrix.

    Attributes
    ----------
    spatial : Spatial
        Gamma_s.
    sites : tuple of int
        Shape of the sites.
    correlation : array, shape (steps,)
        The first column of T, which begins with 1: (1, 0, 0, ...) where times are independent.
    """

    spatial: Spatial
    sites: tuple[int, ...]
    correlation: Float[np.ndarray, " steps"]

    @classmethod
    @double
    def matern(
        cls, space: Space, sd: ArrayLike, length: float | None, duration: float | None = None
    ) -> SpaceTimePrior:
        """A prior whose Gamma_s is that of a Matern field (see `matern`), with times independent or
        correlated as exp(-|t - t'| / duration).

        Parameters
        ----------
        space : ForcingSpace
            The space of the model's parameter: ``model.space("source")``.
        sd : float or array, shape (*sites,)
            Standard deviation of all values, or of those at each site, > 0.
        length : float or None
            Correlation length, in the grid's unit. None for sources at points, which are
            independent.
        duration : float, optional
            Correlation time, in the model's unit of time.

        Raises
        ------
        ConfigError, DataError
            If the space is not that of a forcing, or a number is not positive.
        """
        if not isinstance(space, ForcingSpace):
            raise ConfigError(f"prior: found {type(space).__name__}, expected a forcing's space")
        sites = space.shape[1:]
        each = _deviations(sd, sites)
        correlation = np.eye(1, space.count)[0]
        if duration is not None:
            rate = space.interval / positive("prior.duration", duration)
            correlation = np.exp(-rate * np.arange(space.count))
        if space.sites.at_points:
            if length is not None:
                raise ConfigError("prior.length: sources at points are independent; leave it out")
            return cls(Matrix(np.diag(each**2)), sites, correlation)
        box = _box(space)
        if box is not None:
            field = MaternField(CellSpace(box), length)
            return cls(Cells(box, each, field.length), sites, correlation)
        field = MaternField(replace(space, count=1), length)
        root = np.asarray(jax.vmap(field.root)(jnp.eye(each.size)[:, None, :]))[:, 0]
        return cls(Matrix(root.T @ root).scaled(each), sites, correlation)

    @classmethod
    def of(
        cls, covariance: ArrayLike, steps: int, correlation: ArrayLike | None = None
    ) -> SpaceTimePrior:
        """A prior from the matrix Gamma_s.

        Parameters
        ----------
        covariance : array, shape (n, n) or (n,)
            Gamma_s, or standard deviations of independent sites.
        steps : int
        correlation : array, shape (steps,), optional
            The first column of T; times are independent unless given.

        Raises
        ------
        DataError
            If Gamma_s or T is not symmetric and positive definite, or has values not finite.
        """
        count_of("steps", steps)
        matrix = finite_array("prior.covariance", covariance)
        if matrix.ndim == 1:
            matrix = np.diag(_deviations(matrix, matrix.shape) ** 2)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
            raise DataError(f"prior.covariance: found shape {matrix.shape}, expected (n, n)")
        factor("prior.covariance", matrix, len(matrix))
        column = (
            np.eye(1, steps)[0]
            if correlation is None
            else finite_array("prior.correlation", correlation)
        )
        if column.shape != (steps,) or column[0] != 1.0:
            raise DataError(
                f"prior.correlation: found shape {column.shape}, expected ({steps},), from 1"
            )
        factor("prior.correlation", scipy.linalg.toeplitz(column), steps)
        return cls(Matrix(matrix), (len(matrix),), column)

    @property
    def steps(self) -> int:
        """Number of times."""
        return len(self.correlation)

    @property
    def independent(self) -> bool:
        """Whether times are independent."""
        return not np.any(self.correlation[1:])

    @property
    def variance(self) -> Float[np.ndarray, "*sites"]:
        """Variance at the sites, the same at all times."""
        return self.spatial.variance.reshape(self.sites)

    @cached_property
    def times(self) -> Float[np.ndarray, "steps steps"]:
        """The Toeplitz matrix T."""
        return scipy.linalg.toeplitz(self.correlation)

    @cached_property
    def _times_root(self) -> Float[np.ndarray, "steps steps"]:
        """The lower Cholesky factor of T."""
        return np.linalg.cholesky(self.times)

    @double
    def covariance(self, m: ArrayLike) -> Float[np.ndarray, " ..."]:
        """The product Gamma m of an array (..., steps, *sites)."""
        return self._applied(self.act, m)

    @double
    def root(self, z: ArrayLike) -> Float[np.ndarray, " ..."]:
        """The product R z of an array (..., steps, *sites) with a square root, Gamma = R R^T."""
        return self._applied(self.act_root, z)

    def draws(self, count: int, seed: int = 0) -> Float[np.ndarray, "{count} steps *sites"]:
        """Samples from the prior."""
        shape = (count_of("count", count), self.steps, *self.sites)
        generator = np.random.default_rng(count_of("seed", seed, 0))
        return self.root(generator.standard_normal(shape))

    def act(self, x: Float[Array, "batch steps sites"]) -> Float[Array, "batch steps sites"]:
        """The product Gamma x, in JAX, with all sites along one axis."""
        out = self.spatial.covariance(x)
        return out if self.independent else jnp.einsum("ij,bjn->bin", self.times, out)

    def act_root(self, x: Float[Array, "batch steps sites"]) -> Float[Array, "batch steps sites"]:
        """The product R x, Gamma = R R^T, in JAX, with all sites along one axis."""
        out = self.spatial.root(x)
        return out if self.independent else jnp.einsum("ij,bjn->bin", self._times_root, out)

    def _applied(self, of: Callable[[Array], Array], given: ArrayLike) -> Float[np.ndarray, " ..."]:
        """A map of JAX arrays (batch, steps, sites), of an array (..., steps, *sites)."""
        array = real_array("prior", given)
        inner = (self.steps, *self.sites)
        if array.shape[-len(inner) :] != inner:
            raise DataError(f"prior: found shape {array.shape}, expected (..., {inner})")
        flat = jnp.asarray(array.reshape(-1, self.steps, int(np.prod(self.sites))))
        return np.asarray(of(flat)).reshape(array.shape)

    def weighted(self, weights: ArrayLike) -> SpaceTimePrior:
        """The prior with covariance W^(1/2) Gamma W^(1/2), W the diagonal matrix of weights of the
        sites.

        Sites of weight zero count as known: what they contribute to the data is taken for
        information about the others. For information about some sites while the others stay unknown
        see `given`.

        Raises
        ------
        DataError
            If weights are negative, all zero or of another shape.
        """
        array = finite_array("weights", weights)
        if array.shape != self.sites or np.any(array < 0) or not np.any(array):
            raise DataError(
                f"weights: expected {self.sites} values >= 0, not all zero, found {shown(weights)}"
            )
        return replace(self, spatial=self.spatial.scaled(np.sqrt(array.ravel())))

    @double
    def given(self, known: ArrayLike) -> SpaceTimePrior:
        """The prior conditional on m = 0 at some sites, at all times: with

            Gamma_s - Gamma_s w^T (w Gamma_s w^T)^-1 w Gamma_s

        in place of Gamma_s, w the rows of the identity for these sites.

        Parameters
        ----------
        known : array of bool, shape (*sites,)
            Mask of these sites.

        Raises
        ------
        ConfigError, DataError
            If none is known, or there are more than `matern.DENSE` sites.
        """
        mask: Bool[np.ndarray, "*sites"] = np.asarray(known)
        if mask.dtype != bool or mask.shape != self.sites or not mask.any():
            raise DataError(
                f"places: expected {self.sites} true or false, one true at least, found"
                f" {shown(known)}"
            )
        n = mask.size
        if n > DENSE:
            raise ConfigError(f"places: found {n}, expected {DENSE} or less to condition on some")
        matrix = np.asarray(self.spatial.covariance(jnp.eye(n)))
        at = np.flatnonzero(mask)
        root = factor("prior of the goal", matrix[np.ix_(at, at)], at.size)
        part = scipy.linalg.solve_triangular(root, matrix[at], lower=True)
        return replace(self, spatial=Matrix(matrix - part.T @ part))


def _box(space: ForcingSpace) -> Grid | None:
    """The grid of the sites if they are a rectangle of cells, else None."""
    grid = space.grid
    cells = np.unravel_index(space.sites.indices, grid.shape)
    shape = tuple(int(np.ptp(c)) + 1 for c in cells)
    if math.prod(shape) != space.sites.indices.size or min(shape) < 2:
        return None
    extent = tuple(n * h for n, h in zip(shape, grid.spacing, strict=True))
    return Grid(shape, extent)


def _deviations(sd: ArrayLike, sites: tuple[int, ...]) -> Float[np.ndarray, " sites"]:
    """Standard deviations of all sites, flat."""
    array = finite_array("prior.sd", sd)
    if array.ndim and array.shape != sites:
        raise DataError(f"prior.sd: found shape {array.shape}, expected {sites}")
    if not np.all(array > 0):
        raise DataError(f"prior.sd: found {np.min(array):g}, expected values > 0")
    return np.broadcast_to(array, sites).reshape(-1)
