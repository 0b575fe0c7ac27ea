"""Other packages' samplers, and ours, until a budget of gradients is spent.

Each is a function of a density, a seed and a budget; it returns draws (chains, draws, n) after the
warm-up, and how many gradients all have taken, with the warm-up and the training. A density without
its gradient counts as one, too.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

import pyadjoint_gpu as pag

from .densities import Density

Draws = tuple[np.ndarray, int]
CHAINS, WARMUP, BLOCK = 4, 500, 100
"""Chains of NUTS, transitions of its warm-up, and draws between looks at the budget."""
MANY = 64
"""Chains of the samplers that learn from all of them."""


def _theta(found: xr.Dataset) -> np.ndarray:
    names = [f"x{k}" for k in range(sum(name.startswith("x") for name in map(str, found)))]
    return np.stack([found[name].values for name in names], axis=2)


@cache
def _target(density: Density) -> pag.LogDensity:
    return density.target()


def flow(density: Density, seed: int, budget: int) -> Draws:
    """Ours. A round has 2 trajectories of 5 steps and 20 proposals, so that a draw costs 30 / 22 in
    the mean; the particles' share depends on their stages, as a run with few draws tells."""

    def run(draws: int) -> xr.Dataset:
        options: dict[str, Any] = {"chains": MANY, "draws": draws, "seed": seed}
        return pag.sample(_target(density), method="flow", progress=False, **options)

    if not budget:
        found = run(22)
        _BEFORE[density] = found.attrs["gradients"] - 30 * MANY
    else:
        found = run(max(22, int((budget - _BEFORE[density]) / (30 * MANY) * 22)))
    return _theta(found), found.attrs["gradients"]


_BEFORE: dict[Density, int] = {}
"""Gradients before the first draw of a flow's chains."""
_RATE: dict[Density, tuple[float, float]] = {}
"""Gradients before the first draw of our NUTS, and of a draw."""


def nuts(density: Density, seed: int, budget: int) -> Draws:
    """Ours; how many draws, by two short runs before."""

    def run(draws: int) -> xr.Dataset:
        options: dict[str, Any] = {"chains": CHAINS, "warmup": WARMUP, "draws": draws}
        options |= {"seed": seed, "start": density.starts(seed, CHAINS)}
        return pag.sample(_target(density), method="nuts", progress=False, **options)

    if budget:
        before, rate = _RATE[density]
        found = run(max(BLOCK, int((budget - before) / rate)))
    else:
        few, found = run(4), run(2 * BLOCK)
        rate = (found.attrs["gradients"] - few.attrs["gradients"]) / (2 * BLOCK - 4)
        _RATE[density] = found.attrs["gradients"] - 2 * BLOCK * rate, rate
    return _theta(found), found.attrs["gradients"]


def blackjax_nuts(density: Density, seed: int, budget: int) -> Draws:
    """Window adaptation and sampling of each chain, all in one `vmap`."""
    warm, more = _blackjax(density)
    keys = jax.random.split(jax.random.key(seed), CHAINS)
    state, parameters, steps = warm(keys, jnp.asarray(density.starts(seed, CHAINS)))
    used, draws, block = int(jnp.sum(steps)), [], 0
    while not draws or used < budget:
        block += 1
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), block), CHAINS)
        state, x, steps = more(keys, state, parameters)
        used += int(jnp.sum(steps))
        draws.append(np.asarray(x))
    return np.concatenate(draws, axis=1), used


@cache
def _blackjax(density: Density) -> tuple[Any, Any]:
    import blackjax

    log: Any = density.log_density

    def warm(key: Any, start: Any) -> Any:
        adaptation: Any = blackjax.window_adaptation(blackjax.nuts, log)
        found, info = adaptation.run(key, start, num_steps=WARMUP)
        return found.state, found.parameters, jnp.sum(info.info.num_integration_steps)

    def more(key: Any, state: Any, parameters: Any) -> Any:
        step: Any = blackjax.nuts(log, **parameters).step

        def one(state: Any, key: Any) -> Any:
            state, info = step(key, state)
            return state, (state.position, info.num_integration_steps)

        state, (x, steps) = jax.lax.scan(one, state, jax.random.split(key, BLOCK))
        return state, x, jnp.sum(steps)

    return jax.jit(jax.vmap(warm)), jax.jit(jax.vmap(more))


