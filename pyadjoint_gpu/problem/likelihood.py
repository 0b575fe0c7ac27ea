"""Misfits of data: weighted least squares, on any model and on a given one."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import KW_ONLY, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from ..core.errors import ConfigError, DataError, nearest, shown
from ..core.precision import AnyArray, fused
from ..core.texts import counted, sizes, span
from ..models.base import Fields, Model, Variable
from ..results.dataset import MISSING, named
from ..statistics.bound_noise import Errors, IndependentNoise, bound, scaled, seen, select
from ..statistics.noise import Noise
from ..statistics.priors import Independent
from . import columns
from .cell_methods import cell_methods
from .observation import Observation
from .part import Nuisance
from .support import Support

NOISE_SCALE = Variable("noise_scale", "1", "scale of the noise")
"""s, by which the standard deviations of the data are to be multiplied."""


@dataclass(eq=False, repr=False)
class LeastSquares:
    """Weighted least squares of observations at points, or over boxes,

        J = 1/2 sum_k w_k ((predicted_k - observed_k) / sigma_k)^2,

    or for noise with any covariance Sigma = L L^T

        J = 1/2 |L^-1 (predicted - observed)|^2,

    where predicted_k is the state interpolated (multi)linearly between the points where it lives
    (cell centres, or faces for fluxes) and constant beyond the outermost ones, or its mean or
    integral over intervals (see `Observation`); w_k = 1 unless given, else Sigma_kl is divided by
    the root of w_k w_l. Of n data whose noise has an unknown scale s,

        J = 1/2 |L^-1 (predicted - observed)|^2 / s^2 + n ln s,

    and ln s is an unknown of the problem, after its controls, under the name ``noise_scale``.

    Parameters
    ----------
    observations : Dataset
        One-dimensional (``observation``), with a coordinate for every axis of the grid and a
        variable that has the name of an unknown of the model, or of another field of its state; or
        a map, whose dimensions are these coordinates. Values in other units are converted. A
        coordinate may name its bounds, ``bounds="x_bounds"``, of shape (n, 2); the variable then
        has ``cell_methods``: ``"x: y: mean"`` for averages over boxes, ``"time: mean"`` over spans
        of time, ``"x: y: sum"`` for integrals, whose units are multiplied by those of the axes.
        ``<variable>_sigma`` are the standard deviations of the errors, ``<variable>_weight`` the
        w_k. A value that is NaN or masked, or has an infinite sigma or a weight of zero, is not
        observed. Texts along the dimension (names of wells) are carried to the results.
    variable : str, optional
        Name of the observed variable in the Dataset, if there are several.
    observes : str, optional
        Name of the observed field of the state, if the variable is called differently.
    sigma : float or array, optional
        Standard deviation of the errors, in the units of the variable unless it states others; by
        default the variable ``<variable>_sigma``.
    noise : Noise, optional
        In place of `sigma` the `Noise` of the data, which may be correlated: in time between data
        at the same point, or by any covariance, or have an unknown scale.

    Raises
    ------
    ConfigError, DataError
        If both `sigma` and `noise` are given. On binding to a model: if a variable or coordinate is
        missing or not one-dimensional, the model has no field of its name, nothing is observed, a
        sigma is not positive, a covariance not positive definite, a unit cannot be converted, a
        point or box lies outside the grid, or no ``cell_methods`` say what bounds mean.
    """

    observations: xr.Dataset
    _: KW_ONLY
    variable: str | None = None
    observes: str | None = None
    sigma: float | Float[np.ndarray, " ..."] | None = None
    noise: Noise | ArrayLike | None = None

    def __post_init__(self) -> None:
        columns.check_dataset(self.observations)
        if self.sigma is not None and self.noise is not None:
            raise ConfigError("noise: found beside sigma, expected one of them")

    def __repr__(self) -> str:
        """The call that makes it, with data by their sizes."""
        names = ", ".join(map(str, self.observations)) or "nothing"
        given = [f"{names} ({sizes(self.observations.sizes.values())})"]
        for name in ("variable", "observes", "sigma", "noise"):
            value = getattr(self, name)
            given += [] if value is None else [f"{name}={shown(value)}"]
        return f"LeastSquares({', '.join(given)})"

    def bind(self, model: Model) -> BoundLeastSquares:
        """The misfit on a model's grid, in the model's units."""
        data = self.observations
        observed, name = self._observed(model)
        if data[name].ndim > 1:
            points = columns.listed(data, name, model.dims)
            sigma = columns.listed_sigma(data, name, self.sigma)
            noise = self.noise
            if noise is not None:
                noise = Noise.of(noise).each(lambda sd: columns.listed_sigma(data, name, sd))
            return LeastSquares(
                points, variable=name, observes=observed, sigma=sigma, noise=noise
            ).bind(model)
        values = columns.vector(data, name)
        if not values.size:
            raise DataError(f"observations: {name!r} is empty, expected at least one value")
        support = columns.support(data, name, model)
        of = support.measured(model.observables[observed][0])
        how = columns.to_model(data, name, of)
        noise = None if self.noise is None else Noise.of(self.noise)
        if noise is None:
            errors: Errors = columns.sigmas(data, name, self.sigma, of.units)
        else:
            layout = support.layout(of.units)
            errors = columns.noise_errors(data, name, noise.unscaled, layout)
        used = seen(values, errors)
        if not np.any(used):
            raise DataError(
                f"observations: none of {values.size} values of {name!r} is observed (each"
                " missing, of sigma inf or NaN, or of weight 0), expected at least one finite value"
            )
        values, errors, support = values[used], select(errors, used), support[used]
        numbers = np.flatnonzero(used)
        positions = dict(zip(model.dims, support.points.T, strict=True))
        columns.check_finite({name: values} | positions, numbers)
        support.check(model, "observation", numbers)
        return BoundLeastSquares(
            model,
            observed,
            support,
            how(values),
            scaled(errors, how.difference(1.0)),
            labels={k: v[used] for k, v in columns.labels(data, data[name].dims[0]).items()},
            missing=int(np.count_nonzero(~used) + data.attrs.get(MISSING, 0)),
            scale=noise and noise.scale,
        )

    @property
    def units(self) -> dict[str, str]:
        """Units that the data state, by the field of the state that they may belong to; those of
        integrals are not the field's."""
        names = self.observations.data_vars if self.variable is None else [self.variable]
        if self.observes is not None:
            names = [self.variable or self.observes]
        found = {n: self.observations[n] for n in names if n in self.observations}
        stated = {
            n: data.attrs.get("units")
            for n, data in found.items()
            if "sum" not in cell_methods("observations", data).values()
        }
        return {self.observes or str(n): u for n, u in stated.items() if u is not None}

    def _observed(self, model: Model) -> tuple[str, str]:
        """Names of the observed field of the state, and of its variable in the Dataset."""
        found = sorted(map(str, self.observations.data_vars))
        able, name = model.observables, self.variable
        if self.observes is not None and self.observes not in able:
            raise ConfigError(
                f"observes: {self.observes!r} is not a field of model {model.name!r}"
                + nearest(str(self.observes), able)
            )
        if name is None:
            wanted = list(able) if self.observes is None else [self.observes]
            matches = [n for n in wanted if n in self.observations]
            if len(matches) != 1 and self.observes is None:  # unknowns before outputs
                matches = [u.name for u in model.unknowns if u.name in self.observations]
            if len(matches) != 1:
                raise DataError(
                    f"observations: found variables {', '.join(found) or 'none'},"
                    f" expected one of {', '.join(wanted)} (or name the variable)"
                )
            name = matches[0]
        elif name not in self.observations:
            raise DataError(f"observations: no variable {name!r}{nearest(str(name), found)}")
        observed = name if self.observes is None else self.observes
        if observed not in able:
            raise DataError(
                f"observations: {name!r} is not a field of model {model.name!r}"
                f"{nearest(name, able)}; or name the field: observes={model.unknowns[0].name!r}"
            )
        return observed, name


