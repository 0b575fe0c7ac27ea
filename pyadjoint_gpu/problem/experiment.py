"""Experiments: a model, what is known of it, and the data of its state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from ..core.checks import check_kind, check_mapping
from ..core.errors import ConfigError
from ..models.base import Fields, Model
from .control import BoundControl
from .likelihood import BoundLeastSquares, LeastSquares
from .part import Nuisance
from .traced import check_signature

Misfit = BoundLeastSquares | Callable[[Fields], Any]


@dataclass(frozen=True, eq=False)
class Experiment:
    """A model, its known parameters, and the misfit of its state.

    Parameters
    ----------
    model : Model
    misfit : LeastSquares or callable
        A callable takes the state, a dict of JAX arrays named as in the Dataset of `solve`
        (``pressure``, ``flux_x``, ...), and returns a number, by JAX operations.
    parameters : mapping, optional
        The known parameters: numbers, arrays, DataArrays or functions of the coordinates.

    Raises
    ------
    ConfigError
        If the model is none.
    """

    model: Model
    misfit: LeastSquares | Callable[[Fields], Any]
    parameters: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_kind("model", self.model, Model)

    def bind(self, controls: Sequence[BoundControl]) -> BoundExperiment:
        """The experiment checked, for a problem of these controls."""
        known = _known_parameters(self.model, controls, self.parameters or {})
        bound = BoundExperiment(self.model, known, _bound_misfit(self.model, self.misfit))
        _check_names(self.model, bound.nuisances)
        return bound


@dataclass(frozen=True, eq=False)
class BoundExperiment:
    """A checked `Experiment`: fields of the known parameters, and the misfit on the model."""

    model: Model
    known: dict[str, Float[np.ndarray, "*shape"]]
    misfit: Misfit

    @property
    def nuisances(self) -> tuple[Nuisance, ...]:
        """The unknowns of the data."""
        return self.misfit.nuisances if isinstance(self.misfit, BoundLeastSquares) else ()


def one_experiment(experiments: Mapping[str, Experiment] | None, **arguments: Any) -> Experiment:
    """The experiment of a problem, given as the `arguments` of `Experiment`, or by name.

    Raises
    ------
    ConfigError
        If it is given twice, or there are none or several.
    """
    if experiments is None:
        return Experiment(**arguments)
    for key, value in arguments.items():
        if value is not None:
            raise ConfigError(
                f"{key}: found beside experiments, expected in one of them,"
                " Experiment(model, misfit, parameters)"
            )
    check_mapping("experiments", experiments, "Experiments by name")
    for name, experiment in experiments.items():
        check_kind(f"experiments.{name}", experiment, Experiment)
    if len(experiments) != 1:
        names = ", ".join(map(repr, experiments)) or "none"
        raise ConfigError(f"experiments: found {names}; one is possible, expected one")
    return next(iter(experiments.values()))


def _known_parameters(
    model: Model, controls: Sequence[BoundControl], parameters: Mapping[str, Any]
) -> dict[str, Float[np.ndarray, "*shape"]]:
    """The fields of all parameters that are not controls."""
    check_mapping("parameters", parameters, "parameter fields by name")
    names = [c.name for c in controls]
    for name in parameters:
        if name in names:
            raise ConfigError(f"{name!r} is both a known parameter and a control")
    everything = model.fields({**parameters, **{c.name: c.initial for c in controls}})
    return {k: v for k, v in everything.items() if k not in names}


def _bound_misfit(model: Model, misfit: LeastSquares | Callable[[Fields], Any]) -> Misfit:
    """The misfit as a function of the state."""
    bound = misfit.bind(model) if isinstance(misfit, LeastSquares) else misfit
    if not callable(bound):
        raise ConfigError(
            f"misfit: found {type(misfit).__name__}, expected LeastSquares(observations) or a"
            " function of the state"
        )
    check_signature("misfit", bound)
    return bound


def _check_names(model: Model, nuisances: Sequence[Nuisance]) -> None:
    """Raise a `ConfigError` if a result would have two variables of a nuisance's name."""
    for name in (n.name for n in nuisances):
        if name in model.observables or name in (p.name for p in model.parameters):
            raise ConfigError(
                f"misfit.noise: a result has a variable {name!r} of its own, like a field of model"
                f" {model.name!r}; rename that"
            )
