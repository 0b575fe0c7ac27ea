"""The bijections of flows, built of flowjax's. flowjax is an optional package: import this module
on use.

A coupling layer leaves one half of the components as they are, and maps each of the other half by a
monotone function, whose parameters a small network computes from the first half; then the
components are permuted. (Dinh, Sohl-Dickstein and Bengio 2017, ICLR, arXiv:1605.08803; the splines:
Durkan, Bekasov, Murray and Papamakarios 2019, NeurIPS, arXiv:1906.04032.)
"""

from __future__ import annotations

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flowjax.bijections import (
    AbstractBijection,
    Affine,
    Chain,
    Coupling,
    Invert,
    RationalQuadraticSpline,
    Scan,
    Vmap,
)
from flowjax.distributions import AbstractDistribution, StandardNormal, Transformed
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int
from paramax import unwrap

from ...core.precision import double, fused
from .architecture import REACH, Architecture

Parameters = Float[Array, " parameters"]
"""All trainable numbers of a flow."""


class Spline(RationalQuadraticSpline):
    """flowjax's spline, whose forward map selects the bin by masks in place of indices: the
    gradients of indexing take most of the time of a training step on CPUs."""

    def __init__(self, knots: int):
        super().__init__(knots=knots, interval=REACH)

    def transform_and_log_det(self, x: Any, condition: Any = None) -> tuple[Any, Any]:
        inside = (self.interval[0] <= x) & (x <= self.interval[1])
        place = jnp.clip(x, *self.interval)
        beyond = place >= self.x_pos[1:-1]
        true = jnp.ones(1, bool)
        here = jnp.concatenate([true, beyond]) & jnp.concatenate([~beyond, true])

        def ends(values: Any) -> tuple[Any, Any]:
            values = values[: len(self.x_pos)]
            left = jnp.sum(jnp.where(here, values[:-1], 0.0))
            return left, jnp.sum(jnp.where(here, values[1:], 0.0))

        (x0, x1), (y0, y1), (d0, d1) = map(ends, (self.x_pos, self.y_pos, self.derivatives))
        # Equations 4 and 5 of Durkan et al. (2019).
        slope, t = (y1 - y0) / (x1 - x0), (place - x0) / (x1 - x0)
        mixed = t * (1.0 - t)
        below = slope + (d0 + d1 - 2.0 * slope) * mixed
        y = y0 + (y1 - y0) * (slope * t**2 + d0 * mixed) / below
        rise = slope**2 * (d1 * t**2 + 2.0 * slope * mixed + d0 * (1.0 - t) ** 2)
        log_rise = jnp.log(rise) - 2.0 * jnp.log(below)
        return jnp.where(inside, y, x), jnp.where(inside, log_rise, 0.0)


class Order(AbstractBijection):
    """A permutation of the components."""

    order: Any
    shape: tuple[int, ...]
    cond_shape = None

    def __init__(self, order: Int[np.ndarray, "*layers n"]):
        self.order, self.shape = order, order.shape[-1:]

    def transform_and_log_det(self, x: Any, condition: Any = None) -> tuple[Any, Any]:
        return x[self.order], jnp.zeros(())

    def inverse_and_log_det(self, y: Any, condition: Any = None) -> tuple[Any, Any]:
        return jnp.zeros_like(y).at[self.order].set(y), jnp.zeros(())


