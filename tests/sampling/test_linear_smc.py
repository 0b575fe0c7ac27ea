"""Tempered sampling of linear models: evidence and moments against what is known exactly."""

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from multiprocessing import get_context

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pyadjoint_gpu.core.errors import DataError
from pyadjoint_gpu.core.precision import double
from pyadjoint_gpu.sampling import LinearSMC, hmc, linear, tempering
from pyadjoint_gpu.sampling.hmc import Box, Quadratic
from pyadjoint_gpu.sampling.journal import States
from pyadjoint_gpu.sampling.linear import Settings, sample

INFINITE = np.inf


@double
def run(green, data, prior, box=None, *, batch=1, seed=0, dtype=float, **settings):
    """Unit noise."""
    green = np.broadcast_to(green, (batch, *np.shape(green)))
    keys = jax.random.split(jax.random.key(seed), batch)
    constant = -0.5 * len(data) * np.log(2 * np.pi)
    arrays = jax.tree.map(lambda a: jnp.asarray(a, dtype), (green, data, constant, prior, box))
    found = sample(Settings(**settings), keys, *arrays)
    return jax.tree.map(np.asarray, found)


def gaussian(precision, mean):
    return Quadratic(np.asarray(precision), np.asarray(precision) @ np.asarray(mean))


def correlated(n, seed=0):
    a = np.random.default_rng(seed).standard_normal((n, n))
    return np.linalg.inv(a @ a.T / n + 0.1 * np.eye(n))


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "within"), [("float64", 0.05), ("float32", 0.05)])
def test_evidence_and_moments_in_closed_form(dtype, within):
    """d = G s + e: ln N(d; G mu, I + G Lambda^-1 G^T)."""
    generator = np.random.default_rng(1)
    n, m, batch = 12, 30, 8
    green, mean = generator.standard_normal((m, n)), generator.standard_normal(n)
    precision = correlated(n)
    cov = np.linalg.inv(precision)
    data = green @ (mean + np.linalg.cholesky(cov) @ generator.standard_normal(n))
    data = data + generator.standard_normal(m)
    c = np.eye(m) + green @ cov @ green.T
    off = data - green @ mean
    exact = -0.5 * (off @ np.linalg.solve(c, off) + np.linalg.slogdet(2 * np.pi * c)[1])
    found = run(green, data, gaussian(precision, mean), batch=batch, dtype=dtype)
    z = found.log_evidence
    assert z.dtype == dtype
    error = np.std(z, ddof=1) / np.sqrt(batch)
    assert np.std(z) < 0.5
    assert abs(np.mean(z) - exact) < 4 * error + 1e-3 and error < 4 * within
    posterior = np.linalg.inv(precision + green.T @ green)
    expected = mean + posterior @ green.T @ off
    sd = np.sqrt(np.diag(posterior))
    assert np.max(np.abs(np.mean(found.s, axis=(0, 2)) - expected) / sd) < within
    np.testing.assert_allclose(np.std(found.s, axis=(0, 2)), sd, rtol=within)
    # What the stages were.
    for gamma, ess, rate, length, k in zip(*found.stages, found.count, strict=True):
        assert np.all(np.diff(gamma[:k]) > 0) and gamma[k - 1] == 1.0
        np.testing.assert_allclose(ess[: k - 1], 0.5, rtol=1e-3)
        assert np.all(rate[:k] > 0.9) and np.all(np.isnan(rate[k:]))
        assert np.all((hmc.SAFE[0] < length[:k]) & (length[:k] < hmc.SAFE[1]))


SIDES = [
    ([-0.3, 0.1], [0.5, 0.9]),
    ([0.0, -INFINITE], [INFINITE, 0.2]),
    ([-INFINITE, -0.4], [INFINITE, INFINITE]),
]


