"""Warnings of a sampler's doubtful results, one line each."""

from __future__ import annotations

import numpy as np
import scipy.stats
from jaxtyping import Float

from ..core.errors import warn
from .hmc import SAFE

REFUSED = 0.5
"""Acceptance of trajectories below which to warn."""
NOISE = 1.0
"""Standard deviation of ln p(d | theta)'s estimates above which theta hardly moves (Doucet, Pitt,
Deligiannidis and Kohn 2015, Biometrika 102, 295)."""
DISTINCT = 0.1
"""Fraction of theta's particles that must be distinct at the end."""

IMPOSSIBLE = 0.05
"""Fraction of G that are not finite, above which to warn."""
COLLAPSE = 0.5
"""Fraction of the ESS that was asked for, below which to warn."""
TURN = 0.5
"""Angle of trajectories below which to warn."""


AGREED = 1.05
"""R-hat above which to warn of chains that disagree."""
CHANCE = 1e-3
"""Probability below which a scatter is not taken for chance."""
UNKNOWN = 1.0
"""Standard deviation of a run's ln Z above which to warn."""
FAILED = 0.01
"""Fraction of proposals above which to warn of failures and divergences."""


class SamplingWarning(RuntimeWarning):
    """A sampler finished, but there is reason not to trust its result."""


def check_trajectories(acceptance: float, shortest: float, longest: float) -> None:
    """Warn of the worst trajectories of all stages of samplers of s."""
    if shortest < SAFE[0] or longest > SAFE[1]:
        _warn(
            f"trajectories are {shortest:.2g} to {longest:.2g} marginal standard deviations long,"
            f" expected {SAFE[0]:.2g} to {SAFE[1]:.2g}: more `leapfrogs` make them longer; repeat"
            " the run, and trust the scatter of ln Z only"
        )
    if acceptance < REFUSED:
        _warn(f"in one stage {acceptance:.0%} of trajectories were accepted: take more `leapfrogs`")


def check_noise(deviation: float) -> None:
    """Warn of a large scatter of repeated estimates of ln p(d | theta)."""
    if not deviation <= NOISE:
        _warn(
            f"estimates of ln p(d | theta) scatter by {deviation:.2g}, expected below {NOISE:g}:"
            " give the inner sampler more particles or moves"
        )


def check_possible(count: int, total: int, example: str) -> None:
    """Warn of many G that are not finite; `example` is one theta."""
    if count > IMPOSSIBLE * total:
        _warn(
            f"G was not finite for {count} of {total} values of theta{example}: their likelihood"
            " counts as zero; see `forward`, or give a prior of what is possible"
        )


def check_diversity(theta: Float[np.ndarray, "particles parameters"]) -> None:
    """Warn of few distinct particles at the end."""
    distinct = len(np.unique(theta, axis=0)) / len(theta)
    if distinct < DISTINCT:
        _warn(f"{distinct:.0%} of the particles are distinct: take more particles or moves")


def check_collapse(ess: Float[np.ndarray, " stages"], wanted: float) -> None:
    """Warn of stages with a low ESS / N."""
    least = np.nanmin(ess)
    if least < COLLAPSE * wanted:
        _warn(
            f"ESS fell to {least:.1%} of the particles in one stage, {wanted:.0%} was asked for:"
            " most were impossible; take more particles, or a prior of what can be solved"
        )


def check_turns(angle: float) -> None:
    """Warn of a small least angle of a stage's trajectories."""
    if angle < TURN:
        _warn(
            f"trajectories turn by {angle:.2g} only, expected {TURN:g} or more: take more"
            " `leapfrogs`; repeat the run, and trust the scatter of ln Z only"
        )


def check_scatter(
    log_evidence: Float[np.ndarray, " runs"], within: Float[np.ndarray, " runs"]
) -> None:
    """Warn of ln Z that is not known to 1, or of runs that scatter more than each of them says."""
    between = float(np.std(log_evidence, ddof=1)) if len(log_evidence) > 1 else 0.0
    expected = float(np.mean(within)) ** 0.5
    freedom = max(len(log_evidence) - 1, 1)
    if freedom * between**2 > expected**2 * scipy.stats.chi2(freedom).isf(CHANCE):
        _warn(
            f"ln Z of runs scatters by {between:.2g}, expected {expected:.2g}: runs have found"
            " different parts of the posterior; take more particles or moves"
        )
    elif max(between, expected) > UNKNOWN:
        _warn(
            f"ln Z of a run is known to {max(between, expected):.2g} only: take more particles or"
            " repeats"
        )


def check_chains(r_hat: float, failures: int, divergences: int, proposals: int) -> None:
    """Warn of Markov chains that disagree, or had many proposals without a density, or with a
    trajectory that diverged."""
    if not r_hat <= AGREED:
        _warn(
            f"chains disagree: R-hat is {r_hat:.3g}, expected {AGREED:g} or less: take more draws,"
            ' or, if there are several modes, method="smc"'
        )
    check_failures(failures, proposals)
    if divergences > FAILED * proposals:
        _warn(
            f"{divergences} of {proposals} trajectories diverged: take a longer `warmup`, or other"
            " parameters"
        )


def check_failures(failures: int, proposals: int) -> None:
    """Warn of many proposals without a density."""
    if failures > FAILED * proposals:
        _warn(
            f"{failures} of {proposals} proposals have no density (outside its support, or a solve"
            " failed), and count as refused"
        )


def _warn(text: str) -> None:
    warn(text, SamplingWarning)
