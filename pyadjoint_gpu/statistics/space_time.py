"""Gaussian priors of forcings in space and time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike

from ..core.checks import count as count_of
from ..core.checks import finite_array, positive, real_array
from ..core.errors import ConfigError, DataError, shown
from ..core.grid import Grid
from ..core.pickling import AsGiven
from ..core.precision import double
from ..core.spaces import CellSpace, Space
from ..models.forcing import ForcingSpace
from .matern import DENSE, MaternField
from .observed import factor


class Spatial(Protocol):
    """A spatial covariance Gamma_s of n sites, with a square root R, Gamma_s = R R^T, both applied
    to JAX arrays (..., n)."""

    @property
    def variance(self) -> np.ndarray: ...
    def covariance(self, x: jax.Array) -> jax.Array: ...
    def root(self, z: jax.Array) -> jax.Array: ...
    def scaled(self, factor: np.ndarray) -> Spatial:
        """The covariance factor Gamma_s factor, `factor` a diagonal matrix."""
        ...

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays from which `restored` makes it again."""
        ...


@dataclass(frozen=True, eq=False)
class Matrix(AsGiven):
    """A spatial covariance given as a matrix, of shape (n, n)."""

    matrix: np.ndarray

    @property
    def variance(self) -> np.ndarray:
        return np.diag(self.matrix)

    def covariance(self, x: jax.Array) -> jax.Array:
        return x @ jnp.asarray(self.matrix, x.dtype)

    def root(self, z: jax.Array) -> jax.Array:
        return z @ jnp.asarray(self._root, z.dtype)

    @cached_property
    def _root(self) -> np.ndarray:
        """The symmetric square root, which singular covariances (given some sites) have too."""
        values, vectors = scipy.linalg.eigh(self.matrix)
        return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T

    def scaled(self, factor: np.ndarray) -> Matrix:
        return Matrix(factor[:, None] * self.matrix * factor)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"matrix": self.matrix}