@pytest.mark.slow
@pytest.mark.parametrize("lower, upper", SIDES)
def test_in_a_box_by_quadrature(lower, upper):
    prior = gaussian([[3.0, 1.5], [1.5, 2.0]], [0.2, -0.1])
    green = np.array([[2.0, -1.0], [0.5, 1.0], [0.0, 3.0]])
    data = np.array([0.4, 0.7, 0.3])
    # By a fine midpoint rule, many standard deviations to each side.
    axes = [
        (lambda a: 0.5 * (a[1:] + a[:-1]))(np.linspace(max(-6, low), min(6, high), 1501))
        for low, high in zip(lower, upper, strict=True)
    ]
    x, y = np.meshgrid(*axes, indexing="ij")
    s = np.stack([x.ravel(), y.ravel()])
    density = np.exp(np.sum(s * (prior.vector[:, None] - 0.5 * prior.matrix @ s), axis=0))
    misfit = np.sum((data[:, None] - green @ s) ** 2, axis=0)
    both = density * np.exp(-0.5 * misfit)
    exact = np.log(np.sum(both) / np.sum(density)) - 1.5 * np.log(2 * np.pi)
    mean = s @ both / np.sum(both)
    found = run(green, data, prior, Box(np.array(lower), np.array(upper)), batch=8, particles=2000)
    assert np.all(found.s >= np.array(lower)[:, None]) and np.all(
        found.s <= np.array(upper)[:, None]
    )
    assert np.std(found.log_evidence) < 0.1
    assert np.mean(found.log_evidence) == pytest.approx(exact, abs=0.02)
    np.testing.assert_allclose(np.mean(found.s, axis=(0, 2)), mean, atol=0.01)


@pytest.mark.slow
def test_finished_members_wait():
    """A member's samples do not depend on what is sampled beside it."""
    generator = np.random.default_rng(2)
    weak, strong = 0.1 * generator.standard_normal((5, 3)), 30 * generator.standard_normal((5, 3))
    prior, data = gaussian(np.eye(3), np.zeros(3)), generator.standard_normal(5)

    @double
    def beside(other):
        keys = jax.random.split(jax.random.key(3), 2)
        green, zero = jnp.stack([weak, other]), jnp.zeros(())
        return jax.tree.map(
            np.asarray, sample(Settings(particles=200), keys, green, data, zero, prior, None)
        )

    quick, slow = beside(weak), beside(strong)
    assert slow.count[1] > quick.count[0]
    assert quick.count[0] == slow.count[0] and quick.log_evidence[0] == slow.log_evidence[0]
    np.testing.assert_array_equal(quick.s[0], slow.s[0])


@pytest.mark.slow
@double
def test_side_by_side_as_on_a_gpu(monkeypatch):
    """Where finished members wait, masked; on CPUs one is sampled after another."""
    generator = np.random.default_rng(2)
    green = np.stack([scale * generator.standard_normal((5, 3)) for scale in (0.1, 3.0, 30.0)])
    prior, data = gaussian(np.eye(3), np.zeros(3)), generator.standard_normal(5)
    box = Box(np.full(3, -2.0), np.full(3, np.inf))
    keys = jax.random.split(jax.random.key(3), 3)
    given = jax.tree.map(jnp.asarray, (keys, green, data, 0.0, prior, box))
    alone = sample(Settings(particles=50), *given)
    monkeypatch.setattr(linear, "each", jax.vmap)
    beside = jax.jit(linear.posterior, static_argnums=0)(Settings(particles=50), *given)
    assert len(set(np.asarray(alone.count))) > 1
    np.testing.assert_array_equal(beside.count, alone.count)
    np.testing.assert_allclose(beside.log_evidence, alone.log_evidence, rtol=1e-9)
    np.testing.assert_allclose(beside.s, alone.s, rtol=1e-6, atol=1e-9)


@double
def test_reflection_is_a_billiard():
    """Beside a walk of small steps; v has turned round as often as a side was met."""
    box = Box(jnp.array([0.0, -1.0, -jnp.inf, -jnp.inf]), jnp.array([1.0, jnp.inf, 2.0, jnp.inf]))
    generator = np.random.default_rng(0)
    start = np.array([[0.4], [0.3], [1.2], [5.0]]) * np.ones(50)
    v = 3.0 * generator.standard_normal(start.shape)
    x, w = (np.asarray(a) for a in box.reflect(jnp.asarray(start + v), jnp.asarray(v)))
    s, d = start.copy(), v / 10_000
    low, high = np.asarray(box.lower)[:, None], np.asarray(box.upper)[:, None]
    for _ in range(10_000):
        s = s + d
        out = (s < low) | (s > high)
        s = np.where(s < low, 2 * low - s, np.where(s > high, 2 * high - s, s))
        d = np.where(out, -d, d)
    np.testing.assert_allclose(x, s, atol=1e-9)
    np.testing.assert_allclose(w, 10_000 * d, rtol=1e-9)


