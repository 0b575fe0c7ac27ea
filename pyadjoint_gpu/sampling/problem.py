"""Sequential Monte Carlo on the posterior of a `Problem`, moved by its exact gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float

from ..core.checks import count, fraction
from ..core.errors import ConfigError, ConvergenceError, nearest
from ..core.frozen import Frozen
from ..core.pickling import AsGiven
from ..core.precision import compiled, double
from ..problem.likelihood import BoundLeastSquares
from ..problem.problem import Problem
from ..problem.specification import problem_parts
from ..problem.variables import transformed_attributes
from ..results.dataset import Variables, describe, grid_coordinates, named
from ..results.samples import KIND, TITLE, evidence
from ..statistics.matern import FieldMap
from . import journal as journals
from . import tempering
from .checks import check_collapse, check_diversity, check_turns
from .fields import FieldPrior
from .options import check_names, set_counts
from .reference import Particles, Points, Reference, reference, trajectory
from .runs import Tempered, paths, run_coordinate, run_variables, taken

TURN = 1.5
"""Angle of a trajectory, unless acceptance requires a smaller one."""
JITTER = 0.2
"""Relative variation of the angle between trajectories."""
ACCEPTANCE = 0.75
"""Acceptance that the length of steps is tuned for."""


@dataclass(frozen=True)
class State(Tempered):
    """State of a run; its `path` has gamma, ESS / N, mean probability of acceptance, and least
    angle of a trajectory of each stage."""

    points: Points
    about: Reference
    """Gaussian that this stage's trajectories follow."""
    angle: float
    """Angle of a step."""


