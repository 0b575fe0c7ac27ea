"""Options shared by models with time steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.checks import count, positive
from ..core.errors import ConfigError
from ..core.quantities import conversion
from ..core.texts import counted


def steps_text(model: Any) -> str:
    """A model's time steps in a few words."""
    every = f", a state every {model.every}" if model.every > 1 else ""
    return f"{counted(model.steps, 'step')} of {model.step:g} {model.time_units}{every}"


def time_steps(
    step: Any, steps: Any, every: Any, checkpoints: Any, time_units: Any
) -> dict[str, Any]:
    """The checked options of a model with time steps, by name; `checkpoints` is by default the
    square root of `steps`."""
    length, number_of = positive("step", step), count("steps", steps)
    if number_of % count("every", every):
        raise ConfigError(f"every: found {every}, expected a divisor of steps, {number_of}")
    if not isinstance(time_units, str) or not time_units:
        raise ConfigError(f"time_units: found {time_units!r}, expected a text")
    if conversion(time_units, "s") is None:
        raise ConfigError(f"time_units: found {time_units!r}, expected a unit of time")
    kept = int(np.ceil(np.sqrt(number_of))) if checkpoints is None else checkpoints
    return {
        "step": length,
        "steps": number_of,
        "every": int(every),
        "checkpoints": min(count("checkpoints", kept), number_of),
        "time_units": time_units,
    }