@pytest.mark.slow
@double
@pytest.mark.parametrize("leapfrogs", [1, 2, 3, 8])
@pytest.mark.parametrize("sides", [None, ([-0.5, -INFINITE, 0.0], [0.5, 0.3, INFINITE])])
def test_a_trajectory_by_the_textbook(leapfrogs, sides):
    """Places and momenta in numpy, a step at a time, from the same random numbers."""
    n, count, key = 3, 200, jax.random.key(1)
    density = gaussian(correlated(n), [0.1, -0.4, 0.2])
    h, b = density.matrix, density.vector[:, None]
    low, high = (np.array(side)[:, None] for side in sides or ([-INFINITE] * n, [INFINITE] * n))
    variance, dt = 1.0 / np.diag(h), 0.25
    s = np.clip(np.random.default_rng(0).standard_normal((n, count)), low, high)
    box = None if sides is None else Box(*map(jnp.asarray, sides))
    arrays = jax.tree.map(jnp.asarray, (s, density, variance, dt))
    found, rate = hmc.move(key, *arrays, box, moves=1, leapfrogs=leapfrogs, jitter=0.0)
    noise, _, chance = jax.random.split(jax.random.fold_in(key, 0), 3)
    c = variance[:, None]
    p = np.asarray(jax.random.normal(noise, s.shape)) / np.sqrt(c)

    def energy(x, p):
        return np.sum(x * (0.5 * h @ x - b) + 0.5 * c * p**2, axis=0)

    x, before = s, energy(s, p)
    for _ in range(leapfrogs):
        p = p + 0.5 * dt * (b - h @ x)
        x = x + dt * c * p
        while np.any(out := (x < low) | (x > high)):
            x = np.where(x < low, 2 * low - x, np.where(x > high, 2 * high - x, x))
            p = np.where(out, -p, p)
        p = p + 0.5 * dt * (b - h @ x)
    good = np.log(np.asarray(jax.random.uniform(chance, (count,)))) < before - energy(x, p)
    assert rate == pytest.approx(np.mean(good), rel=1e-6) and rate > 0.8
    np.testing.assert_allclose(found, np.where(good, x, s), rtol=0, atol=1e-12)


@pytest.mark.slow
@double
def test_the_next_temperature():
    logs = jnp.asarray(np.random.default_rng(0).standard_normal(1000) * 30)
    step, gain = tempering.increment(logs, jnp.asarray(0.0), 0.5)
    w = np.exp(np.asarray(step * logs))
    assert w.sum() ** 2 / (w**2).sum() / 1000 == pytest.approx(0.5, rel=1e-9)
    assert gain == pytest.approx(np.log(w.mean()), rel=1e-9)
    # All that is left, where that is enough.
    step, gain = tempering.increment(1e-3 * logs, jnp.asarray(0.25), 0.5)
    assert step == 0.75
    # Impossible particles do not count, and one alone still makes a step.
    step, gain = tempering.increment(logs.at[:600].set(-jnp.inf), jnp.asarray(0.0), 0.3)
    assert 0 < step < 1 and np.isfinite(gain)
    step, gain = tempering.increment(jnp.full(10, -jnp.inf).at[3].set(-5.0), jnp.asarray(0.0), 0.5)
    assert step > 0 and np.isfinite(gain)


@double
def test_systematic_resampling():
    w = np.array([0.1, 0.0, 0.55, 0.35])
    count = np.zeros(4)
    for k in range(400):
        picked = np.asarray(tempering.systematic(jax.random.key(k), jnp.log(jnp.asarray(w))))
        n = np.bincount(picked, minlength=4)
        assert np.all(np.abs(n - 4 * w) < 1)  # no more than one from what is due
        count += n
    np.testing.assert_allclose(count / 1600, w, atol=0.02)


@pytest.mark.slow
def test_compiled_once():
    """Whatever the data, and for all stages."""
    traced = []
    original = linear.tuned
    linear.tuned = lambda *args: traced.append(1) or original(*args)
    try:
        prior, green = gaussian(np.eye(2), np.zeros(2)), np.eye(2)
        for k in range(3):
            found = run(green * 10.0**k, np.ones(2), prior, particles=117, seed=k)
            assert found.count[0] > k
    finally:
        linear.tuned = original
    assert len(traced) == 1