@dataclass(frozen=True)
class ProblemSMC(AsGiven, Frozen):
    """Sampler of the posterior of a problem's controls under Gaussian priors,

        p(theta | d) ~ exp(-J(theta)) N(theta; theta_0, C),

    J the problem's misfit. Particles are followed from the prior to the posterior by tempering, and
    moved by Hamiltonian Monte Carlo beside a Gaussian that is fitted to them at every stage, with
    values and gradients from one forward and one adjoint solve a step.

    Parameters
    ----------
    problem : Problem
        A problem without penalties, which the prior replaces, and without bounds on theta. A user's
        own misfit is taken as -ln p(d | u).
    prior : FieldPrior or sequence of them
        One prior a control.
    particles : int
    moves : int
        Trajectories a stage.
    leapfrogs : int
        Steps, and gradients, of a trajectory; 1 is MALA.
    ess : float
        Effective sample size after a stage, as a fraction of the particles.
    batch : int
        Solves side by side, where the engine can (see `Problem.evaluate_many`).

    Raises
    ------
    ConfigError, DataError
        If a setting cannot be used.
    """

    problem: Problem
    prior: FieldPrior | Sequence[FieldPrior]
    particles: int = 128
    moves: int = 2
    leapfrogs: int = 5
    ess: float = 0.5
    batch: int = 32

    def __post_init__(self) -> None:
        set_counts(self, particles=2, moves=1, leapfrogs=1, batch=1)
        fraction("ess", self.ess)
        if not isinstance(self.problem, Problem):
            raise ConfigError(f"problem: found {type(self.problem).__name__}, expected a Problem")
        if self.problem.penalties:
            raise ConfigError("penalty: a prior takes its place; leave it out of the problem")
        if np.any(np.isfinite(self.problem.box)):
            raise ConfigError(
                "bounds: a Gaussian prior has none; leave them out, or use transform 'logistic'"
            )
        _ = self._roots
        self._check_names()

    @cached_property
    @double
    def _roots(self) -> dict[str, FieldMap]:
        """Square roots of the priors' covariances, by control."""
        given = [self.prior] if isinstance(self.prior, FieldPrior) else self.prior
        if not isinstance(given, list | tuple) or not all(isinstance(p, FieldPrior) for p in given):
            raise ConfigError(
                f"prior: found {self.prior!r}, expected a FieldPrior for each control"
            )
        names = [c.name for c in self.problem.controls]
        for prior in given:
            if prior.name not in names:
                hint = nearest(prior.name, names)
                raise ConfigError(f"prior: {prior.name!r} is not a control{hint}")
        by_name = {p.name: p for p in given}
        missing = [n for n in names if n not in by_name]
        if missing or len(given) > len(by_name):
            what = f"none is given for {missing[0]!r}" if missing else "one is given twice"
            raise ConfigError(f"prior: {what}, expected one a control")
        return {c.name: by_name[c.name].bind(c) for c in self.problem.controls}

    def _check_names(self) -> None:
        """Check that no two variables, coordinates or dimensions of results have the same name."""
        taken = {"turn", *grid_coordinates(self.problem.model.grid)}
        for c in self.problem.controls:
            taken |= {*c.space.dims, *c.space.coordinates()}
        for c in self.problem.controls:
            label = transformed_attributes(c)["long_name"].replace(" ", "_")
            names = [c.name, *(f"{label}_{end}" for end in ("mean", "sd", "true"))]
            check_names("controls", names, taken)
            taken |= set(names)

    # Between x, independent standard normal numbers, and theta

    def _change_of(self, x: Float[Array, " unknowns"]) -> Float[Array, " unknowns"]:
        parts = self.problem.split(x)
        return jnp.concatenate([jnp.ravel(root(parts[name])) for name, root in self._roots.items()])

    @cached_property
    def _change(self) -> Callable[[Float[Array, "particles unknowns"]], jax.Array]:
        return compiled(jax.vmap(self._change_of))

    @cached_property
    def _vjp(self) -> Callable[[Float[Array, "particles unknowns"]], jax.Array]:
        def one(slope: Float[Array, " unknowns"]) -> Float[Array, " unknowns"]:
            return jax.linear_transpose(self._change_of, slope)(slope)[0]

        return compiled(jax.vmap(one))

    @double
    def theta(self, x: Particles) -> Particles:
        """theta for each row of standard normal numbers."""
        return self.problem.initial + np.asarray(self._change(jnp.asarray(x, "float64")))

    @double
    def _evaluate(self, x: Particles) -> Points:
        found = self.problem.evaluate_many(self.theta(x), batch=self.batch)
        return Points(x, found.misfit, np.asarray(self._vjp(jnp.asarray(found.gradient))))

    def draw(self, seed: int = 0) -> dict[str, np.ndarray]:
        """The controls' physical fields, drawn from the prior."""
        x = np.random.default_rng(seed).standard_normal((1, self.problem.size))
        return self.problem.physical(self.theta(x)[0])

    def run(
        self,
        *,
        seed: int = 0,
        repeats: int = 1,
        journal: str | Path | None = None,
        overwrite: bool = False,
        progress: bool | None = None,
    ) -> xr.Dataset:
        """Sample the controls given the data.

        Parameters
        ----------
        seed : int
        repeats : int
            Independent runs, whose scatter gives the error of ln Z.
        journal : path, optional
            File of the state after each move of all particles; the same call resumes from there,
            with the same result. One of other inputs is refused.
        overwrite : bool
            Start the journal anew.
        progress : bool, optional
            A bar where someone looks, else a line a minute; False for nothing.

        Returns
        -------
        xr.Dataset
            Samples of equal weight of each control (dimension ``sample``); mean, standard
            deviation and, where known, truth of theta (``ln_permeability_mean``, ``_sd``,
            ``_true`` under transform "log"); ln Z and how it was computed.

        Raises
        ------
        ConvergenceError
            If no particle of the prior can be evaluated.

        Warns
        -----
        SamplingWarning
            Where there is reason not to trust the result.
        """
        seed, repeats = count("seed", seed, 0), count("repeats", repeats)
        states = journals.followed(
            State,
            journal,
            lambda: self._made_with(seed),
            lambda k: self._first((seed, k)),
            lambda now, k: self._moved(now, (seed, k)),
            moves=self.moves,
            repeats=repeats,
            overwrite=overwrite,
            progress=progress,
        )
        for now in states:
            check_turns(np.min(now.path[:, 3]))
            check_collapse(now.path[:, 1], self.ess)
            check_diversity(now.points.x)
        return self._dataset(states[:repeats], seed)

    def _first(self, stream: tuple[int, int]) -> State:
        n = self.problem.size
        x = np.random.default_rng([*stream, 0]).standard_normal((self.particles, n))
        points = self._evaluate(x)
        if not np.any(np.isfinite(points.value)):
            raise ConvergenceError("the model could be solved for no particle of the prior")
        return State(
            move=self.moves,
            path=np.zeros((0, 4)),
            points=points,
            about=Reference(np.zeros(n), np.zeros((n, 0)), np.zeros(0)),
            angle=TURN / self.leapfrogs,
        )

    def _moved(self, now: State, stream: tuple[int, int]) -> State:
        """The state after a move of all particles; the first of a stage takes the step in gamma."""
        generator = np.random.default_rng([*stream, now.step])
        if now.move == self.moves:
            now = self._resampled(now, generator)
        angle = now.angle * (1.0 + JITTER * generator.uniform(-1.0, 1.0))
        points, probability = trajectory(
            generator, now.points, now.gamma, now.about, angle, self.leapfrogs, self._evaluate
        )
        rate = float(np.mean(probability))
        path = now.path.copy()
        path[-1, 2] += rate / self.moves
        path[-1, 3] = min(path[-1, 3], now.angle * self.leapfrogs)
        return replace(
            now,
            step=now.step + 1,
            move=now.move + 1,
            points=points,
            angle=min(now.angle * np.exp(rate - ACCEPTANCE), TURN / self.leapfrogs),
            path=path,
        )

    def _resampled(self, now: State, generator: np.random.Generator) -> State:
        stage = tempering.stage(-now.points.value, now.gamma, self.ess, generator)
        return now.at_stage(
            stage,
            np.inf,
            points=taken(now.points, stage.which),
            about=reference(now.points, stage.weights, stage.gamma),
        )

    def _constant(self) -> float:
        """The constant ln p(d | u) + J."""
        misfit = self.problem.misfit
        if not isinstance(misfit, BoundLeastSquares):
            return 0.0
        return -float(np.sum(np.log(misfit.sigma))) - 0.5 * misfit.size * np.log(2.0 * np.pi)

    def _made_with(self, seed: int) -> dict[str, Any]:
        """The inputs that determine the samples; the problem is also probed at two particles."""
        x = np.random.default_rng(0).standard_normal((2, self.problem.size))
        return {
            **problem_parts(self.problem),
            "prior": [self.prior, self.theta(x)],
            "values": self._evaluate(x).value,
            **{k: getattr(self, k) for k in ("particles", "moves", "leapfrogs", "ess", "batch")},
            "seed": seed,
        }

    def _dataset(self, states: list[State], seed: int) -> xr.Dataset:
        theta = np.concatenate([self.theta(now.points.x) for now in states])
        variables: Variables = {}
        coordinates: Variables = grid_coordinates(self.problem.model.domain) | {
            "run": run_coordinate(len(states), self.particles)
        }
        physical = [self.problem.physical(row) for row in theta]
        parts = [self.problem.split(row) for row in theta]
        for c in self.problem.controls:
            of = transformed_attributes(c)
            coordinates |= c.coordinates
            own = np.stack([p[c.name] for p in parts])
            label = of["long_name"].replace(" ", "_")
            columns = {
                "mean": (np.mean(own, axis=0), "mean of {}"),
                "sd": (np.std(own, axis=0), "standard deviation of {}"),
            }
            if c.truth is not None and c.control.basis == "field":
                columns["true"] = c.transformed(c.truth), "true {}"
            variables |= {
                f"{label}_{k}": (c.dims, a, of | {"long_name": text.format(of["long_name"])})
                for k, (a, text) in columns.items()
            }
            fields = np.stack([p[c.name] for p in physical])
            variables[c.name] = (("sample", *c.field_dims), fields, c.parameter.attributes)
        misfit = np.concatenate([now.points.value for now in states])
        log_evidence = np.array([now.log_evidence for now in states]) + self._constant()
        variables["misfit"] = "sample", misfit, named("misfit of the data")
        variables |= run_variables(
            log_evidence,
            paths(states),
            acceptance=named("accepted trajectories"),
            turn=named("angle of trajectories", "rad"),
        )
        gradients = sum(1 + (now.step - 1) * self.leapfrogs for now in states) * self.particles
        return xr.Dataset(
            variables,
            coordinates,
            describe(
                f"SMC of {', '.join(c.name for c in self.problem.controls)}",
                self.problem.engine,
                kind=KIND,
                title=TITLE,
                **evidence(log_evidence),
                gradients=gradients,
                seed=seed,
            ),
        )
