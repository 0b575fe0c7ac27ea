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
from ..core.precision import compiled, compiled_loop, double
from ..core.progress import first_use, times
from ..core.texts import counted, span
from ..engines import Adjoint, Engine, Solution, get_engine, running, selective
from ..models.base import Fields, Model
from ..solvers.base import default_iterations, require
from .control import BoundControl, Control, Smoothness
from .likelihood import BoundLeastSquares, LeastSquares
from .traced import check_signature, scalar
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
        sizes = [math.prod(c.shape) for c in self.controls]
        self._splits = np.cumsum(sizes)[:-1]
        self.size = sum(sizes)
        """Number of components of theta, all controls together."""
        self._compile()

    def _compile(self) -> None:
        self._parameters = compiled(self._parameters_of)
        self._objective = compiled(
            jax.value_and_grad(self._objective_of, argnums=(0, 1), has_aux=True)
        )
        self.pull = compiled(self._pull_of)
        self._evaluations = compiled_loop(self._evaluations_of)
        self._batchable: tuple[Engine, Any] | None = None

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
        own = ("_parameters", "_objective", "pull", "_evaluations", "_batchable")
        return {k: v for k, v in self.__dict__.items() if k not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._compile()

    def __copy__(self) -> Problem:
        """With the same compiled code."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    @property
    def engine(self) -> Engine:
        """Where solves run: the engine given, or the `Launch` under way."""
        return running(self._engine, self.model)

    @engine.setter
    def engine(self, engine: str | Engine) -> None:
        self._engine = get_engine(engine, self.model)

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

    def each(self, attribute: str) -> np.ndarray:
        """A number of each control (``weight``, ``typical``), one a component of theta."""
        return np.concatenate(
            [np.full(math.prod(c.shape), getattr(c, attribute)) for c in self.controls]
        )

    def split(self, theta: Any) -> dict[str, Any]:
        """theta, or a gradient, by control."""
        parts = (jnp if isinstance(theta, jax.Array) else np).split(theta, self._splits)
        return {c.name: p.reshape(c.shape) for c, p in zip(self.controls, parts, strict=True)}

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

    def _parameters_of(self, theta: Any) -> Fields:
        parts = self.split(theta)
        known = {k: jnp.asarray(v) for k, v in self.known.items()}
        return known | {c.name: c.physical(parts[c.name]) for c in self.controls}

    def _objective_of(self, u: Fields, theta: Any) -> tuple[Any, tuple[Any, Any]]:
        state = u | self.model.outputs(u, self._parameters_of(theta))
        parts = self.split(theta)
        fields = {c.name: c.expand(parts[c.name]) for c in self.controls}
        misfit = scalar("misfit", self.misfit, state)
        charges = (scalar("penalty", p, fields) for p in self._penalties)
        penalty = sum(charges, jnp.zeros(()))
        return misfit + penalty, (misfit, penalty)

    def _pull_of(self, theta: Any, m_bar: Fields) -> Any:
        """(dm/dtheta)^T m_bar."""

        def own(theta: Any) -> Fields:
            m = self._parameters_of(theta)
            return {c.name: m[c.name] for c in self.controls}

        m, pull = jax.vjp(own, theta)
        return pull({k: jnp.asarray(m_bar[k], v.dtype) for k, v in m.items()})[0]

    @double
    def parameters(self, theta: np.ndarray) -> Fields:
        """All parameters of the model at theta."""
        return self._parameters(jnp.asarray(theta))

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
        m = self._parameters(x)
        options = {"max_iterations": self.max_iterations}
        # Only the state: a journal keeps no more, and a resumed run is to be the same.
        start = initial and replace(initial.solution, reusable=None)
        solution = self.engine.solve(
            self.model,
            m,
            tolerance=tolerance or self.tolerance,
            initial=start,
            **options,
        )
        require(solution.convergence, "the forward solve", solution)
        u = {k: jnp.asarray(v, x.dtype) for k, v in solution.fields.items()}
        (value, (misfit, penalty)), (u_bar, direct) = self._objective(u, x)
        if not np.isfinite(value):
            raise DataError(f"the objective is {float(value)}: check the misfit and penalties")
        adjoint = None
        slope = np.empty(0)
        if gradient:
            engine: Any = self.engine
            only = {"wanted": [c.name for c in self.controls]} if selective(engine) else {}
            adjoint = engine.adjoint(
                self.model,
                m,
                solution,
                u_bar,
                tolerance=tolerance or self.adjoint_tolerance,
                initial=initial and initial.adjoint,
                **options,
                **only,
            )
            require(adjoint.convergence, "the adjoint solve", adjoint)
            slope = np.asarray(self.pull(x, adjoint.gradient) + direct)
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

    @property
    def batchable(self) -> Any:
        """How the engine solves for many theta at once; None where it does so one by one."""
        from ..engines.batched import batchable

        engine = self.engine
        if self._batchable is None or self._batchable[0] is not engine:
            how = batchable(engine, self.model, self.parameters(self.initial))
            self._batchable = engine, how
        return self._batchable[1]

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
        found, how = [], self.batchable
        limits = self.tolerance, self.adjoint_tolerance, self.max_iterations
        for k in range(0, len(thetas), batch):
            rows = thetas[k : k + batch]
            if how is None:
                found += [self._one(row) for row in rows]
                continue
            # A short batch is filled up: one shape, one compilation.
            fill = np.arange(batch) % len(rows)
            what = f"compiling {batch} solves side by side for {times(self.model.grid.shape)}"
            with first_use((id(self._evaluations), how, batch), what):
                parts, good = self._evaluations(how, jnp.asarray(rows[fill]), limits)
            for i, row in enumerate(rows):
                one = Evaluations(*(np.asarray(a)[i] for a in parts))
                found.append(one if good[i] and np.isfinite(one.objective) else self._one(row))
        return Evaluations(*(np.array(a) for a in zip(*found, strict=True)))

    def _one(self, theta: np.ndarray) -> Evaluations:
        try:
            found = self.evaluate(theta)
        except (ConvergenceError, DataError):
            return Evaluations(np.inf, np.inf, np.inf, np.zeros_like(theta))
        return Evaluations(found.objective, found.misfit, found.penalty, found.gradient)

    def _evaluations_of(self, how: Any, thetas: Any, limits: tuple[Any, Any, Any]) -> Any:
        from ..engines import batched

        tolerance, adjoint_tolerance, most = limits

        def one(x: Any) -> tuple[Evaluations, Any]:
            m = self._parameters_of(x)
            u, hierarchies, solved = batched.solve(how, self.model, m, tolerance, most)
            u = {k: jnp.asarray(v, x.dtype) for k, v in u.items()}
            slopes = jax.value_and_grad(self._objective_of, argnums=(0, 1), has_aux=True)
            (value, (misfit, penalty)), (u_bar, direct) = slopes(u, x)
            state = {k: jnp.asarray(v, how.dtype) for k, v in u.items()}
            slope, adjoined = batched.adjoint(
                how, self.model, m, state, hierarchies, u_bar, adjoint_tolerance, most
            )
            gradient = self._pull_of(x, slope) + direct
            return Evaluations(value, misfit, penalty, gradient), solved & adjoined

        return jax.vmap(one)(thetas)

    def partials(self, u: Fields, x: Any) -> tuple[Any, tuple[Fields, Any]]:
        """J, and partial J/partial u and partial J/partial theta."""
        (value, _), slopes = self._objective(u, x)
        return value, slopes

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
