"""Independent distributions of `scipy.stats`, by name, as a density that JAX differentiates.

Each number theta is a function of one on the whole line, y, by the support of its distribution,

    theta = y,    a + exp(y),    b - exp(y),    a + (b - a) / (1 + exp(-y)),

and y = centre + scale x, with the centre and half the distance of the 16 % and 84 % quantiles, so
that x is roughly standard normal.
"""

# JAX annotates few of the functions of its scipy.stats.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.stats as jax_stats
import numpy as np
from jax.nn import log_sigmoid, sigmoid
from jax.scipy.special import gammaln
from jaxtyping import Array, Float

from ..core.errors import ConfigError
from ..core.precision import AnyArray, fused

LN_2 = float(np.log(2.0))

_FORMULAS: dict[str, Any] = {
    "halfcauchy": lambda x: LN_2 + jax_stats.cauchy.logpdf(x),
    "halfnorm": lambda x: LN_2 + jax_stats.norm.logpdf(x),
    "invgamma": lambda x, a: -(a + 1.0) * jnp.log(x) - 1.0 / x - gammaln(a),
    "lognorm": lambda x, s: jax_stats.norm.logpdf(jnp.log(x) / s) - jnp.log(s * x),
    "loguniform": lambda x, a, b: -jnp.log(x) - jnp.log(jnp.log(b / a)),
    "weibull_min": lambda x, c: jnp.log(c) + (c - 1.0) * jnp.log(x) - x**c,
}
"""ln p of standard distributions that JAX lacks, inside their supports."""
_FORMULAS["reciprocal"] = _FORMULAS["loguniform"]
OF_JAX = (
    *("beta", "cauchy", "chi2", "expon", "gamma", "gumbel_l", "gumbel_r", "laplace", "logistic"),
    *("norm", "pareto", "t", "truncnorm", "uniform"),
)
"""Names of distributions whose ln p JAX has."""
KNOWN = tuple(sorted((*OF_JAX, *_FORMULAS)))
"""Names of the distributions that there are."""


