"""Densities whose evidence is known exactly, and that can be drawn from."""

import os

import numpy as np
import pytest
import xarray as xr
from scipy.special import gammaln

LN_2PI = np.log(2 * np.pi)


class Gaussian:
    """N(mean, covariance) times exp(exact)."""

    def __init__(self, mean, covariance, exact):
        self.mean, self.root, self.exact = mean, np.linalg.cholesky(covariance), exact

    def draw(self, generator, count):
        return self.mean + generator.standard_normal((count, len(self.mean))) @ self.root.T

    def log_density(self, x):
        z = np.linalg.solve(self.root, (x - self.mean).T)
        ln = -0.5 * np.sum(z**2, axis=0) - np.sum(np.log(np.diag(self.root)))
        return self.exact + ln - 0.5 * len(self.mean) * LN_2PI


def correlated(n):
    a = np.random.default_rng(7).standard_normal((n, n))
    return Gaussian(np.full(n, 3.0), a @ a.T / n + 0.1 * np.eye(n), -12.5)


class Rosenbrock:
    exact = np.log(np.pi / 10)

    @staticmethod
    def draw(generator, count):
        x = 1.0 + np.sqrt(0.5) * generator.standard_normal(count)
        return np.stack([x, x**2 + np.sqrt(1 / 200) * generator.standard_normal(count)], axis=1)

    @staticmethod
    def log_density(x):
        return -((1 - x[:, 0]) ** 2) - 100 * (x[:, 1] - x[:, 0] ** 2) ** 2


class TenRosenbrock:
    """Five pairs, each exp(-(1 - x)^2 - 10 (y - x^2)^2), and the prior N(0, 3^2) of all numbers."""

    exact = -21.402087

    @staticmethod
    def draw(generator, count):
        """x by its distribution function, and y | x, which is normal."""
        at = np.linspace(-6.0, 6.0, 24_001)
        ln = -((1 - at) ** 2) - at**2 / 18 - 0.5 * at**4 / (9 + 1 / 20)
        below = np.cumsum(np.exp(ln))
        x = np.interp(generator.random((count, 5)), below / below[-1], at)
        precision = 20 + 1 / 9
        y = 20 * x**2 / precision + generator.standard_normal(x.shape) / np.sqrt(precision)
        return np.stack([x, y], axis=2).reshape(count, 10)

    @staticmethod
    def log_density(theta):
        x, y = theta[:, ::2], theta[:, 1::2]
        pairs = -((1 - x) ** 2) - 10 * (y - x**2) ** 2 - (x**2 + y**2) / 18
        return np.sum(pairs, axis=1) - 5 * (LN_2PI + 2 * np.log(3.0))


class DualMoon:
    """The target of flowMC's tutorial, in five dimensions: four equal modes on a thin shell."""

    exact = -3.684231071

    @staticmethod
    def modes(x, y):
        return sum(
            np.logaddexp(-0.5 * ((a - 3.0) / s) ** 2, -0.5 * ((a + 3.0) / s) ** 2)
            for a, s in ((x, 0.8), (y, 0.6))
        )

    @classmethod
    def log_density(cls, x):
        shell = -0.5 * ((np.linalg.norm(x, axis=1) - 2.0) / 0.1) ** 2
        return shell + cls.modes(x[:, 0], x[:, 1])

    @classmethod
    def draw(cls, generator, count):
        """By rejection from directions that are uniform, at each radius."""
        r, angle = np.linspace(1.2, 2.8, 3201), np.linspace(0.0, np.pi / 2, 401)
        ring = r[:, None] * np.array([np.cos(angle), np.sin(angle)])[:, None]
        top = np.max(cls.modes(*ring), axis=1) + 0.01
        ln = 4 * np.log(r) - 0.5 * ((r - 2.0) / 0.1) ** 2 + top
        below = np.cumsum(np.exp(ln - ln.max()))
        kept = []
        while sum(map(len, kept)) < count:
            radius = np.interp(generator.random(200_000), below / below[-1], r)
            x = generator.standard_normal((200_000, 5))
            x *= (radius / np.linalg.norm(x, axis=1))[:, None]
            chance = cls.modes(x[:, 0], x[:, 1]) - np.interp(radius, r, top)
            kept.append(x[np.log(generator.random(len(x))) < chance])
        return np.concatenate(kept)[:count]


class NormalGamma:
    """x_i ~ N(mu, 1 / tau) with mean 0 and mean square 1, tau ~ Gamma(alpha, rate beta),
    mu | tau ~ N(0, 1 / (tau0 tau)), of (mu, ln tau)."""

    n, alpha, beta = 100, 1e-3, 1e-3

    def __init__(self, tau0):
        self.tau0 = tau0
        self.shape, self.rate = self.alpha + self.n / 2, self.beta + self.n / 2
        self.exact = (
            gammaln(self.shape) - gammaln(self.alpha) + self.alpha * np.log(self.beta)
            - self.shape * np.log(self.rate) + 0.5 * np.log(tau0 / (tau0 + self.n))
            - 0.5 * self.n * LN_2PI
        )  # fmt: skip

    def draw(self, generator, count):
        tau = generator.gamma(self.shape, 1.0 / self.rate, count)
        sd = 1.0 / np.sqrt((self.tau0 + self.n) * tau)
        return np.stack([sd * generator.standard_normal(count), np.log(tau)], axis=1)

    def log_density(self, x):
        mu, ln = x.T
        tau = np.exp(ln)
        data = 0.5 * self.n * (ln - LN_2PI - tau * (1.0 + mu**2))
        gamma = self.alpha * (np.log(self.beta) + ln) - gammaln(self.alpha) - self.beta * tau
        normal = 0.5 * (np.log(self.tau0) + ln - LN_2PI - self.tau0 * tau * mu**2)
        return data + gamma + normal


def slip_data():
    """Green's functions, data and their covariance of the published case of nine patches."""
    folder = os.environ.get("PYADJOINT_GPU_DATA", "../shared/data")
    path = os.path.join(folder, "slip_patch9.nc")
    if not os.path.exists(path):
        pytest.skip(f"{path} is not there (PYADJOINT_GPU_DATA says where data are)")
    with xr.open_dataset(path, engine="h5netcdf") as file:
        return [file[k].values for k in ("green", "displacement", "displacement_covariance")]


def slip():
    g, d, c = slip_data()
    covariance = np.linalg.inv(g.T @ np.linalg.solve(c, g) + 4.0 * np.eye(18))
    whole = c + 0.25 * g @ g.T
    exact = -0.5 * (d @ np.linalg.solve(whole, d) + np.linalg.slogdet(2 * np.pi * whole)[1])
    assert exact == pytest.approx(413.60014, abs=1e-4)
    return Gaussian(covariance @ g.T @ np.linalg.solve(c, d), covariance, exact)


def samples(target, chains, draws, seed=0):
    x = target.draw(np.random.default_rng(seed), chains * draws)
    return x.reshape(chains, draws, -1), target.log_density(x).reshape(chains, draws)
