"""Gaussian priors of a problem's controls; of fields, by an elliptic operator.

A field's covariance is that of the stochastic equation (Whittle 1954, Biometrika 41, 434; Lindgren,
Rue and Lindstroem 2011, J. R. Stat. Soc. B 73, 423)

    (1 / length^2 - Laplacian) x = white noise,    dx/dn = 0 on the boundary,

discretised as the package's `Smoothness`: a Matern covariance of smoothness 2 - d/2 in d
dimensions. In 2-D correlation falls with distance r as (r / length) K_1(r / length), K_1 the
modified Bessel function: to 0.60 at `length`, to 0.28 at twice that. Walls double the variance
beside them: x is divided by its own standard deviation, point by point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.fft import idctn

from ..control import BoundControl
from ..errors import ConfigError, DataError
from ..grid import CellSpace, Space

DENSE = 4000
"""Most faces of a boundary field: its modes are those of a dense matrix."""


@dataclass(frozen=True)
class FieldPrior:
    """theta ~ N(theta_0, sd^2 C), theta the transformed control (``ln m`` for transform "log") and
    theta_0 its start.

    Parameters
    ----------
    name : str
        The control.
    sd : float or array
        Standard deviation of theta, one or one a component, > 0.
    length : float, optional
        Correlation length, in the grid's unit of length: of a control with basis "field", which
        needs one. Components of other controls are independent.
    """

    name: str
    sd: Any
    length: float | None = None

    def bind(self, control: BoundControl) -> BoundPrior:
        """The prior on a control's grid.

        Raises
        ------
        ConfigError, DataError
            If a number is not positive, or there is a length too many or too few.
        """
        key = f"prior.{self.name}"
        try:
            sd = np.broadcast_to(np.asarray(self.sd, dtype=float), control.shape)
        except (TypeError, ValueError):
            raise ConfigError(
                f"{key}.sd: found {self.sd!r}, expected a number, or an array of {control.shape}"
            ) from None
        if not np.all(np.isfinite(sd) & (sd > 0)):
            raise DataError(f"{key}.sd: found {np.min(sd):g}, expected finite values > 0")
        if control.control.basis != "field":
            if self.length is not None:
                raise ConfigError(f"{key}.length: the control is not a field; leave it out")
            return BoundPrior(control, lambda x: jnp.asarray(sd) * x)
        length = self.length
        if isinstance(length, bool) or not isinstance(length, int | float | np.number):
            raise ConfigError(f"{key}.length: found {length!r}, expected a number > 0")
        if not 0 < length < np.inf:
            raise ConfigError(f"{key}.length: found {length:g}, expected a number > 0")
        values, field, squares = modes(control.space)
        amplitude = 1.0 / (length**-2.0 + values)
        scale = sd / np.sqrt(squares(amplitude**2))
        return BoundPrior(control, lambda x: jnp.asarray(scale) * field(jnp.asarray(amplitude) * x))


@dataclass(frozen=True)
class BoundPrior:
    """A `FieldPrior` of a control.

    Attributes
    ----------
    root : callable
        Of independent standard normal numbers, of theta's shape, to theta - theta_0; linear.
    """

    control: BoundControl
    root: Callable[[Any], Any]


def modes(
    space: Space,
) -> tuple[np.ndarray, Callable[[Any], Any], Callable[[np.ndarray], np.ndarray]]:
    """Eigenvalues of -Laplacian with dx/dn = 0; the field of given coefficients of its orthonormal
    eigenvectors; and the sum of their squares times given numbers, point by point."""
    if isinstance(space, CellSpace):
        grid = space.grid
        along = [
            (2.0 * np.sin(0.5 * np.pi * np.arange(n) / n) / h) ** 2
            for n, h in zip(grid.shape, grid.spacing, strict=True)
        ]
        values = sum(np.meshgrid(*along, indexing="ij"))

        def squares(weights: np.ndarray) -> np.ndarray:
            for axis, n in enumerate(grid.shape):
                basis = np.cos(np.pi * np.outer(np.arange(n) + 0.5, np.arange(n)) / n)
                square = basis**2 * np.where(np.arange(n) == 0, 1.0, 2.0) / n
                weights = np.moveaxis(np.tensordot(square, weights, (1, axis)), 0, axis)
            return weights

        return np.asarray(values), lambda x: idctn(x, norm="ortho"), squares
    if space.size > DENSE:
        raise ConfigError(
            f"prior: a boundary field of {space.size} faces, expected {DENSE} or less"
        )
    stiffness = jax.hessian(lambda x: 0.5 * space.dirichlet(x))(jnp.zeros(space.shape))
    values, vectors = np.linalg.eigh(np.asarray(stiffness) / space.measure)
    values = np.maximum(values, 0.0)
    return values, lambda x: jnp.asarray(vectors) @ x, lambda weights: vectors**2 @ weights
