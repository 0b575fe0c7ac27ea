"""Equal time steps, and the states that are kept: what all models with time steps share."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from ..core.checks import as_text, count, positive
from ..core.errors import ConfigError
from ..core.frozen import Frozen
from ..core.quantities import conversion
from ..core.texts import counted


class TimeSteps(Frozen):
    """Equal time steps from t = 0.

    Attributes
    ----------
    step : float
        Length of a step, in `time_units`.
    steps : int
        Number of steps.
    every : int
        Number of steps between the states in the result, a divisor of `steps`.
    checkpoints : int
        Number of further states kept for the gradient.
    time_units : str
    """

    step: float
    steps: int
    every: int
    checkpoints: int
    time_units: str

    def _set_steps(
        self, step: float, steps: int, every: int, checkpoints: int | None, time_units: str
    ) -> None:
        """Check and set the attributes; `checkpoints` is by default the square root of `steps`."""
        self._set(step=positive("step", step), steps=count("steps", steps))
        self._set(every=count("every", every))
        if self.steps % self.every:
            raise ConfigError(f"every: found {every}, expected a divisor of steps, {self.steps}")
        if conversion(as_text(time_units, "time_units"), "s") is None:
            raise ConfigError(f"time_units: found {time_units!r}, expected a unit of time")
        kept = int(np.ceil(np.sqrt(self.steps))) if checkpoints is None else checkpoints
        self._set(checkpoints=min(count("checkpoints", kept), self.steps), time_units=time_units)

    @property
    def times(self) -> Float[np.ndarray, " times"]:
        """The times of the states in the result, in `time_units`."""
        return self.step * np.arange(0, self.steps + 1, self.every)

    @property
    def steps_text(self) -> str:
        """The steps in a few words."""
        every = f", a state every {self.every}" if self.every > 1 else ""
        return f"{counted(self.steps, 'step')} of {self.step:g} {self.time_units}{every}"

    def steps_specification(self) -> dict[str, Any]:
        """The attributes, as options of a ``[model]`` table."""
        names = ("step", "steps", "every", "checkpoints", "time_units")
        return {name: getattr(self, name) for name in names}
