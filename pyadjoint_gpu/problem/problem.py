"""Inverse problems: an objective of a model's unknown parameters, with its exact gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Bool, Float

from ..core.checks import check_iterations, check_tolerance
from ..core.errors import ConfigError, ConvergenceError, DataError
from ..core.precision import double
from ..core.progress import first_use
from ..core.texts import counted, sizes, span
from ..engines.base import Engine
from ..engines.choose import get_engine, running
from ..engines.launches import current
from ..models.base import Fields, Model
from ..solvers.base import Limits, default_iterations, require
from . import objective
from .binding import (
    Penalty,
    all_penalties,
    bound_controls,
    bound_penalty,
    described,
    joint_prior,
    misfit_pytree,
    penalty_pytree,
)
from .control import Control
from .evaluation import Evaluation, Evaluations, Member
from .experiment import Experiment, Misfit, one_experiment
from .hessian import Hessian
from .likelihood import BoundLeastSquares, LeastSquares
from .unknowns import Unknowns
from .variables import direction_of, gradient_dataset, product_dataset
from .whiten import JointPrior

ADAPTIVE = "adaptive"
TIGHTEST = 1e-8
"""The smallest adaptive tolerance."""


class Problem(Unknowns):
    """The minimisation of an objective subject to a PDE,

        min J(theta) = misfit(u) - ln p(theta) + penalties(theta)   with   R(u, m(theta)) = 0,

    where theta are the transformed controls, one vector for all of them, with ln s at its end where
    a `Noise` has an unknown scale s, p the priors that these have, up to their normalisers, and m
    all parameters of the model, controls and known ones.
    `invert` finds its minimum, `laplace` its curvature there, `sample` draws from exp(-J).

    Parameters
    ----------
    model, misfit, parameters
        The `Experiment`, or else
    experiments : mapping
        the one of any name.
    controls : sequence of Control
        The parameters to be recovered.
    penalty : Smoothness or callable, or a sequence of them
        A callable takes the transformed controls, a dict of JAX arrays.
    engine : str or Engine
    solver : {"auto", "multigrid", "pseudo-transient"}
        As for `solve`.
    tolerance, adjoint_tolerance : float
        Tolerances of the forward and adjoint solves, as for `solve`; the adjoint's is by default
        the forward's. With ``tolerance="adaptive"`` an inversion solves only as accurately as each
        step needs (see `pyadjoint_gpu.inversion.adaptive`), and everything else to 1e-8.
    max_iterations : int, optional
        Limit of one solve, see `solve`.

    Attributes
    ----------
    controls : tuple of BoundControl
    parts : tuple of Part
        The unknowns in the order of theta: the controls, then those of the misfit.
    experiment : BoundExperiment
        The model, fields of the known parameters, and the misfit.
    penalties : tuple
        As they were given.
    objective : Objective
        J as a function of u and theta, an argument of compiled code.
    size : int
        Number of components of theta.

    Raises
    ------
    ConfigError, DataError
        If anything given cannot be used; nothing is solved before that is known.
    """

    @double
    def __init__(
        self,
        model: Model | None = None,
        controls: Control | Sequence[Control] = (),
        misfit: LeastSquares | Callable[[Fields], Any] | None = None,
        penalty: Penalty | Sequence[Penalty] = (),
        *,
        parameters: Mapping[str, Any] | None = None,
        experiments: Mapping[str, Experiment] | None = None,
        engine: str | Engine = "auto",
        solver: str = "auto",
        tolerance: float | str = 1e-8,
        adjoint_tolerance: float | None = None,
        max_iterations: int | None = None,
    ):
        given = one_experiment(experiments, model=model, misfit=misfit, parameters=parameters)
        model = given.model
        self._engine = get_engine(engine, model, solver=solver)
        self._runs: tuple[Engine, Engine] | None = None
        self.adaptive = isinstance(tolerance, str) and tolerance == ADAPTIVE
        if self.adaptive and not model.elliptic_declared:
            raise ConfigError(
                f"tolerance: {ADAPTIVE!r} needs a model that declares elliptic coefficients,"
                f" which {model.name!r} does not"
            )
        if self.adaptive and adjoint_tolerance is not None:
            raise ConfigError(f"adjoint_tolerance: found {adjoint_tolerance!r} beside {ADAPTIVE!r}")
        self.tolerance = TIGHTEST if self.adaptive else check_tolerance("tolerance", tolerance)
        self.adjoint_tolerance = (
            self.tolerance
            if adjoint_tolerance is None
            else check_tolerance("adjoint_tolerance", adjoint_tolerance)
        )
        self.max_iterations = check_iterations(
            "max_iterations", max_iterations, default_iterations(model)
        )
        self.controls = bound_controls(model, controls)
        self.experiment = given.bind(self.controls)
        self.parts = (*self.controls, *self.experiment.nuisances)
        self.penalties = all_penalties(penalty)
        self._penalties = tuple(bound_penalty(self.controls, p) for p in self.penalties)
        self.size = sum(math.prod(c.shape) for c in self.parts)
        self._make_objective()

    def _make_objective(self) -> None:
        found = objective.Objective(
            self.model,
            self.known,
            misfit_pytree(self.misfit),
            tuple(penalty_pytree(p) for p in self._penalties),
            {c.name: c.physical for c in self.controls},
            {c.name: c.prior for c in self.parts if c.prior is not None},
            tuple((c.name, c.shape) for c in self.parts),
        )
        # On the device, so that no call moves the arrays there.
        self.objective = jax.tree.map(jnp.asarray, found)

    def __repr__(self) -> str:
        """The model, controls, misfit, penalties, known parameters and engine, a line each."""
        lines = [("model", self.model.text)]
        lines += [("control", repr(c)) for c in self.controls]
        lines += [("misfit", described(self.misfit))]
        lines += [("penalty", described(p)) for p in self.penalties]
        lines += [("known", ", ".join(f"{k} {span(v)}" for k, v in self.known.items()))]
        tolerance = ADAPTIVE if self.adaptive else f"{self.tolerance:g}"
        lines += [("engine", f"{self._engine.name}, tolerance {tolerance}")]
        said = (f"\n  {what:9}{text}" for what, text in lines if text)
        return f"Problem of {counted(self.size, 'unknown number')}{''.join(said)}"

    def __getstate__(self) -> dict[str, Any]:
        """The state without compiled code and running engines, which stay with their process."""
        own = {"objective", "_runs", "prior"}
        return {k: v for k, v in self.__dict__.items() if k not in own} | {"_runs": None}

    @double
    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._make_objective()

    def __copy__(self) -> Problem:
        """A copy that shares the compiled code."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    @property
    def model(self) -> Model:
        """The experiment's model."""
        return self.experiment.model

    @property
    def known(self) -> dict[str, Float[np.ndarray, "*shape"]]:
        """Fields of its known parameters."""
        return self.experiment.known

    @property
    def misfit(self) -> Misfit:
        """Its misfit, on the model."""
        return self.experiment.misfit

    @property
    def engine(self) -> Engine:
        """The engine of all solves: the one given, or the `Launch` under way."""
        now = current(self._engine)
        if self._runs is None or self._runs[0] is not now:
            # Time steppers are made once: their caches serve later solves.
            self._runs = now, running(self._engine, self.model)
        return self._runs[1]

    @engine.setter
    def engine(self, engine: str | Engine) -> None:
        self._engine, self._runs = get_engine(engine, self.model), None

    # Statistics

    @cached_property
    @double
    def prior(self) -> JointPrior:
        """p(theta), by the priors of its parts or `Smoothness`; a `ConfigError` if a control has
        neither, or there is a penalty that is a user's function."""
        return joint_prior(self.parts, self._penalties, self.objective.shapes)

    @property
    def log_normaliser(self) -> float:
        """ln p(d | u, s) + misfit, a constant; zero for a user's misfit, which is -ln p(d | u)."""
        misfit = self.misfit
        return float(misfit.noise.constant) if isinstance(misfit, BoundLeastSquares) else 0.0

    @property
    def likelihood(self) -> Problem:
        """The problem whose J is the misfit alone; it shares compiled code with this one."""
        other = copy(self)
        other.objective = replace(self.objective, priors={}, penalties=())
        return other

    # Evaluation

    @double
    def parameters(self, theta: Float[np.ndarray, " n"]) -> Fields:
        """All parameters of the model at theta."""
        return objective.parameters(self.objective, jnp.asarray(theta))

    @double
    def evaluate(
        self,
        theta: Float[np.ndarray, " n"],
        *,
        initial: Evaluation | None = None,
        gradient: bool = True,
        tolerance: float | None = None,
    ) -> Evaluation:
        """J at theta, and its gradient

            dJ/dtheta = partial J/partial theta - (dm/dtheta)^T (dR/dm)^T lambda,
            (dR/du)^T lambda = partial J/partial u.

        Nothing is remembered between calls.

        Parameters
        ----------
        theta : array, shape (size,)
        initial : Evaluation, optional
            An earlier one, whose solves are the start of these.
        gradient : bool
            False leaves out the adjoint solve.
        tolerance : float, optional
            In place of the problem's tolerances.

        Raises
        ------
        ConvergenceError
            If a solve does not converge.
        DataError
            If theta or J is not finite.
        """
        self._check(theta)
        x = jnp.asarray(theta)
        m = objective.parameters(self.objective, x)
        # The state only: a journal keeps no more, and a resumed run is to be the same.
        start = initial and replace(initial.solution, cache=None)
        solution = self.engine.solve(
            self.model,
            m,
            tolerance=tolerance or self.tolerance,
            max_iterations=self.max_iterations,
            initial=start,
        )
        require(solution.convergence, "the forward solve", solution)
        u = {k: jnp.asarray(v, x.dtype) for k, v in solution.fields.items()}
        (value, (misfit, penalty)), (u_bar, direct) = objective.slopes(self.objective, u, x)
        if not np.isfinite(value):
            raise DataError(f"the objective is {float(value)}: check the misfit and penalties")
        adjoint = None
        slope = np.empty(0)
        if gradient:
            adjoint = self.engine.adjoint(
                self.model,
                m,
                solution,
                u_bar,
                tolerance=tolerance or self.adjoint_tolerance,
                max_iterations=self.max_iterations,
                initial=initial and initial.adjoint,
                wanted=[c.name for c in self.controls],
            )
            require(adjoint.convergence, "the adjoint solve", adjoint)
            own = {c.name: adjoint.gradient[c.name] for c in self.controls}
            adjoint = replace(adjoint, gradient=own)
            slope = np.asarray(objective.vjp(self.objective, x, adjoint.gradient) + direct)
        return Evaluation(float(value), float(misfit), float(penalty), slope, solution, adjoint)

    @double
    def evaluate_many(
        self, thetas: Float[np.ndarray, "members n"], *, batch: int = 32
    ) -> Evaluations:
        """`evaluate` at each row of `thetas`, from the same start.

        Where the engine solves the model for many parameters at once (the embedded one, for
        models that are linear in u and declare elliptic coefficients), `batch` of them are solved
        side by side; the result of one does not depend on the others.

        Parameters
        ----------
        thetas : array, shape (N, size)
        batch : int
            Number of solves side by side, on which the memory depends.
        """
        if not self.engine.side_by_side(self.model):
            return Evaluations.of([self._one(row) for row in thetas])
        found: list[Member] = []
        for k in range(0, len(thetas), batch):
            rows = thetas[k : k + batch]
            # A short batch is filled up: one shape, one compilation.
            parts, good = self._side_by_side(jnp.asarray(rows[np.arange(batch) % len(rows)]))
            members = zip(*parts, strict=True)
            for row, usable, member in zip(rows, good, members, strict=False):
                found.append(member if usable else self._one(row))
        return Evaluations.of(found)

    def _side_by_side(
        self, x: Float[Array, "members n"]
    ) -> tuple[Evaluations, Bool[np.ndarray, " members"]]:
        """J and its gradients at each row of x, and a mask of those whose solves converged to a
        finite J."""
        of, engine, limit = self.objective, self.engine, self.max_iterations
        key = (of.model.structure, of.shapes, str(engine.settings()), len(x))
        what = f"compiling {len(x)} solves side by side for {sizes(of.model.grid.shape)}"
        with first_use(key, what):
            m = objective.parameters_many(of, x)
            states = engine.solve_many(of.model, m, tolerance=self.tolerance, max_iterations=limit)
            u = {k: jnp.asarray(v, x.dtype) for k, v in states.fields.items()}
            (value, (misfit, penalty)), (u_bar, direct) = objective.slopes_many(of, u, x)
            adjoints = engine.adjoint_many(
                of.model, m, states, u_bar, tolerance=self.adjoint_tolerance, max_iterations=limit
            )
            gradient = objective.vjp_many(of, x, adjoints.fields) + direct
        found = Evaluations(*map(np.asarray, (value, misfit, penalty, gradient)))
        return found, np.asarray(states.usable & adjoints.usable) & np.isfinite(found.objective)

    def _one(self, theta: Float[np.ndarray, " n"]) -> Member:
        try:
            found = self.evaluate(theta)
        except (ConvergenceError, DataError):
            return np.inf, np.inf, np.inf, np.zeros_like(theta)
        return found.objective, found.misfit, found.penalty, found.gradient

    def value_and_gradient(
        self, controls: Mapping[str, Any] | None = None
    ) -> tuple[float, xr.Dataset]:
        """J and dJ/d(transformed control), one value a cell.

        Parameters
        ----------
        controls : mapping, optional
            Physical fields of the controls; the start where not given.

        Returns
        -------
        value : float
        gradient : Dataset
            One variable a control: for ``transform="log"``, dJ/d ln m in each cell.
        """
        evaluation = self.evaluate(self.theta(controls))
        return evaluation.objective, gradient_dataset(
            self.parts, self.split(evaluation.gradient), self.model.domain
        )

    def hessian_product(
        self,
        direction: Mapping[str, Any] | xr.Dataset,
        controls: Mapping[str, Any] | None = None,
        *,
        gauss_newton: bool = False,
    ) -> xr.Dataset:
        """The product H v of the Hessian of J by theta with a direction v.

        It takes an evaluation, and one tangent and one adjoint solve more; for many products at one
        theta see `hessian`.

        Parameters
        ----------
        direction : Dataset or mapping
            v by control, in the form of a gradient: changes of the transformed controls. Controls
            that are not given do not change.
        controls : mapping, optional
            Physical fields of the controls; the start where not given.
        gauss_newton : bool
            Leave out the curvature of the state as a function of theta.

        Returns
        -------
        product : Dataset
            One variable a control.

        Raises
        ------
        ConfigError, DataError
            If `direction` has something else than the controls, or a value of the wrong shape or
            not finite.
        ConvergenceError
            If a solve does not converge.
        """
        v = direction_of(self.parts, direction)
        product = self.hessian(self.theta(controls), gauss_newton=gauss_newton).product(v).vector
        return product_dataset(self.parts, self.split(product), self.model.domain)

    def hessian(
        self,
        theta: Float[np.ndarray, " n"],
        evaluation: Evaluation | None = None,
        *,
        gauss_newton: bool = False,
    ) -> Hessian:
        """The Hessian of J at theta, for many products; `evaluation` is one there, if known."""
        found = evaluation or self.evaluate(theta, gradient=not gauss_newton)
        limits = Limits(tolerance=self.adjoint_tolerance, max_iterations=self.max_iterations)
        return Hessian(
            self.objective,
            self.model,
            self.engine,
            theta,
            found,
            limits,
            gauss_newton=gauss_newton,
        )
