"""`LogDensity`: any density with a gradient, to be sampled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ..core.checks import check_choice, finite_array
from ..core.errors import ConfigError, DataError, nearest
from ..core.frozen import Frozen
from ..core.guards import is_list, is_mapping
from ..core.pickling import AsGiven
from ..core.precision import double
from ..statistics.densities import BoundPrior
from ..statistics.marginals import Marginals
from ..statistics.priors import Prior, Uniform
from .options import check_names


@dataclass(frozen=True, eq=False)
class LogDensity(AsGiven, Frozen):
    """A density of a vector theta with a gradient, for `sample`.

    Parameters
    ----------
    function : callable
        ln L(theta), the log likelihood, where there is a `prior`; else the whole log density, up to
        a constant. theta has shape (n,).
    names : sequence of str
        Names of the components of theta.
    prior : Prior or mapping, optional
        A `Prior`, such as ``pag.Independent(1.0)``, or distributions of `scipy.stats` by name. With
        bounded ones `function` is asked for theta inside the bounds only.
    start : array, shape (chains, n) or (n,), optional
        Where chains start, needed where there is no prior. Tempered samplers then start from a
        Gaussian about these points.
    gradient : {"jax", "returned"}
        "jax": `function` consists of JAX operations, of which JAX makes the gradient; it is
        compiled once for this object, so that what else it refers to must not change. "returned":
        it takes and gives NumPy arrays, the value and its gradient.

    Raises
    ------
    ConfigError, DataError
        If an argument cannot be used, or `function` gives no number.

    Examples
    --------
    >>> density = pag.LogDensity(
    ...     lambda x: -(1 - x[0]) ** 2 - 100 * (x[1] - x[0] ** 2) ** 2,
    ...     names=("x", "y"),
    ...     prior={"x": scipy.stats.uniform(-10, 20), "y": scipy.stats.uniform(-5, 20)},
    ... )
    >>> samples = pag.sample(density)
    """

    function: Callable[..., Any]
    names: Sequence[str]
    prior: Prior | Mapping[str, Any] | None = None
    start: ArrayLike | None = None
    gradient: str = "jax"

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise ConfigError(
                f"function: found {type(self.function).__name__}, expected a function of theta"
            )
        check_choice("gradient", self.gradient, ("jax", "returned"))
        self._set(names=_checked_names(self.names))
        if self.start is not None:
            self._set(start=self._checked_start(self.start))
        elif self.prior is None:
            raise ConfigError(
                "start: missing; without a prior, chains need points to start from, an array of"
                f" shape (chains, {self.size})"
            )
        _ = self.density_of_prior()
        if self.gradient == "jax":
            self._check_function()

    @cached_property
    def targets(self) -> dict[int, Any]:
        """What samplers made of it."""
        return {}

    @property
    def size(self) -> int:
        """Number of components."""
        return len(self.names)

    def density_of_prior(self) -> BoundPrior | Marginals | None:
        """The prior, on the components."""
        if self.prior is None:
            return None
        if is_mapping(self.prior):
            return Marginals(_in_order(self.prior, self.names))
        if isinstance(self.prior, Uniform):
            return Marginals(dict.fromkeys(self.names, _box(self.prior)))
        if not isinstance(self.prior, Prior):
            raise ConfigError(
                f"prior: found {type(self.prior).__name__}, expected a Prior, such as"
                " pag.Independent(1.0), or a dict of distributions of scipy.stats by name"
            )
        return self.prior.on(self.size)

    def _checked_start(self, given: ArrayLike) -> np.ndarray:
        found = np.atleast_2d(finite_array("start", given))
        if found.ndim != 2 or found.shape[1] != self.size:
            raise DataError(
                f"start: found shape {np.shape(given)}, expected (chains, {self.size}), a column"
                f" for each of {', '.join(self.names)}"
            )
        return found

    @double
    def _check_function(self) -> None:
        try:
            found = jax.eval_shape(self.function, jax.ShapeDtypeStruct((self.size,), float))
        except (jax.errors.JAXTypeError, TypeError) as error:
            first = str(error).strip().splitlines()[0]
            raise ConfigError(
                "function: JAX cannot follow it; write it with jax.numpy, or return value and"
                f' gradient and say gradient="returned" ({first})'
            ) from error
        shape = getattr(found, "shape", None)
        if shape not in ((), (1,)) or not jnp.issubdtype(found.dtype, jnp.floating):
            what = f"{found.dtype} of shape {shape}" if shape is not None else str(type(found))
            raise ConfigError(f"function: found {what}, expected one real number")


def _checked_names(given: object) -> tuple[str, ...]:
    if isinstance(given, str) or not is_list(given) or not given:
        raise ConfigError(f'names: found {given!r}, expected texts, such as ("x", "y")')
    check_names("names", given, ())
    twice = next((name for k, name in enumerate(given) if name in given[:k]), None)
    if twice is not None:
        raise ConfigError(f"names: {twice!r} occurs twice")
    return tuple(given)


def _in_order(prior: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The distributions in the order of the names."""
    for key in prior:
        if key not in names:
            raise ConfigError(f"prior.{key}: not one of names{nearest(str(key), list(names))}")
    for name in names:
        if name not in prior:
            raise ConfigError(f"prior.{name} is missing; every one of names needs a distribution")
    return {name: prior[name] for name in names}


def _box(prior: Uniform) -> Any:
    """The distribution of `scipy.stats` of one component."""
    import scipy.stats

    if prior.low is None or prior.high is None or not prior.low < prior.high:
        raise ConfigError("prior: a Uniform of a LogDensity needs its bounds, Uniform(low, high)")
    return scipy.stats.uniform(prior.low, prior.high - prior.low)