def numpyro_nuts(density: Density, seed: int, budget: int) -> Draws:
    """By the functions below its `MCMC`, which is compiled anew for each run; its chains in one
    `vmap`, as with "vectorized"."""
    start, more = _numpyro(density)
    keys = jax.random.split(jax.random.key(seed), CHAINS)
    state = start(keys, jnp.asarray(density.starts(seed, CHAINS)))
    used, draws = 0, []
    while len(draws) * BLOCK <= WARMUP or used < budget:
        state, x, steps = more(state)
        used += int(jnp.sum(steps))
        draws.append(np.asarray(x))
    return np.concatenate(draws, axis=1)[:, WARMUP:], used


@cache
def _numpyro(density: Density) -> tuple[Any, Any]:
    from numpyro.infer.hmc import hmc

    def potential(x: Any) -> Any:
        return -density.log_density(x)

    init, sample = hmc(potential, algo="NUTS")

    def start(key: Any, x: Any) -> Any:
        return init(x, WARMUP, rng_key=key)

    def more(state: Any) -> Any:
        def one(state: Any, _: None) -> Any:
            state = sample(state)
            return state, (state.z, state.num_steps)

        state, (x, steps) = jax.lax.scan(one, state, None, BLOCK)
        return state, x, jnp.sum(steps)

    return jax.jit(jax.vmap(start)), jax.jit(jax.vmap(more))


def emcee_stretch(density: Density, seed: int, budget: int) -> Draws:
    """Its own moves, half of the walkers evaluated at a time; a quarter of the steps is dropped."""
    import emcee

    def log(x: np.ndarray) -> np.ndarray:
        return np.asarray(_batched(density)(x))

    sampler = emcee.EnsembleSampler(MANY, density.n, log, vectorize=True)
    sampler.random_state = np.random.RandomState(seed).get_state()
    steps = max(BLOCK, budget // MANY - 1)
    sampler.run_mcmc(density.starts(seed, MANY), steps, skip_initial_state_check=True)
    chain = sampler.get_chain(discard=steps // 4)
    assert chain is not None
    return np.swapaxes(chain, 0, 1), MANY * (steps + 1)


@cache
def _batched(density: Density) -> Any:
    return jax.jit(jax.vmap(density.log_density))


def flowmc(density: Density, seed: int, budget: int) -> Draws:
    """Its bundle of splines and MALA with its own settings but for batches of 1000 rows, whose
    default of 10,000 is one step of training an epoch. Rounds of 50 local and 50 global steps, of
    which half train the flow; a step of MALA takes two gradients."""
    from flowMC.resource_strategy_bundle.RQSpline_MALA import RQSpline_MALA_Bundle
    from flowMC.Sampler import Sampler

    steps, epochs = 50, 10
    a_round = MANY * (2 * steps + steps)
    rounds = max(2, budget // a_round)
    bundle = RQSpline_MALA_Bundle(
        jax.random.key(seed),
        n_chains=MANY,
        n_dims=density.n,
        logpdf=lambda x, data: density.log_density(x),
        n_local_steps=steps,
        n_global_steps=steps,
        n_training_loops=rounds // 2,
        n_production_loops=rounds - rounds // 2,
        n_epochs=epochs,
        batch_size=1000,
    )
    sampler = Sampler(
        n_dim=density.n,
        n_chains=MANY,
        rng_key=jax.random.key(seed + 1),
        resource_strategy_bundles=bundle,
        checkpoint_interval=0,
    )
    sampler.sample(jnp.asarray(density.starts(seed, MANY)), {})
    x: Any = sampler.resources["positions_production"]
    return np.asarray(x.data), rounds * a_round


SAMPLERS = {
    "ours, flow": (flow, "pyadjoint_gpu"),
    "ours, NUTS": (nuts, "pyadjoint_gpu"),
    "blackjax NUTS": (blackjax_nuts, "blackjax"),
    "numpyro NUTS": (numpyro_nuts, "numpyro"),
    "emcee": (emcee_stretch, "emcee"),
    "flowMC": (flowmc, "flowMC"),
}
"""Each sampler, and the package that it needs."""
