"""Adaptation of Markov chains in windows, all chains together.

The step is adapted throughout by dual averaging; at the end of each window the Gaussian that steps
are relative to, N(mean, C), is made anew from the window's draws of all chains. Windows double in
length, between a first one that only finds the posterior and a last one for the step alone.
(Carpenter et al. 2017, J. Stat. Softw. 76(1), sec. 4.2, there by chain.)
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from ..statistics.fisher import fisher_covariance
from .reference import Reference, reference
from .target import Points

FIRST, LAST = 25, 50
"""Transitions of the first and of the last window."""
DIRECTIONS = 128
"""Most directions in which C differs from the identity, where the dimension is larger."""
ENOUGH = 3
"""Different draws a component for a covariance of all components."""


def window_ends(warmup: int) -> Int[np.ndarray, " windows"]:
    """Ends of the windows, the last one the end of the warm-up."""
    ends, length = [min(FIRST, warmup)], FIRST
    # A window is joined with the next one where no room for that is left.
    while warmup - ends[-1] > LAST + length:
        if warmup - ends[-1] - LAST < 3 * length:
            length = warmup - ends[-1] - LAST
        ends.append(ends[-1] + length)
        length *= 2
    return np.array(sorted({*ends, warmup}))


def gaussian(points: Points) -> Reference:
    """N(mean, C) from draws x and the gradients g of Phi + Psi there.

    Where draws are many, C is the `fisher_covariance`, whether chains have mixed or not. Else it is
    made from the gradients of Phi, in the directions that data inform.
    """
    count, n = points.x.shape
    directions = n if n <= DIRECTIONS else DIRECTIONS
    if len(np.unique(points.x, axis=0)) < ENOUGH * n:
        found = reference(points, np.full(count, 1.0 / count), 1.0)
        return padded(found, directions)
    covariance = fisher_covariance(points.x, points.slope + points.prior_slope)
    squares, vectors = np.linalg.eigh(covariance)
    return padded(Reference(np.mean(points.x, axis=0), vectors, np.sqrt(squares)), directions)


def padded(about: Reference, directions: int) -> Reference:
    """The same, with as many directions as asked for: the most important ones, or ones of no effect
    in addition. Compiled code depends on their number."""
    order = np.argsort(-np.abs(np.log(about.scale)), kind="stable")[:directions]
    vectors, scale = about.vectors[:, order], about.scale[order]
    more = directions - len(order)
    return Reference(
        about.mean,
        np.pad(vectors, ((0, 0), (0, more))),
        np.pad(scale, (0, more), constant_values=1.0),
    )


def identity(mean: Float[np.ndarray, " n"]) -> Reference:
    """N(mean, I)."""
    n = len(mean)
    none = Reference(mean, np.zeros((n, 0)), np.zeros(0))
    return padded(none, min(n, DIRECTIONS))
