"""Sequential Monte Carlo on the posterior of a `Problem`, moved by its exact gradients."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ..core.checks import check_kind, count, fraction
from ..core.errors import ConvergenceError
from ..core.frozen import Frozen
from ..core.pickling import AsGiven
from ..problem.problem import Problem
from ..problem.specification import problem_parts
from ..problem.variables import transformed_attributes
from ..results.dataset import Variables, describe, grid_coordinates, named
from ..results.samples import DIMS, KIND, TITLE, sample_coordinates
from . import journal as journals
from . import tempering
from .checks import check_collapse, check_diversity, check_turns
from .options import check_names, set_counts
from .reference import Particles, Points, Reference, reference, trajectory
from .runs import Tempered, paths, pooled, run_attributes, run_variables, taken

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
    """Sampler of the posterior of a problem's controls, and of the scale of the noise where that is
    unknown,

        p(theta | d) = p(d | u(theta)) p(theta) / Z ~ exp(-J(theta)).

    Particles are followed from the prior to the posterior by tempering, and moved by Hamiltonian
    Monte Carlo beside a Gaussian that is fitted to them at every stage, with values and gradients
    from one forward and one adjoint solve a step. All happens in the whitened variable x,
    theta = mu + R x, so that it does not depend on the grid. With an unknown scale of the noise the
    width of the posterior differs from particle to particle: where data are informative, ln Z then
    needs more particles, or moves, such as 10.

    Parameters
    ----------
    problem : Problem
        A problem that has a prior (see `Problem.prior`), and no bounds on theta. A user's own
        misfit is taken as -ln p(d | u).
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
        If a setting cannot be used, or the problem has no prior.
    """

    problem: Problem
    particles: int = 128
    moves: int = 2
    leapfrogs: int = 5
    ess: float = 0.5
    batch: int = 32

    def __post_init__(self) -> None:
        set_counts(self, particles=2, moves=1, leapfrogs=1, batch=1)
        fraction("ess", self.ess)
        check_kind("problem", self.problem, Problem)
        _ = self.problem.prior
        self._check_names()

    def _check_names(self) -> None:
        """Check that no two variables, coordinates or dimensions of results have the same name."""
        taken = {"turn", *grid_coordinates(self.problem.model.grid)}
        for c in self.problem.parts:
            taken |= {*c.field_dims, *c.coordinates}
        for c in self.problem.parts:
            label = transformed_attributes(c)["long_name"].replace(" ", "_")
            names = [c.name, *(f"{label}_{end}" for end in ("mean", "sd", "true"))]
            check_names("controls", names, taken)
            taken |= set(names)

    @cached_property
    def _likelihood(self) -> Problem:
        return self.problem.likelihood

    def _evaluate(self, x: Particles) -> Points:
        prior = self.problem.prior
        theta = prior.theta(x)
        found = self._likelihood.evaluate_many(theta, batch=self.batch)
        slope = prior.root_transposed(found.gradient)
        if prior.gaussian:
            return Points(x, found.misfit, slope, 0.5 * np.sum(x**2, axis=1), x)
        potential, pull = prior.potential(theta)
        return Points(x, found.misfit, slope, potential, prior.root_transposed(pull))

    def _drawn(self, generator: np.random.Generator, count: int) -> Particles:
        """The whitened variable of draws from the prior."""
        z, prior = generator.standard_normal((count, self.problem.size)), self.problem.prior
        return z if prior.gaussian else prior.white(prior.of_normal(z))

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
            Samples of each control, and of the ``noise_scale`` where it is unknown: the particles,
            ``draw``, of each run, ``chain``; several runs have a ``weight`` each, Z over its mean.
            ``log_density``, ln p(d | theta) + ln p(theta). Mean, standard deviation and, where
            known, truth of theta (``ln_permeability_mean``, ``_sd``, ``_true`` under transform
            "log"); ln Z and how it was computed.

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
        points = self._evaluate(self._drawn(np.random.default_rng([*stream, 0]), self.particles))
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

    def _made_with(self, seed: int) -> dict[str, Any]:
        """The inputs that determine the samples; the problem is also probed at two particles."""
        x = self._drawn(np.random.default_rng(0), 2)
        return {
            **problem_parts(self.problem),
            "prior": self.problem.prior.theta(x),
            "values": self._evaluate(x).value,
            **{k: getattr(self, k) for k in ("particles", "moves", "leapfrogs", "ess", "batch")},
            "seed": seed,
        }

    def _dataset(self, states: list[State], seed: int) -> xr.Dataset:
        prior, constant = self.problem.prior, self.problem.log_normaliser
        theta = np.concatenate([prior.theta(now.points.x) for now in states])
        log_evidence = np.array([now.log_evidence for now in states]) + constant
        runs = len(states), self.particles
        variables: Variables = {}
        coordinates = grid_coordinates(self.problem.model.domain) | sample_coordinates(*runs)
        physical = [self.problem.physical(row) for row in theta]
        parts = [self.problem.split(row) for row in theta]
        for c in self.problem.parts:
            of = transformed_attributes(c)
            coordinates |= c.coordinates
            own = np.stack([p[c.name] for p in parts])
            mean, variance = pooled(own.reshape(*runs, *own.shape[1:]), log_evidence)
            label = of["long_name"].replace(" ", "_")
            columns = {
                "mean": (mean, "mean of {}"),
                "sd": (np.sqrt(variance), "standard deviation of {}"),
            }
            if c.truth is not None and c.physical.basis == "field":
                columns["true"] = c.transformed(c.truth), "true {}"
            variables |= {
                f"{label}_{k}": (c.dims, a, of | {"long_name": text.format(of["long_name"])})
                for k, (a, text) in columns.items()
            }
            fields = np.stack([p[c.name] for p in physical])
            fields = fields.reshape(*runs, *fields.shape[1:])
            variables[c.name] = ((*DIMS, *c.field_dims), fields, c.parameter.attributes)
        misfit = np.stack([now.points.value for now in states])
        potential = np.stack([now.points.prior for now in states])
        log_density = constant + prior.log_normaliser - misfit - potential
        variables["misfit"] = DIMS, misfit, named("misfit of the data")
        variables["log_density"] = DIMS, log_density, named("ln p(d | theta) + ln p(theta)")
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
                **run_attributes(log_evidence),
                gradients=gradients,
                seed=seed,
            ),
        )
