"""The parts of a problem, checked and bound to its model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core.checks import check_kind
from ..core.errors import ConfigError, nearest
from ..models.base import Fields, Model
from ..statistics.densities import BoundPrior
from .control import BoundControl, Control
from .experiment import Misfit
from .likelihood import BoundLeastSquares
from .objective import Shapes, UserFunction
from .part import Part
from .penalty import BoundSmoothness, Smoothness, smoothness_prior
from .traced import check_signature
from .whiten import JointPrior

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
        If a control has neither, or both, or bounds on theta, or there is a penalty that is a
        user's function.
    """
    for p in penalties:
        if not isinstance(p, BoundSmoothness):
            raise ConfigError(
                f"penalty: {getattr(p, '__name__', type(p).__name__)!r} is a function, which"
                " has no known normaliser as a density; state it as the prior of a control"
            )
    for part in parts:
        if np.any(np.isfinite(part.box)):
            raise ConfigError(
                f"controls.{part.name}.bounds: no density is known between them; use transform"
                " 'logistic', or the prior Uniform(low, high)"
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


def described(function: Misfit | Penalty) -> str:
    """A misfit or penalty on one line."""
    bound = isinstance(function, BoundLeastSquares | Smoothness)
    name = getattr(function, "__name__", type(function).__name__)
    return repr(function) if bound else f"{name}, a function"