@jax.tree_util.register_pytree_node_class
class Marginals:
    """Independent frozen distributions of `scipy.stats`, of one number each.

    A JAX pytree: those of the same names of distributions share compiled code.

    Raises
    ------
    ConfigError
        If one is no such distribution, or its density is not known to JAX.
    """

    def __init__(self, distributions: Mapping[str, Any], where: str = "prior"):
        for name, d in distributions.items():
            if not (hasattr(d, "rvs") and hasattr(d, "logpdf") and hasattr(d, "dist")):
                raise ConfigError(
                    f"{where}.{name}: found {d!r}, expected a distribution of scipy.stats, such as"
                    " scipy.stats.norm(0, 1)"
                )
            if d.dist.name not in KNOWN:
                raise ConfigError(
                    f"{where}.{name}: the density of {d.dist.name!r} has no gradient here, expected"
                    f" one of {', '.join(KNOWN)}"
                )
            if any(np.ndim(value) for value in (*d.args, *d.kwds.values())):
                raise ConfigError(
                    f"{where}.{name}: found a distribution of arrays, expected one of one number"
                )
        self.distributions = dict(distributions)
        frozen = list(self.distributions.values())
        self._names = tuple(d.dist.name for d in frozen)
        self._numbers = tuple(_numbers(d) for d in frozen)
        self.lower, self.upper = np.array([d.support() for d in frozen], float).T
        self.centre, self.scale = np.zeros(len(frozen)), np.ones(len(frozen))
        # Quantiles are monotone: those of y are T^-1 of those of theta.
        ends = np.array([d.ppf([0.1587, 0.8413]) for d in frozen]).T
        low, high = np.sort(np.asarray(self.white(ends)), axis=0)
        self.centre, self.scale = 0.5 * (low + high), 0.5 * (high - low)

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[str, ...]]:
        return (self.lower, self.upper, self.centre, self.scale, self._numbers), self._names

    @classmethod
    def tree_unflatten(cls, names: tuple[str, ...], arrays: tuple[Any, ...]) -> Marginals:
        # Without distributions, of which compiled code draws nothing.
        out = object.__new__(cls)
        out.lower, out.upper, out.centre, out.scale, out._numbers = arrays
        out._names = names
        return out

    @property
    def size(self) -> int:
        """Number of components."""
        return len(self._names)

    def _sides(self) -> tuple[Array, Array, Array, Array]:
        """Where there are bounds below and above, and these, or 0."""
        lower, upper = jnp.asarray(self.lower), jnp.asarray(self.upper)
        below, above = jnp.isfinite(lower), jnp.isfinite(upper)
        return below, above, jnp.where(below, lower, 0.0), jnp.where(above, upper, 0.0)

    @fused
    def of_white(self, x: Float[AnyArray, "*batch n"]) -> Float[Array, "*batch n"]:
        """theta of x."""
        y = self.centre + self.scale * jnp.asarray(x)
        below, above, a, b = self._sides()
        # Of others it may overflow, and its derivative is no number.
        far = jnp.exp(jnp.where(below ^ above, y, 0.0))
        one_sided = jnp.where(below, a + far, b - far)
        theta = jnp.where(below & above, a + (b - a) * sigmoid(y), one_sided)
        return jnp.where(below | above, theta, y)

    @fused
    def white(self, theta: Float[AnyArray, "*batch n"]) -> Float[Array, "*batch n"]:
        """x of theta inside the supports."""
        below, above, a, b = self._sides()
        t = jnp.asarray(theta)
        up = jnp.log(jnp.where(below, t - a, 1.0))
        down = jnp.log(jnp.where(above, b - t, 1.0))
        y = jnp.where(below | above, jnp.where(below, up, down) - below * above * down, t)
        return (y - self.centre) / self.scale

    @fused
    def log_density(self, theta: Float[AnyArray, "*batch n"]) -> Float[Array, "*batch"]:
        """ln p(theta), normalised, for theta inside the supports."""
        t = jnp.asarray(theta)
        each = zip(self._names, self._numbers, strict=True)
        logs = [_log(name, numbers, t[..., k]) for k, (name, numbers) in enumerate(each)]
        return jnp.sum(jnp.stack(logs, -1), -1)

    @fused
    def potential(self, x: Float[AnyArray, "*batch n"]) -> Float[Array, "*batch"]:
        """-ln p(x), normalised."""
        y = self.centre + self.scale * jnp.asarray(x)
        below, above, a, b = self._sides()
        both = log_sigmoid(y) + log_sigmoid(-y) + jnp.log(jnp.where(below & above, b - a, 1.0))
        slope = jnp.where(below & above, both, jnp.where(below | above, y, 0.0))
        slope = jnp.sum(slope + jnp.log(jnp.asarray(self.scale)), -1)
        return -self.log_density(self.of_white(x)) - slope

    def draw(self, generator: np.random.Generator, count: int) -> Float[np.ndarray, "draws n"]:
        """Samples of theta."""
        return drawn(self.distributions, generator, count)


def drawn(
    distributions: Mapping[str, Any], generator: np.random.Generator, count: int
) -> Float[np.ndarray, "draws n"]:
    """Samples of independent distributions of `scipy.stats`, a column each."""
    each = distributions.values()
    return np.column_stack([d.rvs(size=count, random_state=generator) for d in each])


def _numbers(d: Any) -> tuple[float, ...]:
    """loc, scale and the parameters of shape of a frozen distribution."""
    names: Sequence[str] = [*(d.dist.shapes or "").replace(",", " ").split(), "loc", "scale"]
    given = {"loc": 0.0, "scale": 1.0} | dict(zip(names, d.args, strict=False)) | d.kwds
    return tuple(float(given[name]) for name in ("loc", "scale", *names[:-2]))


def _log(name: str, numbers: tuple[Any, ...], theta: Float[Array, "*batch"]) -> Array:
    """ln p of a distribution by name and `_numbers`."""
    loc, scale, *shapes = numbers
    formula = _FORMULAS.get(name) or getattr(jax_stats, name).logpdf
    return formula((theta - loc) / scale, *shapes) - jnp.log(scale)
