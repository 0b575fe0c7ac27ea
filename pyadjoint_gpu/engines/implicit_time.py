"""Implicit time steps, each a solve of an engine; adjoints through all steps by checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Unpack

import jax.numpy as jnp
import numpy as np

from ..core.precision import double
from ..models.base import Fields, Model
from ..models.transient import Transient
from ..solvers.base import Convergence, Limits
from .base import Engine
from .solutions import Adjoint, Solution, Tangent
from .time_stepper import TimeStepper


@dataclass(frozen=True)
class Kept:
    """A checkpoint: the solution of a step, and the state before it, for the extrapolated start of
    the next solve. Steps repeated from both have the same bits."""

    now: Solution
    before: Fields


class ImplicitTimeStepper(TimeStepper):
    """Engine for `Transient` models, by another engine that solves their steps.

    Each solve starts from the extrapolation of the last two states. The `Convergence` has the sums
    of iterations, work and seconds over the steps, and the largest residual. For Hessian products
    all states, multipliers and changes are kept.
    """

    def __init__(self, engine: Engine):
        super().__init__(engine)
        self.has_tangents = engine.has_tangents

    @double
    def solve(
        self,
        model: Model,
        parameters: Fields,
        *,
        initial: Solution | None = None,
        **limits: Unpack[Limits],
    ) -> Solution:
        """All steps. `initial` is not used: the step before is a better start."""
        assert isinstance(model, Transient)
        own, start = model.split(parameters)
        solve = self._step(model, own, start, limits)
        saved = [start]
        reports: list[Convergence] = []
        kept: dict[int, Kept | None] = {0: None}
        last: Kept | None = None
        stride = -(-model.steps // model.checkpoints)
        for k in range(1, model.steps + 1):
            last = solve(last)
            reports.append(last.now.convergence)
            if not last.now.convergence.usable:
                saved += [last.now.fields] * (len(model.times) - len(saved))
                break
            if k % model.every == 0:
                saved.append(last.now.fields)
            if k % stride == 0:
                kept[k] = last
        fields = {}
        for v in model.unknowns:
            # The initial state is in the precision of the parameters, others in the engine's.
            dtype = np.asarray(saved[-1][v.name]).dtype
            fields[v.name] = np.stack([np.asarray(s[v.name], dtype) for s in saved])
        return Solution(fields, _together(reports), kept)

    @double
    def adjoint(
        self,
        model: Model,
        parameters: Fields,
        solution: Solution,
        source: Fields,
        *,
        initial: Adjoint | None = None,
        wanted: Collection[str] | None = None,
        **limits: Unpack[Limits],
    ) -> Adjoint:
        """Back through the steps, where the segments between checkpoints are solved once more; the
        multipliers are those of the steps in the state."""
        assert isinstance(model, Transient)

        def one(k: int, m: Fields, now: Solution, bar: Fields, last: Adjoint | None) -> Adjoint:
            return self.engine.adjoint(model.one_step, m, now, bar, initial=last, **limits)

        return self._back(model, parameters, solution, source, one, limits)

    @double
    def tangent(
        self,
        model: Model,
        parameters: Fields,
        solution: Solution,
        direction: Fields,
        **limits: Unpack[Limits],
    ) -> Tangent:
        """(du/dm) direction, forward through the steps; the changes of all states are its
        `cache`."""
        assert isinstance(model, Transient)
        own, start = model.split(parameters)
        along, change = model.split(direction)
        forward = self._step(model, own, start, _as_before(solution, limits))
        kept: dict[int, Kept | None] = solution.cache or {}
        reports: list[Convergence] = []
        last = None
        changes = [change]
        for k in range(1, model.steps + 1):
            m = own | _previous(last.now.fields if last else start)
            last = kept.get(k) or forward(last)
            change, convergence, _ = self.engine.tangent(
                model.one_step, m, last.now, along | _previous(change), **limits
            )
            reports.append(convergence)
            changes.append(change)
        saved = changes[:: model.every]
        out = {v.name: jnp.stack([s[v.name] for s in saved]) for v in model.unknowns}
        return Tangent(out, _together(reports), changes)

    @double
    def linearise(
        self,
        model: Model,
        parameters: Fields,
        solution: Solution,
        adjoint: Adjoint | None,
        source: Fields,
        **limits: Unpack[Limits],
    ) -> tuple[Solution, Adjoint | None]:
        """With the solutions of all steps, and the multipliers of all of them."""
        assert isinstance(model, Transient)
        own, start = model.split(parameters)
        forward = self._step(model, own, start, _as_before(solution, limits))
        given: dict[int, Kept | None] = solution.cache or {}
        kept: dict[int, Kept | None] = {0: None}
        last = None
        for k in range(1, model.steps + 1):
            m = own | _previous(last.now.fields if last else start)
            last = given.get(k) or forward(last)
            now, _ = self.engine.linearise(model.one_step, m, last.now, None, {}, **limits)
            kept[k] = Kept(now, last.before)
        solution = replace(solution, cache=kept)
        if adjoint is not None and model.every > 1:
            adjoint = self.adjoint(model, parameters, solution, source, **limits)
        return solution, adjoint

    @double
    def second_order(
        self,
        model: Model,
        parameters: Fields,
        solution: Solution,
        adjoint: Adjoint,
        direction: Fields,
        tangent: Tangent,
        source: Fields,
        *,
        wanted: Collection[str] | None = None,
        **limits: Unpack[Limits],
    ) -> Adjoint:
        """Back through the steps, as the adjoint."""
        assert isinstance(model, Transient)
        along, _ = model.split(direction)
        changes: list[Fields] = tangent.cache
        multipliers: dict[int, Fields] = adjoint.cache or {
            k: {n: a[k] for n, a in adjoint.multiplier.items()} for k in range(model.steps + 1)
        }

        def one(k: int, m: Fields, now: Solution, bar: Fields, last: Adjoint | None) -> Adjoint:
            return self.engine.second_order(
                model.one_step,
                m,
                now,
                replace(adjoint, multiplier=multipliers[k]),
                along | _previous(changes[k - 1]),
                Tangent(changes[k], tangent.convergence),
                bar,
                **limits,
            )

        return self._back(model, parameters, solution, source, one, limits)

    def _back(
        self,
        model: Transient,
        parameters: Fields,
        solution: Solution,
        source: Fields,
        one: Callable[[int, Fields, Solution, Fields, Adjoint | None], Adjoint],
        limits: Limits,
    ) -> Adjoint:
        """Back through the steps by `one`, an adjoint of step k with its parameters, solution and
        source, and the adjoint of the step after it. The multipliers of all steps are the result's
        `cache` if the solutions of all are in memory."""
        own, start = model.split(parameters)
        names = [v.name for v in model.unknowns]
        forward = self._step(model, own, start, _as_before(solution, limits))
        kept: dict[int, Kept | None] = solution.cache or {0: None}
        # Accumulate in the precision of the state.
        given = {k: np.asarray(source[k], np.asarray(solution.fields[k]).dtype) for k in names}
        dtype = np.result_type(*(a.dtype for a in given.values()))
        bar = {k: np.zeros_like(given[k][0]) for k in names}
        gradient = {k: np.zeros(np.shape(v), dtype) for k, v in own.items()}
        multipliers = {k: np.zeros_like(given[k]) for k in names}
        everything: dict[int, Fields] | None = {} if len(kept) > model.steps else None
        reports: list[Convergence] = []
        back = None
        end = model.steps
        for first in sorted(kept, reverse=True):
            states = [kept[first]]
            for k in range(first + 1, end + 1):
                states.append(kept.get(k) or forward(states[-1]))
            for k in range(end, first, -1):
                now, before = states[k - first], states[k - first - 1]
                assert now is not None
                if k % model.every == 0:
                    bar = {n: bar[n] + given[n][k // model.every] for n in names}
                m = own | _previous(before.now.fields if before else start)
                back = one(k, m, now.now, bar, back)
                reports.append(back.convergence)
                gradient = {n: gradient[n] + np.asarray(back.gradient[n]) for n in gradient}
                bar = {n: np.asarray(back.gradient[f"previous_{n}"]) for n in names}
                if everything is not None:
                    everything[k] = back.multiplier
                if k % model.every == 0:
                    for n in names:
                        multipliers[n][k // model.every] = back.multiplier[n]
                if not back.convergence.usable:
                    return Adjoint(gradient, multipliers, _together(reports))
            end = first
        gradient |= {f"initial_{n}": bar[n] + given[n][0] for n in names}
        return Adjoint(gradient, multipliers, _together(reports), everything)

    def _step(
        self, model: Transient, own: Fields, start: Fields, limits: Limits
    ) -> Callable[[Kept | None], Kept]:
        """The function that solves the step after a checkpoint, or the first one."""

        def solve(last: Kept | None) -> Kept:
            state = last.now.fields if last else start
            guess = None
            if last:
                ahead = {k: 2.0 * state[k] - last.before[k] for k in state}
                guess = replace(last.now, fields=ahead)
            m = own | _previous(state)
            return Kept(self.engine.solve(model.one_step, m, initial=guess, **limits), state)

        return solve


def _as_before(solution: Solution, limits: Limits) -> Limits:
    """The limits, with the tolerance of the solution."""
    return {**limits, "tolerance": solution.convergence.tolerance}


def _previous(fields: Fields) -> Fields:
    return {f"previous_{k}": v for k, v in fields.items()}


def _together(reports: list[Convergence]) -> Convergence:
    """The convergence of many solves: worst status, largest residual, sums of the rest."""
    worst = max(reports, key=lambda c: (not c.usable, c.status == "round-off"))
    wall = sum(c.wall_time for c in reports)
    counts = np.cumsum([c.iterations for c in reports])
    residuals = [c.residual for c in reports]
    return replace(
        worst,
        iterations=int(counts[-1]),
        residual=max(residuals),
        wall_time=wall,
        throughput=sum(c.throughput * c.wall_time for c in reports) / wall,
        history=np.column_stack([counts, residuals]),
        work=sum(c.work for c in reports),
    )
