"""Time-dependent problems du/dt = R(u, m) for any model's R, by implicit Euler steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from ..core.checks import check_kind
from ..core.errors import ConfigError
from ..core.grid import Grid
from ..core.quantities import converter
from .base import Fields, Model
from .declarations import Bound, Described, Elliptic, Parameter
from .time_steps import TimeSteps
from .wrapper import Wrapper


@dataclass(frozen=True, repr=False)
class Step(Wrapper):
    """One implicit Euler step of du/dt = R(u, m):

        R(u, m) + (u_previous - u) / dt = 0.

    Parameters
    ----------
    model : Model
        The model of R. A step has no null space, even if R has one: u_previous fixes the constant.
    length : float
        dt.

    Notes
    -----
    Parameters: the model's, and ``previous_<unknown>``, a cell field.
    """

    model: Model
    length: float

    name: ClassVar[str] = "step"

    @property
    def options_text(self) -> str:
        return f"length {self.length:g} {self.model.time_units}; {self.model.text}"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        before = (
            Parameter(f"previous_{v.name}", v.units, f"{v.name} a step before")
            for v in self.unknowns
        )
        return (*self.model.parameters, *before)

    def julia_spec(self) -> dict[str, Any] | None:
        table = self.model.julia_spec()
        if table is None:
            return None
        return {
            "model": self.model.name,
            "table": table,
            "length": self.length,
            "previous": f"previous_{self.unknowns[0].name}",
        }

    def julia_source_path(self) -> Path | None:
        return self.model.julia_source_path()

    @property
    def lower(self) -> dict[str, Bound]:
        found = self.model.lower
        return {k: replace(b, rate=b.rate + 1.0 / self.length) for k, b in found.items()}

    def guess(self, m: Fields) -> Fields:
        return _split(self.model, m, "previous")[1]

    def prepare(self, m: Fields) -> dict[str, Any]:
        own, before = _split(self.model, m, "previous")
        return {"model": self.model.prepare(own), "before": before}

    def residual(self, u: Fields, c: Any) -> Fields:
        r = self.model.residual(u, c["model"])
        return {k: r[k] + (c["before"][k] - u[k]) / self.length for k in u}

    def elliptic(self, u: Fields, c: Any) -> dict[str, Elliptic] | None:
        found = self.model.elliptic(u, c["model"])
        if found is None:
            return None
        return {k: replace(e, sink=e.sink + 1.0 / self.length) for k, e in found.items()}

    @property
    def elliptic_declared(self) -> bool:
        return self.model.elliptic_declared


@dataclass(frozen=True, repr=False)
class Transient(TimeSteps, Wrapper):
    """du/dt = R(u, m) from an initial state, in implicit Euler steps

        (u_k - u_(k-1)) / dt = R(u_k, m),    k = 1, ..., steps,

    first order in dt and unconditionally stable. The gradient is that of all steps together; states
    that it needs are solved for again from checkpoints.

    Parameters
    ----------
    model : Model
        The model of R, the time derivatives of its unknowns.
    step : float
        dt.
    steps : int
    every : int
        Number of steps between the states in the result, the initial one included: fields of
        shape ``(times, *grid.shape)``.
    checkpoints : int, optional
        Number of further states kept for the gradient, by default the square root of `steps`;
        twice as many while it is computed, which solves for all states once more.
    time_units : str, optional
        Unit of dt and of times, by default the model's; R is in units of u over the model's.

    Notes
    -----
    Parameters: the model's, and ``initial_<unknown>``, a cell field. Further state: the model's,
    at each time.

    Raises
    ------
    ConfigError
        If dt is not positive, or `steps` is not a positive whole number that `every` divides.
    """

    model: Model
    step: float
    steps: int
    every: int
    checkpoints: int
    time_units: str

    name: ClassVar[str] = "transient"

    def __init__(
        self,
        model: Model,
        step: float,
        steps: int,
        *,
        every: int = 1,
        checkpoints: int | None = None,
        time_units: str | None = None,
    ):
        check_kind("model", model, Model)
        if isinstance(model, Transient | Step):
            raise ConfigError(f"model: found {type(model).__name__}, expected a steady Model")
        time_units = model.time_units if time_units is None else time_units
        self._set(model=model)
        self._set_steps(step, steps, every, checkpoints, time_units)

    @cached_property
    def one_step(self) -> Step:
        """The model of each step."""
        return Step(self.model, self.dt)

    @cached_property
    def dt(self) -> float:
        """The length of a step in the model's unit of time."""
        return converter("time_units", self.time_units, self.model.time_units)(self.step)

    @property
    def text(self) -> str:
        return f"{type(self).__name__}, {self.steps_text}, of {self.model.text}"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        start = (
            Parameter(f"initial_{v.name}", v.units, f"{v.name} at the start") for v in self.unknowns
        )
        return (*self.model.parameters, *start)

    @property
    def output_variables(self) -> tuple[Described, ...]:
        return tuple((v, ("time", *dims)) for v, dims in self.model.output_variables)

    @classmethod
    def from_specification(
        cls, grid: Grid, table: Mapping[str, Any], units: Mapping[str, str]
    ) -> Transient:
        from . import build

        return cls(**{**table, "model": build(grid, table["model"], units)})

    def specification(self) -> dict[str, Any] | None:
        inner = self.model.specification()
        if inner is None:
            return None
        return {"name": self.name, "model": inner} | self.steps_specification()

    def julia_spec(self) -> dict[str, Any] | None:
        return self.one_step.julia_spec()

    def split(self, m: Fields) -> tuple[Fields, Fields]:
        """The model's own parameters, and the initial state."""
        return _split(self.model, m, "initial")

    def residual(self, u: Fields, c: Any) -> Fields:
        """The residuals of all steps at once, which needs every state (`every` = 1); the initial
        state minus u_0 comes first. Solves go step by step."""
        own, start = self.split(c)
        inner = self.model.prepare(own)
        if self.every != 1:
            raise ConfigError(f"every: found {self.every}, expected 1 for a residual of all steps")

        def one(before: Fields, now: Fields) -> Fields:
            return self.one_step.residual(now, {"model": inner, "before": before})

        steps = jax.vmap(one)({k: a[:-1] for k, a in u.items()}, {k: a[1:] for k, a in u.items()})
        return {k: jnp.concatenate([(start[k] - u[k][0])[None], r]) for k, r in steps.items()}

    def outputs(self, u: Fields, m: Fields) -> Fields:
        own, _ = self.split(m)
        return jax.vmap(lambda u: self.model.outputs(u, own))(u)


def _split(model: Model, m: Fields, prefix: str) -> tuple[Fields, Fields]:
    """The parameters of the model among m, and a state, whose fields have names with a prefix."""
    own = {p.name: m[p.name] for p in model.parameters if p.name in m}
    return own, {v.name: m[f"{prefix}_{v.name}"] for v in model.unknowns}