@pytest.mark.slow
@pytest.mark.parametrize("side", [None, 4.0, 1.5])
@pytest.mark.filterwarnings("ignore::pyadjoint_gpu.sampling.SamplingWarning")
def test_the_error_of_directions_that_are_hardly_moved(side):
    """Correlated components, wide in few directions. Independent particles would have half the
    error; the box of 4 leaves out next to nothing."""
    generator = np.random.default_rng(0)
    n, m, sigma, particles = 30, 12, 0.02, 300
    x = np.arange(n)
    covariance = np.exp(-0.5 * ((x[:, None] - x) / 6.0) ** 2) + 1e-3 * np.eye(n)
    green = generator.standard_normal((m, n)) / np.sqrt(n)
    data = green @ np.linalg.cholesky(covariance) @ generator.standard_normal(n)
    data = data + sigma * generator.standard_normal(m)
    bounds = None if side is None else (-side, side)
    sampler = LinearSMC(green, data, sigma, covariance, bounds, Settings(particles, leapfrogs=20))
    found = sampler.run(repeats=24, progress=False)
    scatter = np.std(found["log_evidence"].values, ddof=1) / np.sqrt(24)
    within = found.attrs["log_evidence_error_within"]
    free = np.sqrt(np.nansum(1 / found["ess"].values - 1) / 24 / particles / 24)
    assert scatter > 1.4 * free
    assert 0.65 * scatter < within < 1.6 * scatter
    if side != 1.5:
        c = sigma**2 * np.eye(m) + green @ covariance @ green.T
        exact = -0.5 * (data @ np.linalg.solve(c, data) + np.linalg.slogdet(2 * np.pi * c)[1])
        off = found.attrs["log_evidence"] - exact
        assert abs(off) < 3 * found.attrs["log_evidence_error"]


# Going on, and in other processes

LINE = LinearSMC(
    np.vander([0.1, 0.5, 0.9], 2), [1.0, 2.0, 4.0], 0.1, [1.0, 1.0], settings=Settings(64)
)


@cache
def whole():
    return LINE.run(repeats=3, progress=False)


def same(found):
    for name in whole().data_vars:
        np.testing.assert_array_equal(found[name], whole()[name], err_msg=name)
    assert found.attrs["log_evidence_error"] == whole().attrs["log_evidence_error"]


def test_the_journal_goes_on_where_it_was(tmp_path, monkeypatch):
    save, calls, path = States.save, [], tmp_path / "run.h5"

    def dies(self, run, state, ended):
        calls.append(run)
        if len(calls) % 5 == 0:
            raise KeyboardInterrupt
        save(self, run, state, ended)

    monkeypatch.setattr(States, "save", dies)
    for _ in range(99):
        try:
            found = LINE.run(repeats=3, journal=path, progress=False)
        except KeyboardInterrupt:
            continue
        break
    assert {0, 1, 2} == set(calls) and len(calls) > 15
    same(found)
    done = len(calls)
    # It is finished, whatever computes it; fewer runs are its first.
    with ThreadPoolExecutor(1) as executor:
        same(LINE.run(repeats=3, journal=path, executor=executor, progress=False))
    first = LINE.run(journal=path, progress=False)
    np.testing.assert_array_equal(first["slip"], whole()["slip"][:1])
    assert len(calls) == done
    assert LINE.started(path) == [1.0] * 3
    other = replace(LINE, data=[1.0, 2.0, 4.1])
    with pytest.raises(DataError, match="made with other inputs than now: other data;"):
        other.run(journal=path, progress=False)
    assert other.started(path, overwrite=True) == []


def test_an_executor_shares_the_runs(tmp_path, monkeypatch):
    path, save = tmp_path / "run.h5", States.save

    def dies(self, run, state, ended):
        save(self, run, state, ended)
        raise KeyboardInterrupt

    with ThreadPoolExecutor(2) as executor:
        with monkeypatch.context() as patch:
            patch.setattr(States, "save", dies)
            with pytest.raises(KeyboardInterrupt):
                LINE.run(repeats=3, journal=path, executor=executor, progress=False)
        assert LINE.started(path) == [1.0]
        same(LINE.run(repeats=3, journal=path, executor=executor, progress=False))


@pytest.mark.slow
def test_other_processes_give_the_same_bits():
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        same(LINE.run(repeats=3, executor=executor, progress=False))
