"""A density on R^n by a normalizing flow.

A point z of the base, N(0, I), is mapped to w = f(z) by layers of a network, and w to

    x = mean + factor w,    factor factor^T = covariance of the data,

so that ln q(x) = ln N(z; 0, I) - ln |det df/dz| - ln det factor. (Papamakarios, Nalisnick, Rezende,
Mohamed and Lakshminarayanan 2021, J. Mach. Learn. Res. 22, 57.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, Key

from ...core.errors import DataError
from ...core.extras import needed
from ...core.precision import AnyArray, fused
from .architecture import KINDS, Architecture


def network() -> Any:
    """The module of the layers, or an `EngineError` without flowjax."""
    needed("flowjax.flows", "sampling")
    from . import network

    return network


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["mean", "factor", "parameters"],
    meta_fields=["architecture"],
)
@dataclass(frozen=True, eq=False)
class Flow:
    """A density on R^n, also inside of functions that JAX compiles or differentiates.

    Attributes
    ----------
    mean, factor
        Mean of the data, and the lower Cholesky factor of their covariance.
    parameters
        Trainable numbers of the network.
    architecture
        Sizes of the network.
    """

    mean: Float[AnyArray, " n"]
    factor: Float[AnyArray, "n n"]
    parameters: Float[AnyArray, " parameters"]
    architecture: Architecture

    @fused
    def base(
        self, x: Float[AnyArray, "rows n"]
    ) -> tuple[Float[Array, "rows n"], Float[Array, " rows"]]:
        """Base points z of rows x, and ln q(x)."""
        w, scale = whitened(self, x)
        z, log_density = base_of_whitened(self.architecture, jnp.asarray(self.parameters), w)
        return z, log_density - scale

    @fused
    def log_density(self, x: Float[AnyArray, "rows n"]) -> Float[Array, " rows"]:
        """ln q(x) of rows x."""
        return self.base(x)[1]

    @partial(fused, static_argnums=2)
    def draw(
        self, key: Key[Array, ""], count: int, temperature: float = 1.0
    ) -> tuple[Float[Array, "count n"], Float[Array, " count"]]:
        """Independent samples as rows, of base points with the standard deviation `temperature`,
        and ln q of each; of q itself at 1."""
        z = temperature * jax.random.normal(key, (count, self.architecture.n))
        f = network().bijection(self.architecture, jnp.asarray(self.parameters))
        w, gain = jax.vmap(f.transform_and_log_det)(z)
        factor = jnp.asarray(self.factor)
        scale = jnp.sum(jnp.log(jnp.diag(factor)))
        return self.mean + w @ factor.T, _standard_normal(z) - gain - scale

    def arrays(self) -> dict[str, np.ndarray]:
        """The flow as plain arrays, for files."""
        a = self.architecture
        sizes = [KINDS.index(a.kind), a.layers, a.width, a.knots]
        return {
            "mean": np.asarray(self.mean),
            "factor": np.asarray(self.factor),
            "parameters": np.asarray(self.parameters),
            "architecture": np.asarray(sizes, dtype=np.int64),
        }

    @staticmethod
    def of_arrays(arrays: Mapping[str, np.ndarray]) -> Flow:
        """The flow of which these are the `arrays`, bit for bit.

        Raises
        ------
        DataError
            If the number of parameters is another than that of the architecture.
        """
        kind, *sizes = (int(size) for size in arrays["architecture"])
        mean, factor, parameters = (
            np.asarray(arrays[name], dtype=float) for name in ("mean", "factor", "parameters")
        )
        architecture = Architecture(len(mean), KINDS[kind], *sizes)
        wanted = (network().number(architecture),)
        if parameters.shape != wanted:
            raise DataError(
                f"flow: found parameters of shape {parameters.shape}, expected {wanted} for"
                f" {architecture}"
            )
        return Flow(mean, factor, parameters, architecture)


def whitened(
    flow: Flow, x: Float[AnyArray, "rows n"]
) -> tuple[Float[Array, "rows n"], Float[Array, ""]]:
    """w of rows x, and ln det factor."""
    factor = jnp.asarray(flow.factor)
    w = solve_triangular(factor, (jnp.asarray(x) - flow.mean).T, lower=True).T
    return w, jnp.sum(jnp.log(jnp.diag(factor)))


def base_of_whitened(
    architecture: Architecture,
    parameters: Float[Array, " parameters"],
    w: Float[Array, "rows n"],
) -> tuple[Float[Array, "rows n"], Float[Array, " rows"]]:
    """z of rows w, and the logarithm of their density."""
    z, gain = jax.vmap(network().bijection(architecture, parameters).inverse_and_log_det)(w)
    return z, _standard_normal(z) + gain


def pulled_back(
    architecture: Architecture,
    parameters: Float[Array, " parameters"],
    w: Float[Array, "rows n"],
    scores: Float[Array, "rows n"],
) -> tuple[Float[Array, " rows"], Float[Array, "rows n"], Float[Array, "rows n"]]:
    """ln of the density of rows w, the gradients by z of ln p + ln |det dw/dz|, p of the given
    `scores`, its gradients by w; and z."""
    of_base = partial(network().score_of_base, architecture, parameters)
    z, gain, score = jax.vmap(of_base)(w, scores)
    return _standard_normal(z) + gain, score, z


def _standard_normal(z: Float[Array, "rows n"]) -> Float[Array, " rows"]:
    return -0.5 * jnp.sum(z**2 + jnp.log(2.0 * jnp.pi), axis=1)
