"""Explicit time steps in JAX; adjoints through all steps by checkpoints."""

from __future__ import annotations

import inspect
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int

from ..core.precision import compiled, double
from ..models.base import Fields, Model
from ..models.explicit import Explicit
from ..solvers.base import Convergence, Limits
from .base import Engine
from .compiling import compiling
from .solutions import Adjoint, Solution, Tangent
from .time_stepper import TimeStepper

Index = int | Int[Array, ""]
Start = tuple[Fields, Fields, Fields, Fields]
"""x_0, coefficients, values of the forcing by interval, and u_0; or derivatives by these."""
Part = tuple[Fields, Fields, Fields]
"""The internal state, the coefficients and the forcing; or derivatives by these."""


@partial(
    jax.tree_util.register_dataclass, data_fields=["model"], meta_fields=["intervals", "steps"]
)
@dataclass(frozen=True)
class Segment:
    """The steps between two checkpoints: so many intervals of the model with an observed state at
    the end of each, or a part of one; and the number of steps in each."""

    model: Explicit
    intervals: int
    steps: int

    def march(self, x: Fields, c: Fields, values: Fields) -> tuple[Fields, Fields]:
        return self.model.march(x, c, values, self.intervals, self.steps)


def segments(model: Explicit) -> Iterator[tuple[Segment, int, bool]]:
    """All segments, about as many as checkpoints, each with the number of its first interval and
    a flag that is true if it ends at the end of an interval."""
    longest = -(-model.steps // model.checkpoints)
    together = longest // model.every
    if together:
        for k in range(0, model.intervals, together):
            yield Segment(model, min(together, model.intervals - k), model.every), k, True
        return
    parts = -(-model.every // longest)
    ends = [model.every * j // parts for j in range(parts + 1)]
    for k in range(model.intervals):
        for j in range(parts):
            yield Segment(model, 1, ends[j + 1] - ends[j]), k, j == parts - 1


class ExplicitTimeStepper(TimeStepper):
    """Engine for `Explicit` models, in the precision of an embedded engine.

    There is nothing to solve: tolerances are not used, and steps are reported as iterations. The
    throughput counts the unavoidable memory traffic of a step: the state read and written, the
    coefficients read. In the adjoint, the same once more to recompute the states; these and the
    coefficients read, the adjoint state and the gradient read and written.
    """

    traceable = True
    has_tangents = True

    def __init__(self, engine: Engine, dtype: str):
        super().__init__(engine)
        self.dtype = dtype

    @double
    @compiling("the steps")
    def solve(
        self,
        model: Model,
        parameters: Fields,
        *,
        initial: Solution | None = None,
        **limits: Unpack[Limits],
    ) -> Solution:
        """All steps; the checkpoints are the solution's `cache`."""
        assert isinstance(model, Explicit)
        model.check_step(parameters)
        begun = time.perf_counter()
        x, c, values, first = _prepared(model, self._cast(parameters))
        kept, found = [], []
        for segment, k, whole in segments(model):
            kept.append(x)
            x, u = _forward(segment, x, c, values, k)
            if whole:
                found.append(u)
        fields = _joined(first, found)
        finite = all(bool(jnp.all(jnp.isfinite(a))) for a in jax.tree.leaves(x))
        report = _report(
            model, "converged" if finite else "diverged", begun, 2 * _bytes(x) + _bytes(c)
        )
        return Solution(fields, report, kept)

    @double
    @compiling("the steps back")
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
        """Back through the steps, where each segment is run once more from its checkpoint. If u is
        linear in all parameters `wanted`, their derivatives do not depend on the states, which are
        not computed then."""
        assert isinstance(model, Explicit)
        names = tuple(parameters if wanted is None else wanted)
        linear = set(names) <= set(model.linear_in)
        kept: list[Fields] = solution.cache or []
        if not kept and not linear:
            kept = self.solve(model, parameters, **limits).cache
        begun = time.perf_counter()
        m, source = self._cast(parameters), self._cast(source)
        x, c, values, _ = _prepared(model, m)
        bars: Part = jax.tree.map(jnp.zeros_like, (x, {} if linear else c, values))
        parts = list(enumerate(segments(model)))
        most = max(segment.intervals * segment.steps for _, (segment, _, _) in parts)
        room = {} if linear else {n: jnp.zeros((most, *a.shape), a.dtype) for n, a in x.items()}
        for number, (segment, k, whole) in reversed(parts):
            start = x if linear else kept[number]
            room, bars = _backward(segment, room, bars, start, c, values, source, k, float(whole))
        x_bar, c_bar, f_bar = bars
        c_bar = jax.tree.map(jnp.zeros_like, c) | c_bar
        first = {n: a[0] for n, a in source.items()}
        gradient = _parameter_vjp(model, names, m, (x_bar, c_bar, f_bar, first))
        jax.block_until_ready(gradient)
        once = 2 * _bytes(x) + _bytes(c)
        moved = once if linear else 2 * once + _bytes(x) + 2 * _bytes(c)
        report = _report(model, "converged", begun, moved)
        return Adjoint(gradient, jax.tree.map(jnp.negative, source), report)

    @double
    @compiling("the tangent steps")
    def tangent(
        self,
        model: Model,
        parameters: Fields,
        solution: Solution,
        direction: Fields,
        **limits: Unpack[Limits],
    ) -> Tangent:
        """(du/dm) direction, forward through the steps; the changes at checkpoints are its
        `cache`."""
        assert isinstance(model, Explicit)
        begun = time.perf_counter()
        both = _prepared_tangent(model, self._cast(parameters), self._cast(direction))
        (x, c, values, _), (dx, dc, changes, first) = both
        kept, found = [], []
        for segment, k, whole in segments(model):
            kept.append(dx)
            (x, dx), du = _tangent(segment, (x, c, values), (dx, dc, changes), k)
            if whole:
                found.append(du)
        out = _joined(first, found)
        report = _report(model, "converged", begun, 4 * _bytes(x) + 2 * _bytes(c))
        return Tangent(out, report, kept)

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
        """With the checkpoints."""
        if not solution.cache:
            solution = self.solve(model, parameters, **limits)
        return solution, adjoint

    @double
    @compiling("the tangent steps back")
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
        """The adjoint's own steps back, and their derivatives beside them."""
        assert isinstance(model, Explicit)
        names = tuple(parameters if wanted is None else wanted)
        if set(names) <= set(model.linear_in):
            return self.adjoint(model, parameters, solution, source, wanted=wanted, **limits)
        begun = time.perf_counter()
        m, dm = self._cast(parameters), self._cast(direction)
        (x, c, values, _), (_, dc, changes, _) = _prepared_tangent(model, m, dm)
        both = self._cast(jax.tree.map(jnp.negative, adjoint.multiplier)), self._cast(source)
        zero: Part = jax.tree.map(jnp.zeros_like, (x, c, values))
        bars = zero, zero
        starts = zip(segments(model), solution.cache, tangent.cache, strict=True)
        for (segment, k, whole), now, dx in reversed(list(starts)):
            at, along = (now, c, values, both[0]), (dx, dc, changes, both[1])
            bars = _backward_tangent(segment, bars, at, along, k, float(whole))
        first, later = ({n: a[0] for n, a in u_bar.items()} for u_bar in both)
        ends = (*bars[0], first), (*bars[1], later)
        gradient = _parameter_vjp_tangent(model, names, (m, ends[0]), (dm, ends[1]))
        jax.block_until_ready(gradient)
        report = _report(model, "converged", begun, 2 * (5 * _bytes(x) + 3 * _bytes(c)))
        return Adjoint(gradient, jax.tree.map(jnp.negative, both[1]), report)

    def _cast(self, fields: Fields) -> Fields:
        return {k: jnp.asarray(v, self.dtype) for k, v in fields.items()}


def _setup(model: Explicit, m: Fields) -> Start:
    """The initial internal state x_0, the coefficients c, the forcing's values by interval, and
    the observed state u_0."""
    x = model.start(m)
    return x, model.coefficients(m), model.forcing(m), model.observe(x)


_prepared = compiled(_setup)


@compiled
def _prepared_tangent(model: Explicit, m: Fields, direction: Fields) -> tuple[Start, Start]:
    return jax.jvp(partial(_setup, model), (m,), (direction,))


@partial(compiled, static_argnums=1)
def _parameter_vjp(model: Explicit, names: tuple[str, ...], m: Fields, bars: Start) -> Fields:
    """Derivatives by the parameters of those names, from the derivatives by `_setup`'s results."""
    _, vjp = jax.vjp(lambda own: _setup(model, m | own), {k: m[k] for k in names})
    return vjp(bars)[0]


@compiled
def _forward(
    segment: Segment, x: Fields, c: Fields, values: Fields, k: Index
) -> tuple[Fields, Fields]:
    return segment.march(x, c, _part(values, segment, k))


@compiled
def _tangent(
    segment: Segment, primal: Part, changes: Part, k: Index
) -> tuple[tuple[Fields, Fields], Fields]:
    at, along = ((x, c, _part(values, segment, k)) for x, c, values in (primal, changes))
    (x, _), (dx, du) = jax.jvp(segment.march, at, along)
    return (x, dx), du


@partial(compiled, donate_argnums=(1, 2))
def _backward(
    segment: Segment,
    room: Fields,
    bars: Part,
    x: Fields,
    c: Fields,
    values: Fields,
    source: Fields,
    k: Index,
    whole: float,
) -> tuple[Fields, Part]:
    """Derivatives by the state before a segment, from those by the state after it; derivatives by
    coefficients and forcing are added to. The states within are recomputed from x into `room`, the
    same memory for all segments. `whole` is 1 if the segment ends at the end of an interval, else
    0. For steps that are linear in x and f no state matters: there is no room and no derivative by
    the coefficients, and any x serves."""
    model, steps = segment.model, segment.steps

    def ahead(j: Index, carried: tuple[Fields, Fields]) -> tuple[Fields, Fields]:
        f = model.load(_at(values, k + j))

        def step(i: Index, carried: tuple[Fields, Fields]) -> tuple[Fields, Fields]:
            room, x = carried
            room = {n: a.at[j * steps + i].set(x[n]) for n, a in room.items()}
            return room, model.advance(x, c, f)

        return lax.fori_loop(0, steps, step, carried)

    if room:
        room, _ = lax.fori_loop(0, segment.intervals, ahead, (room, x))

    def back(n: Index, bars: Part) -> Part:
        j = segment.intervals - 1 - n
        x_bar, c_bar, f_bar = bars
        f, vjp_load = jax.vjp(model.load, _at(values, k + j))

        def step(i: Index, bars: Part) -> Part:
            now = _at(room, j * steps + steps - 1 - i) if room else x
            own = {n: c[n] for n in c_bar}
            _, vjp = jax.vjp(lambda x, own, f: model.advance(x, c | own, f), now, own, f)
            before, *added = vjp(bars[0])
            return before, *jax.tree.map(jnp.add, bars[1:], tuple(added))

        x_bar = _observed(model, x_bar, _at(source, k + j + 1), whole)
        start = (x_bar, c_bar, jax.tree.map(jnp.zeros_like, f))
        x_bar, c_bar, added = lax.fori_loop(0, steps, step, start)
        return x_bar, c_bar, _added(f_bar, k + j, vjp_load(added)[0])

    return room, lax.fori_loop(0, segment.intervals, back, bars)


@compiled
def _backward_tangent(
    segment: Segment,
    bars: tuple[Part, Part],
    at: tuple[Fields, Fields, Fields, Fields],
    along: tuple[Fields, Fields, Fields, Fields],
    k: Index,
    whole: float,
) -> tuple[Part, Part]:
    """Derivatives by the state before a segment, the coefficients and the forcing, as from
    `_backward`, and the change of these along a change of all arguments. `at` and `along` are the
    state before the segment, coefficients, forcing and source, and their changes."""
    most = segment.intervals * segment.steps
    room = {n: jnp.zeros((most, *a.shape), a.dtype) for n, a in at[0].items()}

    def back(bars: Part, *at: Fields) -> Part:
        return _back(segment, room, bars, *at, k, whole)[1]

    return jax.jvp(back, (bars[0], *at), (bars[1], *along))


@partial(compiled, static_argnums=1)
def _parameter_vjp_tangent(
    model: Explicit, names: tuple[str, ...], at: tuple[Fields, Start], along: tuple[Fields, Start]
) -> Fields:
    """The derivative of `_parameter_vjp` along a change of parameters and derivatives."""
    return jax.jvp(partial(_vjp, model, names), at, along)[1]


_back, _vjp = inspect.unwrap(_backward), inspect.unwrap(_parameter_vjp)


def _observed(model: Explicit, x_bar: Fields, u_bar: Fields, whole: float) -> Fields:
    """x_bar, with `whole` times the derivative through the observed state added."""
    _, vjp = jax.vjp(model.observe, x_bar)  # linear, so any x of this shape serves
    return jax.tree.map(lambda a, b: a + whole * b, x_bar, vjp(u_bar)[0])


def _at(fields: Fields, k: Index) -> Fields:
    return {n: a[k] for n, a in fields.items()}


def _added(fields: Fields, k: Index, part: Fields) -> Fields:
    return {n: a.at[k].add(part[n]) for n, a in fields.items()}


def _part(fields: Fields, segment: Segment, k: Index) -> Fields:
    """The values of a segment's intervals, from interval k."""
    return {n: lax.dynamic_slice_in_dim(a, k, segment.intervals) for n, a in fields.items()}


def _joined(first: Fields, later: list[Fields]) -> Fields:
    """All states along time, when they are computed."""
    out = jax.tree.map(lambda a, *parts: jnp.concatenate([a[None], *parts]), first, *later)
    return jax.block_until_ready(out)


def _bytes(fields: Fields) -> int:
    return sum(a.nbytes for a in jax.tree.leaves(fields))


def _report(model: Explicit, status: str, begun: float, moved: int) -> Convergence:
    """The report on all steps, each of which has to move `moved` bytes of memory."""
    wall = time.perf_counter() - begun
    return Convergence(
        status=status,
        iterations=model.steps,
        residual=0.0,
        tolerance=0.0,
        wall_time=wall,
        spectrum=None,
        throughput=model.steps * moved / wall,
        history=np.array([[model.steps, 0.0]]),
        method="explicit",
        work=float(model.steps),
    )
