"""The parts of a problem, checked and bound to its model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from ..core.checks import check_kind, check_mapping
from ..core.errors import ConfigError, nearest
from ..models.base import Fields, Model
from ..statistics.densities import BoundPrior
from .control import BoundControl, Control
from .likelihood import BoundLeastSquares, LeastSquares
from .objective import Shapes, UserFunction
from .part import Nuisance, Part
from .penalty import BoundSmoothness, Smoothness, smoothness_prior
from .traced import check_signature
from .whiten import JointPrior

Misfit = BoundLeastSquares | Callable[[Fields], Any]
Penalty = Smoothness | Callable[[Fields], Any]
BoundPenalty = BoundSmoothness | Callable[[Fields], Any]


def bound_controls(model: Model, controls: Control | Sequence[Control]) -> tuple[BoundControl, ...]:
    """The controls on the model, each under a name of its own."""
    given = [controls] if isinstance(controls, Control | str) else controls
    check_kind("controls", given, Sequence, " of Controls")
    for control in given:
        check_kind("controls", control, Control, " or a sequence of them")
    if not given:
        raise ConfigError("controls: none is given, expected at least one")
    names = [c.name for c in given]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"controls: {name!r} is given twice")
    of_results = {f"{n}_{s}" for n in names for s in ("initial", "gradient", "true")}
    for p in model.parameters:
        if p.name in of_results:
            raise ConfigError(
                f"controls: a result has a variable {p.name!r} of its own, like a parameter of"
                f" model {model.name!r}; rename that"
            )
    return tuple(BoundControl(c, model) for c in given)


def known_parameters(
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


def bound_misfit(model: Model, misfit: LeastSquares | Callable[[Fields], Any]) -> Misfit:
    """The misfit as a function of the state."""
    bound = misfit.bind(model) if isinstance(misfit, LeastSquares) else misfit
    if not callable(bound):
        raise ConfigError(
            f"misfit: found {type(misfit).__name__}, expected LeastSquares(observations) or a"
            " function of the state"
        )
    check_signature("misfit", bound)
    return bound


def bound_nuisances(model: Model, misfit: Misfit) -> tuple[Nuisance, ...]:
    """The unknowns of the data, under names that the model does not have."""
    found = misfit.nuisances if isinstance(misfit, BoundLeastSquares) else ()
    for name in (n.name for n in found):
        if name in model.observables or name in (p.name for p in model.parameters):
            raise ConfigError(
                f"misfit.noise: a result has a variable {name!r} of its own, like a field of model"
                f" {model.name!r}; rename that"
            )
    return found


def all_penalties(penalty: Penalty | Sequence[Penalty]) -> tuple[Penalty, ...]:
    """The penalties of one or a sequence of them."""
    if callable(penalty) or isinstance(penalty, Smoothness):
        return (penalty,)
    also = " of Smoothness(name, weight, length) and functions of the transformed controls"
    check_kind("penalty", penalty, Sequence, also)
    return tuple(penalty)


def bound_penalty(controls: Sequence[BoundControl], penalty: Penalty) -> BoundPenalty:
    """A penalty as a function of the transformed controls."""
    if isinstance(penalty, Smoothness):
        for control in controls:
            if control.name == penalty.name:
                return penalty.bind(control)
        raise ConfigError(
            f"penalty: {penalty.name!r} is not a control"
            + nearest(penalty.name, [c.name for c in controls])
        )
    if not callable(penalty):
        raise ConfigError(
            f"penalty: found {type(penalty).__name__}, expected Smoothness(name, weight,"
            " length) or a function of the transformed controls"
        )
    check_signature("penalty", penalty)
    return penalty


def joint_prior(
    parts: Sequence[Part], penalties: Sequence[BoundPenalty], shapes: Shapes
) -> JointPrior:
    """The density of all parts of theta, by their priors or `Smoothness`.

    Raises
    ------
    ConfigError
        If a control has neither, or both, or there is a penalty that is a user's function.
    """
    for p in penalties:
        if not isinstance(p, BoundSmoothness):
            raise ConfigError(
                f"penalty: {getattr(p, '__name__', type(p).__name__)!r} is a function, which"
                " has no known normaliser as a density; state it as the prior of a control"
            )
    return JointPrior({c.name: _prior(c, penalties) for c in parts}, shapes)


def _prior(control: Part, penalties: Sequence[BoundPenalty]) -> BoundPrior:
    """The density of a control: its prior, or that of its `Smoothness`."""
    smooth = [p for p in penalties if isinstance(p, BoundSmoothness) and p.name == control.name]
    key = f"controls.{control.name}.prior"
    if control.prior is not None and smooth:
        raise ConfigError(
            f"{key}: found a prior and a penalty, whose product has no known normaliser; leave"
            " one of them out"
        )
    if control.prior is None and not smooth:
        raise ConfigError(
            f"{key} is missing: Matern(sd=1.0, length=...) for a field, Independent(sd=1.0) for"
            " other bases, Uniform() between bounds"
        )
    if control.prior is not None:
        return control.prior
    assert isinstance(control, BoundControl)  # nuisances have priors
    return smoothness_prior(control, smooth)


def misfit_pytree(misfit: Misfit) -> BoundLeastSquares | UserFunction:
    """A misfit as a part of an `Objective`."""
    return misfit if isinstance(misfit, BoundLeastSquares) else UserFunction(misfit)


def penalty_pytree(penalty: BoundPenalty) -> BoundSmoothness | UserFunction:
    """A penalty as a part of an `Objective`."""
    return penalty if isinstance(penalty, BoundSmoothness) else UserFunction(penalty)
