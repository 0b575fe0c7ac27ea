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
from .base import Adjoint, Solution, TimeStepper


@dataclass(frozen=True)
class Kept:
    """A checkpoint: the solution of a step, and the state before it, for the extrapolated start of
    the next solve. Steps repeated from both have the same bits."""

    now: Solution
    before: Fields


class ImplicitTimeStepper(TimeStepper):
    """Engine for `Transient` models, by another engine that solves their steps.

    Each solve starts from the extrapolation of the last two states. The `Convergence` has the sums
    of iterations, work and seconds over the steps, and the largest residual.
    """

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
        reports: list[Convergence] = []
        back = None
        end = model.steps
        for first in sorted(kept, reverse=True):
            states = [kept[first]]
            while first + len(states) <= end:
                states.append(forward(states[-1]))
            for k in range(end, first, -1):
                now, before = states[k - first], states[k - first - 1]
                assert now is not None
                if k % model.every == 0:
                    bar = {n: bar[n] + given[n][k // model.every] for n in names}
                m = own | _previous(before.now.fields if before else start)
                back = self.engine.adjoint(model.one_step, m, now.now, bar, initial=back, **limits)
                reports.append(back.convergence)
                gradient = {n: gradient[n] + np.asarray(back.gradient[n]) for n in gradient}
                bar = {n: np.asarray(back.gradient[f"previous_{n}"]) for n in names}
                if k % model.every == 0:
                    for n in names:
                        multipliers[n][k // model.every] = back.multiplier[n]
                if not back.convergence.usable:
                    return Adjoint(gradient, multipliers, _together(reports))
            end = first
        gradient |= {f"initial_{n}": bar[n] + given[n][0] for n in names}
        return Adjoint(gradient, multipliers, _together(reports))

    @double
    def tangent(
        self,
        model: Model,
        parameters: Fields,
        solution: Solution,
        direction: Fields,
        **limits: Unpack[Limits],
    ) -> tuple[Fields, Convergence]:
        """(du/dm) direction, forward through the steps."""
        assert isinstance(model, Transient)
        own, start = model.split(parameters)
        along, change = model.split(direction)
        forward = self._step(model, own, start, _as_before(solution, limits))
        reports: list[Convergence] = []
        last = None
        saved = [change]
        for k in range(1, model.steps + 1):
            m = own | _previous(last.now.fields if last else start)
            last = forward(last)
            change, convergence = self.engine.tangent(
                model.one_step, m, last.now, along | _previous(change), **limits
            )
            reports.append(convergence)
            if k % model.every == 0:
                saved.append(change)
        out = {v.name: jnp.stack([s[v.name] for s in saved]) for v in model.unknowns}
        return out, _together(reports)

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