@dataclass(frozen=True, eq=False)
class Cells(AsGiven):
    """A Matern field on a rectangle of cells, by cosine transforms."""

    grid: Grid
    sd: np.ndarray
    length: float

    @cached_property
    def _field(self) -> MaternField:
        return MaternField(CellSpace(self.grid), self.length)

    @property
    def variance(self) -> np.ndarray:
        return self.sd**2

    def covariance(self, x: jax.Array) -> Any:
        return self.sd * self._covariance(self.sd * x)

    def root(self, z: jax.Array) -> Any:
        return self.sd * self._root(z)

    @cached_property
    def _covariance(self) -> Callable[[Any], jax.Array]:
        field = self._field
        return self._each(lambda x: field.root(field.root_transposed(x)))

    @cached_property
    def _root(self) -> Callable[[jax.Array], jax.Array]:
        return self._each(self._field.root)

    def _each(self, of: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
        """`of` compiled, for arrays (..., n)."""

        def all_of(x: jax.Array) -> jax.Array:
            fields = jnp.reshape(x, (-1, *self.grid.shape))
            return jnp.reshape(jax.vmap(of)(fields), x.shape).astype(x.dtype)

        return jax.jit(all_of)

    def scaled(self, factor: np.ndarray) -> Cells:
        return replace(self, sd=self.sd * factor)

    def arrays(self) -> dict[str, np.ndarray]:
        grid = self.grid
        return {
            "grid": np.array([grid.shape, grid.extent], dtype=float),
            "sd": self.sd,
            "length": np.array(self.length),
        }


def restored(arrays: dict[str, np.ndarray]) -> Spatial:
    """The spatial covariance whose `Spatial.arrays` are given."""
    if "matrix" in arrays:
        return Matrix(arrays["matrix"])
    shape, extent = arrays["grid"]
    grid = Grid(tuple(int(n) for n in shape), tuple(extent))
    return Cells(grid, arrays["sd"], float(arrays["length"]))


@dataclass(frozen=True, eq=False)
class SpaceTimePrior(AsGiven):
    """Gaussian prior m ~ N(0, T (x) Gamma_s), m of shape (steps, *sites): Gamma_s correlates sites,
    the Toeplitz matrix T times.

    Made by `matern`, or by `of` from a matrix.

    Attributes
    ----------
    spatial : Spatial
    sites : tuple of int
    correlation : array, shape (steps,)
        The first column of T, which begins with 1: (1, 0, 0, ...) where times are independent.
    """

    spatial: Spatial
    sites: tuple[int, ...]
    correlation: np.ndarray

    @classmethod
    @double
    def matern(
        cls, space: Space, sd: ArrayLike, length: float | None, duration: float | None = None
    ) -> SpaceTimePrior:
        """A Matern field by an elliptic operator (`matern`), independent from one interval of the
        forcing to the next, or correlated as exp(-|t - t'| / duration).

        Parameters
        ----------
        space : ForcingSpace
            The space of the model's parameter: ``model.space("source")``.
        sd : float or array, shape (*sites,)
            Standard deviation of every value, > 0.
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
        correlation = np.zeros(space.count)
        correlation[0] = 1.0
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
        return len(self.correlation)

    @property
    def independent(self) -> bool:
        """Whether times are independent."""
        return not np.any(self.correlation[1:])

    @property
    def variance(self) -> np.ndarray:
        """Variance at the sites, at any time; of shape (*sites,)."""
        return self.spatial.variance.reshape(self.sites)

    @cached_property
    def times(self) -> np.ndarray:
        """T, of shape (steps, steps)."""
        return scipy.linalg.toeplitz(self.correlation)

    @cached_property
    def _times_root(self) -> np.ndarray:
        return np.linalg.cholesky(self.times)

    @double
    def covariance(self, m: ArrayLike) -> np.ndarray:
        """The product Gamma m, of an array (..., steps, *sites)."""
        return self._applied(lambda x: self.act(x), m)

    @double
    def root(self, z: ArrayLike) -> np.ndarray:
        """The product R z of an array (..., steps, *sites) with a square root, Gamma = R R^T."""
        return self._applied(lambda x: self.act_root(x), z)

    def draws(self, count: int, seed: int = 0) -> np.ndarray:
        """Samples, of shape (count, steps, *sites)."""
        shape = (count_of("count", count), self.steps, *self.sites)
        generator = np.random.default_rng(count_of("seed", seed, 0))
        return self.root(generator.standard_normal(shape))

    def act(self, x: jax.Array) -> jax.Array:
        """The product Gamma x, of shape (batch, steps, n), in JAX."""
        out = self.spatial.covariance(x)
        return out if self.independent else jnp.einsum("ij,bjn->bin", self.times, out)

    def act_root(self, x: jax.Array) -> jax.Array:
        """The product R x, Gamma = R R^T, of shape (batch, steps, n), in JAX."""
        out = self.spatial.root(x)
        return out if self.independent else jnp.einsum("ij,bjn->bin", self._times_root, out)

    def _applied(self, of: Callable[[jax.Array], jax.Array], given: ArrayLike) -> np.ndarray:
        array = real_array("prior", given)
        inner = (self.steps, *self.sites)
        if array.shape[-len(inner) :] != inner:
            raise DataError(f"prior: found shape {array.shape}, expected (..., {inner})")
        flat = jnp.asarray(array.reshape(-1, self.steps, int(np.prod(self.sites))))
        return np.asarray(of(flat)).reshape(array.shape)

    def weighted(self, weights: ArrayLike) -> SpaceTimePrior:
        """The prior with covariance W^(1/2) Gamma W^(1/2), W the diagonal matrix of the sites'
        weights.

        Sites of weight zero count as known: their share of the data is taken for information about
        the others. For what the data say of some sites while the others stay unknown see `given`.

        Raises
        ------
        DataError
            If weights are negative or of another shape.
        """
        array = finite_array("weights", weights)
        if array.shape != self.sites or np.any(array < 0) or not np.any(array):
            raise DataError(
                f"weights: expected {self.sites} values >= 0, not all zero, found {shown(weights)}"
            )
        return replace(self, spatial=self.spatial.scaled(np.sqrt(array.ravel())))

    @double
    def given(self, known: ArrayLike) -> SpaceTimePrior:
        """The prior conditional on m = 0 at some sites, at all times, with

            Gamma_s - Gamma_s w^T (w Gamma_s w^T)^-1 w Gamma_s

        in place of Gamma_s, w the rows of the identity for these sites.

        Parameters
        ----------
        known : array of bool, shape (*sites,)

        Raises
        ------
        ConfigError, DataError
            If none is known, or there are more than `matern.DENSE` sites.
        """
        mask = np.asarray(known)
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
    """The grid of the sites, where they are a rectangle of cells."""
    grid = space.grid
    cells = np.unravel_index(space.sites.indices, grid.shape)
    shape = tuple(int(np.ptp(c)) + 1 for c in cells)
    if math.prod(shape) != space.sites.indices.size or min(shape) < 2:
        return None
    extent = tuple(n * h for n, h in zip(shape, grid.spacing, strict=True))
    return Grid(shape, extent)


def _deviations(sd: ArrayLike, sites: tuple[int, ...]) -> np.ndarray:
    """Standard deviations of all sites, flat."""
    array = finite_array("prior.sd", sd)
    if array.ndim and array.shape != sites:
        raise DataError(f"prior.sd: found shape {array.shape}, expected {sites}")
    if not np.all(array > 0):
        raise DataError(f"prior.sd: found {np.min(array):g}, expected values > 0")
    return np.broadcast_to(array, sites).reshape(-1)
