"""Controls: the parameters that an inversion recovers."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from ..core.checks import as_text, check_choice, check_kind, number
from ..core.errors import ConfigError, shown
from ..core.frozen import Frozen
from ..core.spaces import Space
from ..core.texts import sizes, span
from ..models.base import Model
from ..results.dataset import layout
from ..statistics.densities import BoundPrior
from ..statistics.priors import Matern, Prior, Uniform
from .part import Part, Transformation


@dataclass(frozen=True, eq=False, repr=False)
class Control(Frozen):
    """A parameter to be recovered.

    The optimiser works with theta, the model with m = T(B theta), where B expands theta in a basis
    and T is a transform with the inverse

        identity: T^-1(m) = m,   log: T^-1(m) = ln m,   logistic: T^-1(m) = ln((m - a) / (b - m)),

    (a, b) the bounds.

    Parameters
    ----------
    name : str
        A parameter of the model.
    initial : number, array, DataArray, plane or function, optional
        Start, in physical units (see `Space.fill`); by default the model's, if it has one.
    bounds : (float, float), optional
        In physical units: box constraints of the optimiser, or the limits of "logistic".
    transform : {"identity", "log", "logistic"}
    basis : {"field", "constant", "plane"}
        One value a cell (or boundary face); one value for all; or the value in the middle of the
        grid and the change from there to the end of each axis.
    truth : number, array, DataArray or function, optional
        The field behind synthetic data, if known: carried to the results for comparison.
    prior : Prior, optional
        Prior of theta, whose negative log density is a part of J: ``Matern(sd=1.0, length=0.2)`` of
        a field, ``Independent(sd=1.0)`` of the numbers of another basis, `Uniform` between bounds.
        Its mean is the control's start unless it says otherwise.

    Raises
    ------
    ConfigError
        If an option has no such value, or the bounds or prior do not suit the transform and basis.
    """

    name: str
    initial: Any = None
    _: KW_ONLY
    bounds: tuple[float, float] | None = None
    transform: str = "identity"
    basis: str = "field"
    truth: Any = None
    prior: Prior | None = None

    def __post_init__(self) -> None:
        key = f"controls.{as_text(self.name, 'control name')}"
        if self.prior is not None:
            check_kind(f"{key}.prior", self.prior, Prior, ", such as Matern(sd=1.0, length=0.2)")
        if isinstance(self.prior, Uniform):
            self._set(**_uniform(key, self, self.prior))
        check_choice(f"{key}.transform", self.transform, ("identity", "log", "logistic"))
        check_choice(f"{key}.basis", self.basis, ("field", "constant", "plane"))
        if self.bounds is None:
            if self.transform == "logistic":
                raise ConfigError(f"{key}.bounds: transform 'logistic' needs (low, high)")
            return
        try:
            low, high = (number(b) for b in self.bounds)
        except (TypeError, ValueError):
            raise ConfigError(
                f"{key}.bounds: found {self.bounds!r}, expected two numbers"
            ) from None
        if not low < high:
            raise ConfigError(f"{key}.bounds: found {self.bounds!r}, expected low < high")
        if self.transform == "log" and low <= 0:
            raise ConfigError(f"{key}.bounds: found {low:g}, expected > 0 under transform 'log'")
        if self.basis == "plane" and self.transform != "logistic":
            raise ConfigError(f"{key}.bounds: a plane takes bounds only with transform 'logistic'")

    def __repr__(self) -> str:
        """The call that makes it, with arrays by their shapes."""
        given = [repr(self.name)]
        for name in ("initial", "bounds", "transform", "basis", "truth", "prior"):
            value = getattr(self, name)
            usual = isinstance(value, str) and value == getattr(type(self), name)
            if value is not None and not usual:
                given.append(f"{name}={shown(value)}")
        return f"Control({', '.join(given)})"


def _uniform(key: str, control: Control, prior: Uniform) -> dict[str, Any]:
    """The bounds and transform of a control with a uniform prior."""
    given = None if prior.low is None and prior.high is None else (prior.low, prior.high)
    if given is not None and control.bounds is not None and tuple(control.bounds) != given:
        raise ConfigError(
            f"{key}.prior: found bounds {given} beside the control's own, {control.bounds}"
        )
    if control.transform == "log" or control.basis == "plane":
        what = f"transform {control.transform!r}" if control.transform == "log" else "a plane"
        raise ConfigError(f"{key}.prior: Uniform needs transform 'logistic', found {what}")
    return {"bounds": given or control.bounds, "transform": "logistic"}


class BoundControl(Part):
    """A `Control` on a model.

    Attributes
    ----------
    control : Control
    space : Space
        Where its physical field lives.
    prior_mean : array or None
        The physical field in the middle of the prior, where it has its own.

    Raises
    ------
    ConfigError, DataError
        If the model has no such parameter, or the start or truth cannot be used.
    """

    def __init__(self, control: Control, model: Model):
        self.control, self._model = control, model
        self.name = name = control.name
        self.parameter = parameter = model.parameter(name)
        self.space: Space = model.space(name)
        self.field_dims, self.coordinates = layout(model)[name]
        start = parameter.default if control.initial is None else control.initial
        if start is None:
            raise ConfigError(f"controls.{name}.initial is missing")
        if (
            parameter.positive
            and control.transform == "identity"
            and (control.bounds is None or control.bounds[0] <= 0)
        ):
            raise ConfigError(
                f"controls.{name}: {name} must stay positive; use transform 'log', or bounds"
                " with low > 0"
            )
        self.initial = model.field(name, start, f"controls.{name}.initial")
        if control.truth is not None:
            self.truth = model.field(name, control.truth, f"controls.{name}.truth")
        box, slopes = model.domain, list[Float[np.ndarray, "*shape"]]()
        if control.basis == "plane":
            for p, o, e in zip(self.space.positions(), box.origin, box.extent, strict=True):
                slopes.append(2.0 * (p - (o + 0.5 * e)) / e)
        self.physical = Transformation(
            control.bounds, slopes, control.transform, control.basis, self.space.shape
        )
        _ = self.theta  # refuse a start without one now
        if control.transform == "identity":
            self.typical = float(np.sqrt(np.mean(np.square(self.initial)))) or 1.0
        self.prior_mean: Float[np.ndarray, "*shape"] | None = None
        if control.prior is not None:
            given = control.prior.mean
            if given is not None:
                self.prior_mean = model.field(name, given, f"controls.{name}.prior.mean")
            self.prior = self._bound(control.prior)

    def field(self, value: Any) -> Float[np.ndarray, "*shape"]:
        return self._model.field(self.name, value)

    def _bound(self, prior: Prior) -> BoundPrior:
        """A prior on the space of theta, with its mean transformed."""
        key = f"controls.{self.name}.prior"
        mean = self.initial if self.prior_mean is None else self.prior_mean
        if self.control.basis != "field" and isinstance(prior, Matern):
            raise ConfigError(
                f"{key}: Matern is of a field, found basis {self.control.basis!r}; take Independent"
            )
        return prior.on(
            self.space if self.control.basis == "field" else self.shape,
            mean=self.coefficients(mean),
            units=self.units,
            where=key,
        )

    def __getstate__(self) -> dict[str, Any]:
        """The state with values for functions that give the start or the truth, which pickle may
        not be able to name."""
        known = {"initial": self.initial, "truth": self.truth}
        called: dict[str, Any] = {
            k: v for k, v in known.items() if callable(getattr(self.control, k))
        }
        prior = self.control.prior
        if prior is not None and callable(prior.mean):
            called["prior"] = replace(prior, mean=self.prior_mean)
        return self.__dict__ | {"control": replace(self.control, **called)}

    def __repr__(self) -> str:
        """The parameter, its size, transform, bounds and start, on one line."""
        control = self.control
        what = sizes(self.space.shape) if control.basis == "field" else control.basis
        said = [f"{self.name} [{self.parameter.units}]: {what}"]
        said += [control.transform] if control.transform != "identity" else []
        if control.bounds is not None:
            said.append(f"bounds {control.bounds[0]:g} to {control.bounds[1]:g}")
        said += [] if control.prior is None else [f"prior {control.prior!r}"]
        return ", ".join([*said, f"starts at {span(self.initial)}"])
