"""The target of what a user wants to sample."""

from __future__ import annotations

from ..core.errors import ConfigError
from ..problem.problem import Problem
from .density_target import DensityTarget
from .log_density import LogDensity
from .problem_target import ProblemTarget
from .target import Target

Sampled = Problem | LogDensity
"""What can be sampled."""


def target_of(given: Sampled, batch: int) -> Target:
    """The target, whose `host` computes so many rows at a time."""
    if isinstance(given, LogDensity):
        # The same one again, with the code that is compiled.
        key = batch if given.gradient == "returned" else 0
        if key not in given.targets:
            given.targets[key] = DensityTarget(given, batch)
        return given.targets[key]
    if isinstance(given, Problem):
        return ProblemTarget(given, batch)
    made = " (make one: call the class)" if isinstance(given, type) else ""
    raise ConfigError(
        f"target: found {type(given).__name__}{made}, expected a Problem, or a LogDensity for a"
        " function"
    )