@jax.tree_util.register_pytree_node_class
class BoundLeastSquares:
    """`LeastSquares` on a model's grid: the negative log density of Gaussian errors, up to the
    constant of the noise.

    It is a pytree; compiled code sees the observation operator, the data and the noise.

    Parameters
    ----------
    model : Model
    observed : str
        Name of the observed field of the state.
    support : Support
        In the units of the model's domain and times.
    values : array, shape (n,)
        Data, in the model's units.
    errors : array, shape (n,), or csr_array, shape (n, n)
        Their standard deviations, or their covariance, with the weights, in the model's units.
    labels : dict of array of str
        Texts along the data, such as names of wells.
    missing : int
        Number of missing values, which are not among the data.
    scale : Independent, optional
        Prior of ln s, where the scale s of the noise is unknown.

    Attributes
    ----------
    nuisances : tuple of Nuisance
        The unknowns of the data, which come after the controls in theta.
    """

    def __init__(
        self,
        model: Model,
        observed: str,
        support: Support,
        values: Float[np.ndarray, " n"],
        errors: Errors,
        *,
        labels: Mapping[str, np.ndarray] | None = None,
        missing: int = 0,
        scale: Independent | None = None,
    ):
        self.model = model
        self.variable = support.measured(model.observables[observed][0])
        self.support = support
        self.observed = values
        self.errors = errors
        self.noise = bound(errors, "noise", support.times)
        self.labels = dict(labels or {})
        self.missing = missing
        self.scale = scale
        self.nuisances = () if scale is None else (Nuisance(NOISE_SCALE, scale, "noise.scale"),)
        # ln s where s is unknown: that of the errors as given, until `at` others.
        self.log_scale: Float[Array | np.ndarray, ""] | float | None
        self.log_scale = None if scale is None else 0.0
        self.observation = Observation.at(model, observed, support)

    def __repr__(self) -> str:
        """The observed field and the data's size and range, on one line."""
        of = self.variable
        missing = f", {self.missing} more missing" if self.missing else ""
        correlated = "" if isinstance(self.noise, IndependentNoise) else " (correlated)"
        scale = "" if self.scale is None else f" times s, ln s of prior {self.scale!r}"
        return (
            f"least squares of {counted(self.size, 'value')} of {of.name} [{of.units}],"
            f" {span(self.observed)}, sigma {span(self.sigma)}{correlated}{scale}{missing}"
        )

    @property
    def size(self) -> int:
        """Number of data."""
        return len(self.observed)

    @property
    def sigma(self) -> Float[np.ndarray, " n"]:
        """Standard deviations of the data, divided by the roots of the weights."""
        return np.asarray(self.noise.sd) * np.exp(self.log_scale or 0.0)

    def at(self, parts: Fields) -> BoundLeastSquares:
        """The misfit at the nuisances among the parts of theta: sigma multiplied by the scale."""
        if self.log_scale is None:
            return self
        out = copy(self)
        out.log_scale = parts[NOISE_SCALE.name]
        return out

    def information(self) -> dict[str, float]:
        """The Fisher information of the nuisances: 2 n of ln s, without mixed terms. It is the mean
        of the Hessian, 2 |w|^2 / s^2, over data with the noise."""
        return {} if self.log_scale is None else {NOISE_SCALE.name: 2.0 * self.size}

    def chi2(self, misfit: float) -> float:
        """|w|^2 / n of the whitened residual w, of a misfit at these nuisances."""
        return 2.0 * misfit / self.size - 2.0 * float(self.log_scale or 0.0)

    def predict(self, state: Fields) -> Float[Array, " n"]:
        """The data that the state would give."""
        return self.observation(state)

    def __call__(self, state: Fields) -> Float[Array, ""]:
        return self._misfit(self.observation.field(state))

    def whitened(self, state: Fields) -> Float[Array, " n"]:
        """The residual L^-1 (observed - predicted) / s: independent, of variance one, if state and
        noise are right."""
        return self._whitened(self.observation.field(state))

    @fused
    def _misfit(self, field: Float[AnyArray, " *shape"]) -> Float[Array, ""]:
        white = 0.5 * jnp.sum(jnp.square(self._whitened(field)))
        return white if self.log_scale is None else white + self.size * self.log_scale

    @fused
    def _whitened(self, field: Float[AnyArray, " *shape"]) -> Float[Array, " n"]:
        white = jnp.asarray(self.noise.whiten(self.observed - self.observation.of_field(field)))
        return white if self.log_scale is None else white * jnp.exp(-self.log_scale)

    def tree_flatten(self) -> tuple[tuple[Any, ...], None]:
        return (self.observation, self.observed, self.noise, self.log_scale), None

    @classmethod
    def tree_unflatten(cls, _: None, arrays: tuple[Any, ...]) -> BoundLeastSquares:
        out = object.__new__(cls)
        out.observation, out.observed, out.noise, out.log_scale = arrays
        return out

    def dataset(self) -> xr.Dataset:
        """The data in the form that `LeastSquares` reads."""
        name = self.variable.name
        sigma = named(f"standard deviation of {name}", self.variable.units)
        attributes = self.variable.attributes | self.support.attributes()
        return xr.Dataset(
            {
                name: ("observation", self.observed, attributes),
                f"{name}_sigma": ("observation", self.sigma, sigma),
            },
            self.support.coordinates() | self.label_coordinates(),
            {MISSING: self.missing} if self.missing else None,
        )

    def label_coordinates(self) -> dict[str, Any]:
        """The labels as coordinates along ``observation``, as a Dataset takes them."""
        labels = self.labels.items()
        return {k: ("observation", v, named(k.replace("_", " "))) for k, v in labels}