def orders(n: int, layers: int) -> Int[np.ndarray, "layers n"]:
    """Permutations after each layer: by turns one that exchanges the halves, and a riffle shuffle
    besides, so that all components meet."""
    exchanged = np.roll(np.arange(n), -(n // 2))
    riffled = np.empty(n, int)
    riffled[::2], riffled[1::2] = np.split(exchanged, [n - n // 2])
    return np.stack([riffled if k % 2 else exchanged for k in range(layers)])


def trainable(base: AbstractDistribution) -> bool:
    """Whether a distribution has numbers that training would change, as flowjax's `Normal` has and
    its `StandardNormal` has not."""
    return bool(jax.tree.leaves(eqx.filter(base, eqx.is_inexact_array)))


@partial(fused, static_argnums=0)
def initial(architecture: Architecture, key: Array) -> Parameters:
    """Parameters with which the bijection is the identity, up to an order of the components; the
    networks' first layers are random."""
    return ravel_pytree(_parts(architecture, key)[0])[0]


@double
def number(architecture: Architecture) -> int:
    """Number of parameters, without computing any."""
    shapes = jax.eval_shape(lambda key: _parts(architecture, key)[0], jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def bijection(architecture: Architecture, parameters: Parameters) -> AbstractBijection:
    """The map from base points z to whitened x."""
    # The numbers of this one are not used: in compiled code they are left out.
    tree, fixed = _parts(architecture, jax.random.key(0))
    return unwrap(eqx.combine(ravel_pytree(tree)[1](parameters), fixed)).bijection


def score_of_base(
    architecture: Architecture,
    parameters: Parameters,
    w: Float[Array, " n"],
    score: Float[Array, " n"],
) -> tuple[Float[Array, " n"], Float[Array, ""], Float[Array, " n"]]:
    """z of whitened w, ln |det dz/dw|, and the gradient by z of ln p(w) + ln |det dw/dz|, of a
    density whose `score` is the gradient of ln p by w: that of what p is in the base.

    A layer that maps (a, b) to (a, m(b; a)), where dm/db = diag(d) and ln det = sum ln d, takes the
    gradients (g_a, g_b) to u = (g_b - d ln det/db) / d and g_a - d(u^T m + ln det)/da."""
    whole: Any = bijection(architecture, parameters)
    arrays, fixed = eqx.partition(whole.bijection.bijection, eqx.is_array)
    kept = architecture.n // 2 if architecture.n > 1 else 0
    below = jnp.arange(architecture.n) < kept

    def layer(carry: Any, own: Any) -> tuple[Any, None]:
        w, gain, score = carry
        both: Any = eqx.combine(own, fixed)
        coupling = both if architecture.n == 1 else both.bijections[0]
        (w, rise), pull = jax.vjp(coupling.transform_and_log_det, w)
        none, one = jnp.zeros_like(w), jnp.ones_like(rise)
        slope = jnp.where(below, 1.0, pull((jnp.where(below, 0.0, 1.0), 0.0 * one))[0])
        u = (score - pull((none, one))[0]) / slope
        moved = jnp.where(below, 0.0, u)
        score = jnp.where(below, score - pull((moved, one))[0], u)
        if architecture.n > 1:
            order = both.bijections[1].order
            w, score = w[order], score[order]
        return (w, gain + rise, score), None

    return lax.scan(layer, (w, jnp.zeros(()), score), arrays)[0]


def _parts(architecture: Architecture, key: Array) -> tuple[Any, Any]:
    """The distribution's trainable leaves, and the rest."""
    n = architecture.n
    layer = _layer_of_one if n == 1 else _layer
    keys = jax.random.split(key, architecture.layers)
    layers = eqx.filter_vmap(partial(layer, architecture))(keys)
    if n > 1:
        layers = Chain([layers, Order(orders(n, architecture.layers))])
    # The density of data takes the maps as they are, and samples their inverses.
    whole = Transformed(StandardNormal((n,)), Invert(Scan(layers)))
    assert not trainable(whole.base_dist)
    return eqx.partition(whole, eqx.is_inexact_array)


def _layer(architecture: Architecture, key: Array) -> Coupling:
    n = architecture.n
    coupling = Coupling(
        key,
        transformer=_map(architecture),
        untransformed_dim=n // 2,
        dim=n,
        nn_width=architecture.width,
        nn_depth=1,
        # Bounded, so that far outside of the data the map tends to one of each component by itself.
        nn_activation=jnp.tanh,
    )

    def last(layer: Coupling) -> list[Any]:
        linear = layer.conditioner.layers[-1]
        return [linear.weight, linear.bias]

    return eqx.tree_at(last, coupling, replace_fn=jnp.zeros_like)


def _map(architecture: Architecture) -> AbstractBijection:
    """The map of one component, whose parameters a network computes."""
    # Before the spline, so that it can follow narrow and curved densities beyond its reach.
    if architecture.kind == "affine":
        return Affine()
    return Chain([Affine(), Spline(architecture.knots)])


def _layer_of_one(architecture: Architecture, _: Array) -> Chain:
    """A spline of twice the knots and an affine map, as there is no other component to depend
    on."""
    spline = Spline(2 * architecture.knots)
    one = eqx.filter_vmap(lambda: spline, axis_size=1)()
    return Chain([Vmap(one, in_axes=eqx.if_array(0)), Affine(jnp.zeros(1))])
