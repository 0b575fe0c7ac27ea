"""Sampling of linear problems: the kernel beside products alone, whole runs beside blackjax.

The kernel is `hmc.move`, batched as in a run: N_move trajectories of N_tau leapfrog steps, of which
only the products count, 2 n^2 N FLOPs a step and member, with nothing for random numbers, energies
and acceptance. Its peer is the fastest of the products alone at that shape: numpy's, over a batch
at a time or, as ours on CPUs, over a member at a time, whose arrays then stay in the cache; and
XLA's, a loop inside one compiled function. They and ours are run in turn, and the shortest times
compared. The rate of one large product stands beside them. On a GPU all are JAX's.

In a process of its own for each number of cores: one, by the processor time, which is the same
whatever else the machine does, and all, by the clock: there the load average (of one minute, before
the first row) tells whether the machine was idle.

Whole runs are of d = G s + e with Gaussian e and s, whose ln Z is known. Blackjax's adaptive
tempered SMC has the same particles, target of ESS, resampling, moves and steps of HMC, and by its
`inner_kernel_tuning` our inverse mass and length of steps at each temperature. The densities that
it differentiates are quadratic forms, cheaper than residuals. What is not the same: its steps take
four products (value and gradient, of prior and of likelihood) where ours take one; it finds the
next temperature before it resamples and moves, takes more stages for that, and leaves the last
weights; steps are jittered for each particle by itself. Each is compiled in one function, whose
first call is given apart.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pyadjoint_gpu.core.precision import compiled_loop
from pyadjoint_gpu.sampling import hmc
from pyadjoint_gpu.sampling.hmc import Quadratic, product
from pyadjoint_gpu.sampling.linear import USUAL, sample

from .machine import in_a_process, timed
from .report import markdown

AGREE = 0.5
"""Of ln Z, the mean of all runs with what it is."""


def run(*, quick: bool = False) -> dict[str, Any]:
    cores = os.sched_getaffinity(0)
    on = [cores] if jax.default_backend() != "cpu" else [{min(cores)}, cores]
    arguments = ["quick"] if quick else []
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    kernel = [
        in_a_process(__name__, *arguments, cores=c, environment=environment)
        for c in on
        if len(c) == 1 or len(cores) > 1
    ]
    sizes = [(18, 108, 3)] if quick else [(18, 108, 10), (200, 200, 4)]
    with jax.enable_x64(True):
        return {"kernel": kernel, "runs": _whole(sizes)}


# The kernel


def measure(*, quick: bool) -> dict[str, Any]:
    n, particles = (50, 200) if quick else (200, 1000)
    load = os.getloadavg()[0]
    device = jax.devices()[0]
    cores = len(os.sched_getaffinity(0))
    clock = time.process_time if device.platform == "cpu" and cores == 1 else time.perf_counter
    rows = []
    with jax.enable_x64(True):
        for dtype in ("float64", "float32"):
            peak = _large(512 if quick else 4096, dtype, clock)
            for members in (1, 4) if quick else (1, 4, 16):
                row = _row(members, n, particles, dtype, clock)
                rows.append(row | {"peak": peak, "of_peak": row["rate"] / peak})
    return {
        "device": f"{cores} core{'s' * (cores > 1)}" if device.platform == "cpu" else f"{device}",
        "clock": clock.__name__,
        "load": load,
        "moves": USUAL.moves,
        "leapfrogs": USUAL.leapfrogs,
        "rows": rows,
    }


def _row(
    members: int, n: int, particles: int, dtype: str, clock: Callable[[], float]
) -> dict[str, Any]:
    """FLOPs a second of ours and of products alone."""
    generator = np.random.default_rng(0)
    a = generator.standard_normal((members, n, n))
    # Products of products stay within range.
    h = (np.eye(n) + 0.1 * a @ a.transpose(0, 2, 1) / n).astype(dtype)
    s = generator.standard_normal((members, n, particles)).astype(dtype)
    keys = jax.random.split(jax.random.key(0), members)
    given = keys, *map(jnp.asarray, (h, s))
    steps = USUAL.moves * USUAL.leapfrogs
    runs = {"ours": (partial(_ours, *given), steps)}
    few = USUAL.leapfrogs // 2
    runs["XLA"] = (partial(_products, few, *given[1:]), few)
    if jax.default_backend() == "cpu":
        out = np.empty_like(s)

        def batch() -> None:
            for _ in range(few):
                np.matmul(h, s, out=out)

        def member() -> None:
            for one in zip(h, s, out, strict=True):
                for _ in range(few):
                    np.matmul(*one[:2], out=one[2])

        runs |= {"numpy": (batch, few), "numpy by members": (member, few)}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(4 + 12 // members):
        for name, (function, count) in runs.items():
            start = clock()
            jax.block_until_ready(function())
            seconds[name].append((clock() - start) / count)
    flops = 2 * n**2 * particles * members
    # Without the first, which compiles.
    rates = {name: flops / min(times[1:]) for name, times in seconds.items()}
    ours = rates.pop("ours")
    peer = max(rates, key=lambda name: rates[name])
    return {
        "shape": [members, n, particles],
        "dtype": dtype,
        "flops_per_step": flops,
        "seconds_per_step": seconds,
        "rate": ours,
        "peer": peer,
        "peer_rate": rates[peer],
        "ratio": ours / rates[peer],
    }


@compiled_loop
def _ours(keys: Any, h: Any, s: Any) -> Any:
    def one(key: Any, h: Any, s: Any) -> Any:
        density = Quadratic(h, jnp.ones(len(h), h.dtype))
        return hmc.move(
            key,
            s,
            density,
            1.0 / jnp.diag(h),
            jnp.asarray(hmc.LENGTH / USUAL.leapfrogs, h.dtype),
            None,
            moves=USUAL.moves,
            leapfrogs=USUAL.leapfrogs,
            jitter=USUAL.jitter,
        )

    return hmc.each(one)(keys, h, s)


@compiled_loop
def _products(count: int, h: Any, s: Any) -> Any:
    return lax.fori_loop(0, count, lambda _, x: product(h, x), s)


def _large(n: int, dtype: str, clock: Callable[[], float]) -> float:
    """FLOPs a second of one product n x n x n: numpy's, or on a GPU JAX's."""
    a = np.random.default_rng(0).standard_normal((n, n)).astype(dtype)
    cpu = jax.default_backend() == "cpu"
    held = a if cpu else jnp.asarray(a)
    multiply = np.matmul if cpu else jax.jit(product)
    seconds = []
    for _ in range(3):
        start = clock()
        jax.block_until_ready(multiply(held, held))
        seconds.append(clock() - start)
    return 2 * n**3 / min(seconds)


# Whole runs


def _whole(sizes: list[tuple[int, int, int]]) -> dict[str, Any]:
    try:
        import blackjax
    except ImportError:
        return {"skipped": "blackjax is not installed"}
    rows = [_beside(*size) for size in sizes]
    return {"blackjax": blackjax.__version__, "particles": USUAL.particles, "rows": rows}


def _problem(n: int, m: int) -> tuple[np.ndarray, np.ndarray, Quadratic, float]:
    """Smooth components, unit noise, G of random rows: G, d, prior and ln Z."""
    generator = np.random.default_rng(0)
    lag = np.subtract.outer(np.arange(n), np.arange(n))
    cov = np.exp(-np.abs(lag) / 4.0)
    green = generator.standard_normal((m, n)) / np.sqrt(n)
    data = green @ np.linalg.cholesky(cov) @ generator.standard_normal(n)
    data += generator.standard_normal(m)
    c = np.eye(m) + green @ cov @ green.T
    exact = -0.5 * (data @ np.linalg.solve(c, data) + np.linalg.slogdet(2 * np.pi * c)[1])
    return green, data, Quadratic(np.linalg.inv(cov), np.zeros(n)), float(exact)


def _beside(n: int, m: int, repeats: int) -> dict[str, Any]:
    green, data, prior, exact = _problem(n, m)
    constant = -0.5 * m * np.log(2 * np.pi)
    g, d, c, p = jax.tree.map(jnp.asarray, (green[None], data, constant, prior))

    def ours(seed: int) -> tuple[float, int]:
        found = sample(USUAL, jax.random.split(jax.random.key(seed), 1), g, d, c, p, None)
        return float(found.log_evidence[0]), int(found.count[0])

    both = {"ours": ours, "blackjax": _blackjax(green, data, constant, prior)}
    out: dict[str, Any] = {"n": n, "data": m, "log_evidence": exact}
    for name, f in both.items():
        out[name] = {"first_seconds": timed(partial(f, 0))[0], "seconds": []}
        out[name] |= {"log_evidence": [], "stages": []}
    for seed in range(1, repeats + 1):
        for name, f in both.items():
            seconds, (z, stages) = timed(partial(f, seed))
            for key, value in (("seconds", seconds), ("log_evidence", z), ("stages", stages)):
                out[name][key].append(value)
    for name in both:
        error = float(np.mean(out[name]["log_evidence"])) - exact
        if not abs(error) <= AGREE:
            raise AssertionError(f"{name}: ln Z is off by {error}, expected {AGREE} or less")
    return out


def _blackjax(
    green: np.ndarray, data: np.ndarray, constant: float, prior: Quadratic
) -> Callable[[int], tuple[float, int]]:
    """ln Z and the number of stages, from a seed."""
    import blackjax
    from blackjax.smc import extend_params, resampling

    prior = jax.tree.map(jnp.asarray, prior)
    n = len(prior.vector)
    change = Quadratic(jnp.asarray(green.T @ green), jnp.asarray(green.T @ data))
    constant = constant - 0.5 * float(data @ data)
    factor = jnp.linalg.cholesky(prior.matrix)
    step = blackjax.hmc.build_kernel()

    def log(density: Quadratic, s: Any) -> Any:
        return jnp.dot(s, density.vector - 0.5 * product(density.matrix, s))

    def jittered(key: Any, state: Any, density: Any, step_size: Any, **options: Any) -> Any:
        key, length = jax.random.split(key)
        factor = 1.0 + USUAL.jitter * jax.random.uniform(length, minval=-1.0)
        return step(key, state, density, step_size * factor, **options)

    extend: Any = extend_params  # annotated for arrays only

    def tuning(gamma: Any) -> Any:
        variance, length = hmc.tuned(prior.plus(gamma, change).matrix, USUAL.leapfrogs)
        return extend(
            {
                "step_size": length,
                "inverse_mass_matrix": variance,
                "num_integration_steps": USUAL.leapfrogs,
            }
        )

    sampler: Any = blackjax.inner_kernel_tuning(
        smc_algorithm=blackjax.adaptive_tempered_smc,
        logprior_fn=partial(log, prior),
        loglikelihood_fn=lambda s: constant + log(change, s),
        mcmc_step_fn=jittered,
        mcmc_init_fn=blackjax.hmc.init,
        resampling_fn=resampling.systematic,
        mcmc_parameter_update_fn=lambda key, state, info: tuning(state.tempering_param),
        initial_parameter_value=tuning(0.0),
        num_mcmc_steps=USUAL.moves,
        target_ess=USUAL.ess,
    )

    @jax.jit
    def run(key: Any) -> tuple[Any, Any]:
        draw, moves = jax.random.split(key)
        noise = jax.random.normal(draw, (n, USUAL.particles))
        s = jax.scipy.linalg.solve_triangular(factor, noise, lower=True, trans="T").T

        def stage(at: Any) -> Any:
            state, z, k = at
            state, info = sampler.step(jax.random.fold_in(moves, k), state)
            return state, z + info.log_likelihood_increment, k + 1

        start = sampler.init(s), jnp.zeros(()), 0
        _, z, k = lax.while_loop(lambda at: at[0].sampler_state.tempering_param < 1.0, stage, start)
        return z, k

    def found(seed: int) -> tuple[float, int]:
        z, k = run(jax.random.key(seed))
        return float(z), int(k)

    return found


if __name__ == "__main__":
    print(json.dumps(measure(quick="quick" in sys.argv)))


def tables(result: dict[str, Any]) -> str:
    parts = []
    for r in result["kernel"]:
        clock = "processor time" if r["clock"] == "process_time" else "time"
        parts.append(
            f"{r['moves']} x {r['leapfrogs']} leapfrog steps, 2 n^2 N FLOPs a step and member, by"
            f" {clock} on {r['device']} (load average before: {r['load']:.1f}):"
        )
        table = []
        for row in r["rows"]:
            members, n, particles = row["shape"]
            table.append(
                [
                    row["dtype"],
                    f"{members} x {n} x {particles}",
                    f"{row['flops_per_step'] / 1e9:.2f}",
                    *(f"{row[k] / 1e9:.1f}" for k in ("rate", "peer_rate")),
                    row["peer"],
                    f"{row['ratio']:.2f}",
                    f"{row['peak'] / 1e9:.1f}",
                    f"{row['of_peak']:.2f}",
                ]
            )
        head = ["", "members x n x N", "GFLOP a step", "ours GFLOP/s", "products alone", "whose"]
        parts.append(markdown([*head, "ratio", "a large product", "ratio"], table))
    runs = result["runs"]
    if "skipped" in runs:
        return "\n\n".join([*parts, f"Whole runs: skipped, {runs['skipped']}."])
    parts.append(
        f"Whole runs of {runs['particles']} particles beside blackjax {runs['blackjax']}: median"
        " seconds (in brackets those of the first, with compilation) and the mean of ln Z less what"
        " it is, with its standard deviation from run to run."
    )
    table = []
    for r in runs["rows"]:
        both = [r["ours"], r["blackjax"]]
        seconds = [float(np.median(x["seconds"])) for x in both]
        first = [x["first_seconds"] for x in both]
        off = [np.array(x["log_evidence"]) - r["log_evidence"] for x in both]
        table.append(
            [
                f"{r['n']}",
                f"{r['data']}",
                f"{len(off[0])}",
                *(f"{np.mean(x['stages']):.0f}" for x in both),
                *(f"{s:.3g} ({f:.1f})" for s, f in zip(seconds, first, strict=True)),
                f"{seconds[1] / seconds[0]:.1f}",
                *(f"{np.mean(z):+.3f} ± {np.std(z, ddof=1):.3f}" for z in off),
            ]
        )
    head = ["n", "data", "runs", "stages: ours", "blackjax", "s: ours", "blackjax", "ratio"]
    return "\n\n".join([*parts, markdown([*head, "ln Z: ours", "blackjax"], table)])
