"""Inverse problems: controls -> model -> misfit + penalties, with the exact gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from ..core.checks import check_iterations, check_kind, check_mapping, check_tolerance
from ..core.errors import ConfigError, ConvergenceError, DataError, nearest
from ..core.precision import double
from ..core.progress import first_use, times
from ..core.texts import counted, span
from ..engines.base import Adjoint, Engine, Solution
from ..engines.choose import get_engine, running
from ..engines.launches import current
from ..models.base import Fields, Model
from ..solvers.base import default_iterations, require
from . import objective
from .control import BoundControl, BoundSmoothness, Control, Smoothness
from .likelihood import BoundLeastSquares, LeastSquares
from .objective import Objective, UserFunction
from .traced import check_signature
from .variables import gradient_dataset

ADAPTIVE = "adaptive"
TIGHTEST = 1e-8
"""Tolerance below which an adaptive one does not go."""


@dataclass(frozen=True)
class Evaluation:
    """J and its gradient at one theta, and the solves behind them (from which others start)."""

    objective: float
    misfit: float
    penalty: float
    gradient: np.ndarray
    solution: Solution
    adjoint: Adjoint | None
    tolerance: float = 0.0
    """From which an adaptive next one starts."""


class Evaluations(NamedTuple):
    """J, its parts and its gradients at many theta, each with a first axis of their number;
    infinite, with a gradient of zero, where a solve failed."""

    objective: Any
    misfit: Any
    penalty: Any
    gradient: Any


class Problem:
    """Minimise J(theta) = misfit(u, m) + penalties(theta) subject to R(u, m) = 0.

    Parameters
    ----------
    model : Model
    controls : sequence of Control
        The parameters to be recovered.
    misfit : LeastSquares or callable
        A callable takes the state, a dict of JAX arrays named as in the Dataset of `solve`
        (``pressure``, ``flux_x``, ...), and returns a number, by JAX operations.
    penalty : Smoothness or callable, or a sequence of them
        A callable takes the transformed controls, a dict of JAX arrays.
    parameters : mapping
        The known parameters: numbers, arrays, DataArrays or functions of the coordinates.
    engine : str or Engine
    solver : {"auto", "multigrid", "pseudo-transient"}
        As for `solve`.
    tolerance, adjoint_tolerance : float
        Of the solves, as for `solve`; the adjoint's is the forward's where not given. With
        ``tolerance="adaptive"`` an inversion solves only as accurately as each step needs (see
        `pyadjoint_gpu.inversion.adaptive`), and all else to 1e-8.
    max_iterations : int, optional
        Of one solve.

    Raises
    ------
    ConfigError, DataError
        Where anything given cannot be used; nothing is solved before that is known.
    """

    @double
    def __init__(
        self,
        model: Model,
        controls: Control | Sequence[Control],
        misfit: LeastSquares | Callable[[Fields], Any],
        penalty: Any = (),
        *,
        parameters: Mapping[str, Any] | None = None,
        engine: str | Engine = "auto",
        solver: str = "auto",
        tolerance: float | str = 1e-8,
        adjoint_tolerance: float | None = None,
        max_iterations: int | None = None,
    ):
        check_kind("model", model, Model)
        self.model = model
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
        self.controls = self._bind_controls(controls)
        self.known = self._known(parameters or {})
        self.misfit = misfit.bind(model) if isinstance(misfit, LeastSquares) else misfit
        if not callable(self.misfit):
            raise ConfigError(
                f"misfit: found {type(misfit).__name__}, expected LeastSquares(observations) or a"
                " function of the state"
            )
        check_signature("misfit", self.misfit)
        self.penalties = tuple(penalty) if isinstance(penalty, Sequence) else (penalty,)
        self._penalties = tuple(self._bind_penalty(p) for p in self.penalties)
        self.size = sum(math.prod(c.shape) for c in self.controls)
        """Number of components of theta, all controls together."""
        self.objective = self._objective()

    def _objective(self) -> Objective:
        """J as a function of u and theta: what is compiled."""
        functions = (self.misfit, *self._penalties)
        misfit, *penalties = (f if _is_data(f) else UserFunction(f) for f in functions)
        found = Objective(
            self.model,
            self.known,
            misfit,
            tuple(penalties),
            {c.name: c.physical for c in self.controls},
            tuple((c.name, c.shape) for c in self.controls),
        )
        # On the device once, not at each call.
        return jax.tree.map(jnp.asarray, found)

    def __repr__(self) -> str:
        """What is sought, in what, from what."""

        def named(function: Any) -> str:
            bound = isinstance(function, BoundLeastSquares | Smoothness)
            name = getattr(function, "__name__", type(function).__name__)
            return repr(function) if bound else f"{name}, a function"

        lines = [("model", self.model.text)]
        lines += [("control", repr(c)) for c in self.controls]
        lines += [("misfit", named(self.misfit))]
        lines += [("penalty", named(p)) for p in self.penalties]
        lines += [("known", ", ".join(f"{k} {span(v)}" for k, v in self.known.items()))]
        tolerance = ADAPTIVE if self.adaptive else f"{self.tolerance:g}"
        lines += [("engine", f"{self._engine.name}, tolerance {tolerance}")]
        said = (f"\n  {what:9}{text}" for what, text in lines if text)
        return f"Problem of {counted(self.size, 'unknown number')}{''.join(said)}"

    def __getstate__(self) -> dict[str, Any]:
        """What is compiled stays with its process."""
        own = {"objective", "_runs"}
        return {k: v for k, v in self.__dict__.items() if k not in own} | {"_runs": None}

    @double
    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.objective = self._objective()

    def __copy__(self) -> Problem:
        """With the same compiled code."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    @property
    def engine(self) -> Engine:
        """Where solves run: the engine given, or the `Launch` under way."""
        now = current(self._engine)
        if self._runs is None or self._runs[0] is not now:
            # Time steppers are made once: what they keep is of use again.
            self._runs = now, running(self._engine, self.model)
        return self._runs[1]

    @engine.setter
    def engine(self, engine: str | Engine) -> None:
        self._engine, self._runs = get_engine(engine, self.model), None

    # Set-up

    def _bind_controls(self, controls: Control | Sequence[Control]) -> tuple[BoundControl, ...]:
        given = [controls] if isinstance(controls, Control) else controls
        if not isinstance(given, Sequence) or not all(isinstance(c, Control) for c in given):
            raise ConfigError(f"controls: found {controls!r}, expected Controls")
        if not given:
            raise ConfigError("controls: none is given, expected at least one")
        names = [c.name for c in given]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"controls: {name!r} is given twice")
        of_results = {f"{n}_{s}" for n in names for s in ("initial", "gradient", "true")}
        for p in self.model.parameters:
            if p.name in of_results:
                raise ConfigError(
                    f"controls: a result has a variable {p.name!r} of its own, like a parameter of"
                    f" model {self.model.name!r}; rename that"
                )
        return tuple(BoundControl(c, self.model) for c in given)

    def _known(self, parameters: Mapping[str, Any]) -> dict[str, np.ndarray]:
        check_mapping("parameters", parameters, "parameter fields by name")
        names = [c.name for c in self.controls]
        for name in parameters:
            if name in names:
                raise ConfigError(f"{name!r} is both a known parameter and a control")
        everything = self.model.fields({**parameters, **{c.name: c.initial for c in self.controls}})
        return {k: v for k, v in everything.items() if k not in names}

    def _bind_penalty(self, penalty: Any) -> Callable[[Fields], Any]:
        if isinstance(penalty, Smoothness):
            for control in self.controls:
                if control.name == penalty.name:
                    return penalty.bind(control)
            raise ConfigError(
                f"penalty: {penalty.name!r} is not a control"
                + nearest(penalty.name, [c.name for c in self.controls])
            )
        if not callable(penalty):
            raise ConfigError(
                f"penalty: found {type(penalty).__name__}, expected Smoothness(name, weight,"
                " length) or a function of the transformed controls"
            )
        check_signature("penalty", penalty)
        return penalty

    # Vectors

    @property
    def initial(self) -> np.ndarray:
        """theta at the start."""
        return np.concatenate([np.ravel(c.theta) for c in self.controls])

    @property
    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """Bounds on theta."""
        pairs = [np.broadcast_to(np.array(c.box), (math.prod(c.shape), 2)) for c in self.controls]
        both = np.concatenate(pairs)
        return both[:, 0], both[:, 1]

    @property
    def weight(self) -> np.ndarray:
        """Of each component of theta in the L2 inner product, see `BoundControl`."""
        return self._each({c.name: c.weight for c in self.controls})

    @property
    def typical(self) -> np.ndarray:
        """What counts as a change of one of each component of theta: see `BoundControl`, and at
        most what its penalties charge 1/2 for."""
        found = {c.name: c.typical for c in self.controls}
        for p in self._penalties:
            if isinstance(p, BoundSmoothness):
                found[p.name] = min(found[p.name], p.typical)
        return self._each(found)

    def _each(self, numbers: Mapping[str, float]) -> np.ndarray:
        return np.concatenate([np.full(math.prod(c.shape), numbers[c.name]) for c in self.controls])

    def split(self, theta: Any) -> dict[str, Any]:
        """theta, or a gradient, by control."""
        return self.objective.split(theta)

    @double
    def physical(self, theta: np.ndarray) -> dict[str, np.ndarray]:
        """The controls' physical fields."""
        parts = self.split(theta)
        return {c.name: np.asarray(c.physical(parts[c.name])) for c in self.controls}

    def theta(self, controls: Mapping[str, Any] | None = None) -> np.ndarray:
        """theta of physical fields; those not given are at their start."""
        check_mapping("controls", {} if controls is None else controls, "physical fields by name")
        given = dict(controls or {})
        out = []
        for c in self.controls:
            if c.name not in given:
                out.append(np.ravel(c.theta))
                continue
            field = self.model.field(c.name, given.pop(c.name))
            out.append(np.ravel(c.coefficients(field)))
        if given:
            raise ConfigError(
                f"controls: {next(iter(given))!r} is not one of"
                f" {', '.join(c.name for c in self.controls)}"
            )
        return np.concatenate(out)

    # Evaluation

    @double
    def parameters(self, theta: np.ndarray) -> Fields:
        """All parameters of the model at theta."""
        return objective.parameters(self.objective, jnp.asarray(theta))

    @double
    def evaluate(
        self,
        theta: np.ndarray,
        *,
        initial: Evaluation | None = None,
        gradient: bool = True,
        tolerance: float | None = None,
    ) -> Evaluation:
        """J at theta, and its gradient

            dJ/dtheta = partial J/partial theta - (dm/dtheta)^T (dR/dm)^T lambda,
            (dR/du)^T lambda = dJ/du,

        the solves started from those of `initial`, to the problem's tolerances or the one given.
        Nothing is remembered between calls.

        Raises
        ------
        ConvergenceError
            If a solve does not converge.
        """
        x = jnp.asarray(self._checked(theta))
        m = objective.parameters(self.objective, x)
        options = {"max_iterations": self.max_iterations}
        # Only the state: a journal keeps no more, and a resumed run is to be the same.
        start = initial and replace(initial.solution, cache=None)
        solution = self.engine.solve(
            self.model,
            m,
            tolerance=tolerance or self.tolerance,
            initial=start,
            **options,
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
                initial=initial and initial.adjoint,
                wanted=[c.name for c in self.controls],
                **options,
            )
            require(adjoint.convergence, "the adjoint solve", adjoint)
            slope = np.asarray(objective.vjp(self.objective, x, adjoint.gradient) + direct)
        return Evaluation(float(value), float(misfit), float(penalty), slope, solution, adjoint)

    def _checked(self, theta: Any) -> Any:
        if np.shape(theta) != (self.size,):
            raise ConfigError(
                f"theta: found shape {np.shape(theta)}, expected {(self.size,)}, all controls"
                " transformed (`theta` makes it of physical fields)"
            )
        bad = np.count_nonzero(~np.isfinite(theta))
        if bad:
            raise DataError(f"theta: {bad} of {self.size} values are not finite")
        return theta

    @double
    def evaluate_many(self, thetas: np.ndarray, *, batch: int = 32) -> Evaluations:
        """`evaluate` at each row of `thetas`, none started from another.

        Where the engine solves the model for many parameters at once (the embedded one, for
        models that are linear in u and declare elliptic coefficients), `batch` of them go side by
        side; what one gets does not depend on the others.

        Parameters
        ----------
        thetas : array, shape (N, size)
        batch : int
            Memory grows with it.
        """
        if not self.engine.side_by_side(self.model):
            return _joined([self._one(row) for row in thetas])
        found = []
        for k in range(0, len(thetas), batch):
            rows = thetas[k : k + batch]
            # A short batch is filled up: one shape, one compilation.
            parts, good = self._together(jnp.asarray(rows[np.arange(batch) % len(rows)]))
            for i, row in enumerate(rows):
                one = Evaluations(*(np.asarray(a)[i] for a in parts))
                found.append(one if good[i] and np.isfinite(one.objective) else self._one(row))
        return _joined(found)

    def _together(self, x: jax.Array) -> tuple[Evaluations, np.ndarray]:
        """J and its gradients at theta side by side, and which of them can be relied on."""
        engine, model, limit = self.engine, self.model, self.max_iterations
        key = (model.structure, self.objective.shapes, str(engine.settings()), len(x))
        what = f"compiling {len(x)} solves side by side for {times(model.grid.shape)}"
        with first_use(key, what):
            m = objective.parameters_many(self.objective, x)
            states = engine.solve_many(model, m, tolerance=self.tolerance, max_iterations=limit)
            u = {k: jnp.asarray(v, x.dtype) for k, v in states.fields.items()}
            (value, (misfit, penalty)), (u_bar, direct) = objective.slopes_many(
                self.objective, u, x
            )
            adjoints = engine.adjoint_many(
                model, m, states, u_bar, tolerance=self.adjoint_tolerance, max_iterations=limit
            )
            gradient = objective.vjp_many(self.objective, x, adjoints.fields) + direct
        usable = np.asarray(states.usable & adjoints.usable)
        return Evaluations(value, misfit, penalty, gradient), usable

    def _one(self, theta: np.ndarray) -> Evaluations:
        try:
            found = self.evaluate(theta)
        except (ConvergenceError, DataError):
            return Evaluations(np.inf, np.inf, np.inf, np.zeros_like(theta))
        return Evaluations(found.objective, found.misfit, found.penalty, found.gradient)

    def partials(self, u: Fields, x: jax.Array) -> tuple[jax.Array, tuple[Fields, jax.Array]]:
        """J, and partial J/partial u and partial J/partial theta."""
        (value, _), slopes = objective.slopes(self.objective, u, x)
        return value, slopes

    def vjp(self, x: jax.Array, m_bar: Fields) -> jax.Array:
        """(dm/dtheta)^T m_bar."""
        return objective.vjp(self.objective, x, m_bar)

    def value_and_gradient(
        self, controls: Mapping[str, Any] | None = None
    ) -> tuple[float, xr.Dataset]:
        """J and dJ/d(transformed control), a value a cell.

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
            self.controls, self.split(evaluation.gradient), self.model.domain
        )

    def chi2(self, misfit: float) -> float | None:
        """2 J / n for n data, 1 where the fit is as good as the data; None without data."""
        if isinstance(self.misfit, BoundLeastSquares):
            return 2.0 * misfit / self.misfit.size
        return None


def _is_data(function: Any) -> bool:
    return isinstance(function, BoundLeastSquares | BoundSmoothness)


def _joined(found: Sequence[Evaluations]) -> Evaluations:
    return Evaluations(*(np.array(a) for a in zip(*found, strict=True)))
