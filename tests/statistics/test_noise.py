"""Gaussian noise of every kind against dense matrices."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import xarray as xr
from linear_systems import POINTS, SENSORS, STEPS, decaying, prior, spd

import pyadjoint_gpu as pag
from pyadjoint_gpu.lti import LinearInversion
from pyadjoint_gpu.placement import place_sensors
from pyadjoint_gpu.sampling.inputs import fixed
from pyadjoint_gpu.statistics import Layout, Noise

N = 7
RANDOM = np.random.default_rng(0)
SD = RANDOM.uniform(0.5, 2.0, N)
TIMES = np.array([0.0, 3.0, 1.0, 0.5, 2.0, 4.0, 1.5])
SITES = np.array([0, 1, 0, 1, 0, 2, 0])
DATA = Layout(N, times=TIMES, sites=SITES)
TAU = 1.3
IN_TIME = np.exp(-np.abs(TIMES[:, None] - TIMES) / TAU) * (SITES[:, None] == SITES)
DENSE = spd(N, 1)
BLOCKS = np.zeros((N, N))
BLOCKS[:3, :3], BLOCKS[3:, 3:] = 0.04 * np.eye(3), spd(4, 2)
KINDS = {
    "one sd": (Noise(0.3), 0.09 * np.eye(N)),
    "each": (Noise(SD), np.diag(SD**2)),
    "dense": (Noise(covariance=DENSE), DENSE),
    "diagonal": (Noise(covariance=np.diag(SD)), np.diag(SD)),
    "in time": (Noise(SD, duration=TAU), SD[:, None] * IN_TIME * SD),
    "sum": (Noise(0.3) + Noise(SD), np.diag(0.09 + SD**2)),
    "sum in time": (
        Noise(0.1) + Noise(SD, duration=TAU),
        0.01 * np.eye(N) + SD[:, None] * IN_TIME * SD,
    ),
    "sum of all": (
        Noise(SD) + Noise(0.5, duration=TAU) + Noise(covariance=DENSE),
        np.diag(SD**2) + 0.25 * IN_TIME + DENSE,
    ),
    "blocks": (Noise.blocks((Noise(0.2), 3), (Noise(covariance=spd(4, 2)), 4)), BLOCKS),
    "blocks of numbers": (
        Noise.blocks((Noise(0.2), 3), (Noise(SD[3:]), 4)),
        np.diag(np.r_[0.04 * np.ones(3), SD[3:] ** 2]),
    ),
}


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("kind", KINDS)
def test_against_the_dense_covariance(kind: str):
    noise, sigma = KINDS[kind]
    bound = noise.on(DATA)
    r = RANDOM.standard_normal((N, 2))
    np.testing.assert_allclose(bound.sd, np.sqrt(np.diag(sigma)), rtol=1e-14)
    np.testing.assert_allclose(bound.covariance(r), sigma @ r, rtol=1e-11, atol=1e-13)
    root = np.asarray(bound.root(np.eye(N)))
    np.testing.assert_allclose(root @ root.T, sigma, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(bound.whiten(root @ r), r, rtol=1e-10, atol=1e-12)
    expected = scipy.stats.multivariate_normal(np.zeros(N), sigma).logpdf(r[:, 0])
    assert float(bound.log_density(r[:, 0])) == pytest.approx(expected, rel=1e-12)
    assert float(bound.constant) == pytest.approx(-0.5 * np.linalg.slogdet(2 * np.pi * sigma)[1])


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_code_sees_arrays(kind: str):
    """Its gradient is -Sigma^-1 r; another noise of the same shapes needs no other compilation."""
    noise, sigma = KINDS[kind]
    traced = 0

    @jax.jit
    def gradient(bound: Any, r: jax.Array) -> jax.Array:
        nonlocal traced
        traced += 1
        return jax.grad(bound.log_density)(r)

    r = jnp.asarray(RANDOM.standard_normal(N))
    np.testing.assert_allclose(gradient(noise.on(DATA), r), -np.linalg.solve(sigma, r), rtol=1e-9)
    twice = jax.tree.map(lambda a: 2.0 * a if a.dtype.kind == "f" else a, noise.on(DATA))
    np.testing.assert_allclose(gradient(twice, r), -np.linalg.solve(sigma, r) / 4, rtol=1e-9)
    assert traced == 1


@pytest.mark.parametrize("kind", ["each", "in time", "sum of all"])
def test_draws_have_the_covariance(kind: str):
    noise, sigma = KINDS[kind]
    count = 40_000
    draws = noise.on(DATA).draw(np.random.default_rng(1), count)
    error = np.sqrt((sigma**2 + np.outer(np.diag(sigma), np.diag(sigma))) / count)
    assert np.max(np.abs(draws.T @ draws / count - sigma) / error) < 4.5


def test_errors_correlated_in_time_have_independent_innovations():
    """L^-1 r is what the datum before at the same place does not predict, whatever the order of the
    data."""
    r = RANDOM.standard_normal(N)
    white = np.asarray(Noise(SD, duration=TAU).on(DATA).whiten(r))
    for site in range(3):
        of = np.flatnonzero(site == SITES)[np.argsort(TIMES[site == SITES])]
        s = r[of] / SD[of]
        rho = np.exp(-np.diff(TIMES[of]) / TAU)
        np.testing.assert_allclose(white[of[0]], s[0], rtol=1e-12)
        expected = (s[1:] - rho * s[:-1]) / np.sqrt(1.0 - rho**2)
        np.testing.assert_allclose(white[of[1:]], expected, rtol=1e-9)


def test_units_are_those_of_the_data():
    data = Layout(N, "m", TIMES, "h", SITES)
    expected = Noise(SD, duration=TAU).on(data)
    sd = xr.DataArray(100.0 * SD, attrs={"units": "cm"})
    duration = xr.DataArray(60.0 * TAU, attrs={"units": "minute"})
    r = RANDOM.standard_normal(N)
    found = Noise(sd, duration=duration).on(data)
    np.testing.assert_allclose(found.whiten(r), expected.whiten(r), rtol=1e-10)
    dense = xr.DataArray(1e4 * DENSE, attrs={"units": "cm2"})
    found, expected = Noise(covariance=dense).on(data), Noise(covariance=DENSE).on(data)
    np.testing.assert_allclose(found.whiten(r), expected.whiten(r), rtol=1e-10)


SECONDS = xr.DataArray(1.0, attrs={"units": "s"})
ASYMMETRIC = DENSE + np.eye(N, k=1)
BAD: dict[str, tuple[Any, str]] = {
    "nothing": (lambda: Noise(), "noise: found neither of sd and covariance, expected one"),
    "both": (lambda: Noise(1.0, covariance=DENSE), "noise: found both of sd and covariance"),
    "text": (lambda: Noise("small"), r"noise.sd: found 'small', expected real numbers"),
    "covariance of text": (lambda: Noise(covariance="a"), "noise.covariance: found 'a', expected"),
    "no duration": (
        lambda: Noise(1.0, duration=0.0),
        "noise.duration: found 0.0, expected a positive number",
    ),
    "duration of a covariance": (
        lambda: Noise(covariance=DENSE, duration=1.0),
        "noise.duration: found beside a covariance",
    ),
    "no times": (
        lambda: Noise(1.0, duration=2.0).on(Layout(N)),
        "noise.duration: found 2.0, but the data have no times",
    ),
    "number of sds": (lambda: Noise([1.0, 2.0]).on(DATA), "noise: found 2 values, expected 7"),
    "sd of two axes": (lambda: Noise(DENSE).on(DATA), r"noise: found shape \(7, 7\), expected \(7"),
    "negative": (lambda: Noise(-1.0).on(DATA), "noise: found -1, expected values > 0"),
    "not finite": (lambda: Noise(np.nan).on(DATA), "noise: 1 values are not finite"),
    "missing": (lambda: Noise(np.where(SITES, SD, np.inf)).on(DATA), "noise: 4 values are not fin"),
    "shape": (
        lambda: Noise(covariance=np.eye(3)).on(DATA),
        r"noise: found an array of shape \(3, 3\), expected \(7, 7\)",
    ),
    "asymmetric": (lambda: Noise(covariance=ASYMMETRIC).on(DATA), "covariance is not symmetric"),
    "indefinite": (
        lambda: Noise(covariance=-DENSE).on(DATA),
        "noise: the covariance is not positive definite",
    ),
    "singular": (
        lambda: Noise(1.0, duration=1.0).on(Layout(2, times=np.zeros(2))),
        "noise: the covariance is not positive definite",
    ),
    "negative variances": (
        lambda: Noise(covariance=-np.eye(N)).on(DATA),
        "noise: the covariance is not positive definite",
    ),
    "units": (lambda: Noise(SECONDS).on(Layout(N, "m")), "noise is in 's', expected 'm'"),
    "units of duration": (
        lambda: Noise(1.0, duration=SECONDS).on(Layout(N, times=TIMES, time_units="m")),
        "noise.duration is in 's', expected 'm'",
    ),
    "sum with a number": (lambda: Noise(1.0) + 2.0, "noise: found float, expected a Noise"),
    "no blocks": (lambda: Noise.blocks(), "noise: found no blocks"),
    "block without size": (lambda: Noise.blocks(Noise(1.0)), "found Noise, expected a tuple"),  # type: ignore[arg-type]
    "block of no data": (lambda: Noise.blocks((Noise(1.0), 0)), "noise: found 0, expected a pos"),
    "sizes of blocks": (
        lambda: Noise.blocks((Noise(1.0), 3), (Noise(2.0), 3)).on(DATA),
        "noise: found blocks of 6 data in all, expected 7",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_noise_that_cannot_be(case: str):
    make, message = BAD[case]
    with pytest.raises((pag.ConfigError, pag.DataError), match=message):
        make()


# Its users


@pytest.mark.parametrize("kind", ["each", "dense", "sum", "blocks"])
@pytest.mark.parametrize("missing", [(), (1, 4)])
def test_samplers_of_linear_problems(kind: str, missing: tuple[int, ...]):
    """L^-1 [d, G] and the constant give the dense posterior and evidence of the observed data."""
    noise, sigma = KINDS[kind]
    kept = np.setdiff1d(np.arange(N), missing)
    d, g = RANDOM.standard_normal(N), RANDOM.standard_normal((2, N, 3))
    given = fixed(
        np.where(np.isin(np.arange(N), missing), np.nan, d), noise, pag.Independent(1.0).on(3), None
    )
    inverse = np.linalg.inv(sigma[np.ix_(kept, kept)])
    white = given.whiten(g)
    expected = np.einsum("bki,kl,blj->bij", g[:, kept], inverse, g[:, kept])
    np.testing.assert_allclose(np.einsum("bki,bkj->bij", white, white), expected, rtol=1e-9)
    projected = np.einsum("bki,kl,l->bi", g[:, kept], inverse, d[kept])
    np.testing.assert_allclose(white.swapaxes(1, 2) @ given.data, projected, rtol=1e-8, atol=1e-12)
    assert given.constant == pytest.approx(0.5 * np.linalg.slogdet(inverse / (2 * np.pi))[1])


OF = decaying(SENSORS, 1)
SHIFTS = np.abs(np.subtract.outer(np.arange(STEPS), np.arange(STEPS)))
EACH = np.array([0.2, 0.5, 0.3, 1.0])
PER_SENSOR = np.square(EACH)[:, None, None] * np.exp(-SHIFTS / TAU)
TOGETHER = 0.1 * spd(STEPS * SENSORS, 3)
OF_SENSORS = {
    "one sd": (Noise(0.3), 0.3),
    "one a sensor": (Noise(EACH), EACH),
    "one a datum, alike in time": (Noise(np.tile(EACH, (STEPS, 1))), EACH),
    "one a datum": (
        Noise(np.outer(np.arange(1.0, STEPS + 1), EACH)),
        np.square(EACH)[:, None, None] * np.diag(np.arange(1.0, STEPS + 1) ** 2),
    ),
    "in time": (Noise(EACH, duration=TAU), PER_SENSOR),
    "sum": (
        Noise(0.1) + Noise(EACH, duration=TAU),
        PER_SENSOR + 0.01 * np.eye(STEPS),
    ),
    "dense": (
        Noise(covariance=TOGETHER),
        TOGETHER.reshape(STEPS, SENSORS, STEPS, SENSORS).transpose(1, 0, 3, 2),
    ),
    "of each sensor": (
        Noise(covariance=PER_SENSOR) + Noise(0.1),
        PER_SENSOR + 0.01 * np.eye(STEPS),
    ),
    "blocks": (
        Noise.blocks((Noise(0.3), SENSORS), (Noise(0.6), (STEPS - 1) * SENSORS)),
        np.tile(np.diag([0.09, *[0.36] * (STEPS - 1)]), (SENSORS, 1, 1)),
    ),
}


@pytest.mark.parametrize("kind", OF_SENSORS)
def test_linear_time_invariant_systems(kind: str):
    """The same posterior and placement as with the array of sensors' covariances."""
    noise, array = OF_SENSORS[kind]
    d = RANDOM.standard_normal((STEPS, SENSORS))
    found, expected = (
        LinearInversion(OF, prior("exponential"), e, decaying(POINTS, 2)).infer(d)
        for e in (noise, array)
    )
    xr.testing.assert_allclose(found, expected, rtol=1e-9)
    found, expected = (
        place_sensors(OF, prior("exponential"), e, 3, random=2) for e in (noise, array)
    )
    np.testing.assert_array_equal(found["order"], expected["order"])
    np.testing.assert_allclose(found["information"], expected["information"], rtol=1e-9)


def test_noise_of_sensors_that_cannot_be():
    for noise, message in (
        (
            Noise(np.ones(3)),
            r"noise: found shape \(3,\), expected a number, \(4,\), \(4, 6",
        ),
        (Noise(np.where(EACH > 0.9, np.inf, EACH)), "noise: 1 values are not finite"),
        (Noise(-EACH), "noise: found -1, expected values > 0"),
        (Noise.blocks((Noise(1.0), 5)), "noise: found blocks of 5 data in all, expected 24"),
    ):
        with pytest.raises(pag.DataError, match=message):
            LinearInversion(OF, prior(), noise)
