"""Noise of sensors, and covariances measured in it."""

from __future__ import annotations

from threading import Lock
from typing import Any

import numpy as np

from ..arrays import finite, shown
from ..core.quantities import converter, power, spelling, stated
from ..errors import ConfigError, DataError
from .blocks import Covariance, check_symmetric, diagonal_blocks
from .roundoff import refusal


def in_units(given: Any, units: str) -> Any:
    """Noise in the units of data, or the squares of these for covariances, where both state them.

    Raises
    ------
    DataError
        If its own do not convert.
    """
    own = stated(given)
    if own is None or spelling(units) == "1":
        return given
    wanted = units if np.ndim(given) < 2 else power((units, 2))
    return converter("noise", own, wanted).difference(finite("noise", given))


class Noise:
    """Of sensors: independent between them, or correlated.

    Parameters
    ----------
    given : number or array
        A standard deviation; one a sensor, shape (C,); a covariance a sensor, (C, T, T); or that
        of all, (C, T, C, T).
    candidates, steps : int
        C and T.

    Attributes
    ----------
    given : array
    deviations : array, shape (C,), or None
    inverses : array, shape (C, T, T), or None
        L_j^-1, with L_j L_j^T the covariance of sensor j by itself.
    correlated : array, shape (C, T, C, T), or None

    Raises
    ------
    DataError
        If it has another shape, or is not symmetric and positive definite.
    """

    def __init__(self, given: Any, candidates: int, steps: int):
        self.given = values = finite("noise", given)
        self.candidates, self.steps = candidates, steps
        each = candidates, steps, steps
        if values.shape not in ((), (candidates,), each, (candidates, steps, candidates, steps)):
            raise DataError(
                f"noise: found shape {values.shape}, expected a number, {(candidates,)},"
                f" {each} or {(candidates, steps, candidates, steps)}"
            )
        self.deviations = self.inverses = self.correlated = None
        if values.ndim < 2:
            if not (values > 0.0).all():
                raise DataError(f"noise: found {values.min():g}, expected values > 0")
            self.deviations = np.broadcast_to(values, (candidates,))
            return
        if values.ndim == 4:
            check_symmetric(values, "noise")
            self.correlated, values = values, diagonal_blocks(values)
        elif np.abs(values - values.swapaxes(1, 2)).max() > 1e-8 * np.abs(values).max():
            raise DataError("noise: a covariance is not symmetric")
        try:
            self.inverses = np.linalg.inv(np.linalg.cholesky(values))
        except np.linalg.LinAlgError:
            raise DataError("noise: a covariance is not positive definite") from None
        if self.correlated is not None:
            try:
                np.linalg.cholesky(self.correlated.reshape(candidates * steps, -1))
            except np.linalg.LinAlgError:
                raise DataError("noise: it is not positive definite") from None

    @classmethod
    def of(cls, given: Any, candidates: int, steps: int) -> Noise:
        """Checked, unless it was."""
        return given if isinstance(given, cls) else cls(given, candidates, steps)

    def too_small(self, factor: float) -> DataError:
        """That it must be so many times as large, or larger."""
        factor *= 1.05  # of which two digits are not less
        found, least = "", f"standard deviations {factor:.2g} times as large"
        if not self.given.ndim:
            found, least = f"found {self.given:g}, ", f"{factor * self.given:.2g}"
        return DataError(
            f"noise: {found}too small beside what sensors see for double precision, expected"
            f" {least} or more"
        )

    def matrix(self) -> np.ndarray:
        """The covariance of all, of shape (C, T, C, T)."""
        if self.correlated is not None:
            return self.correlated
        out = np.zeros((self.candidates, self.steps) * 2)
        for k in range(self.candidates):
            if self.deviations is None:
                out[k, :, k] = self.given[k]
            else:
                np.fill_diagonal(out[k, :, k], np.square(self.deviations[k]))
        return out

    def select(self, sensors: np.ndarray) -> Noise:
        """That of some of the sensors."""
        given = self.given
        if given.ndim:
            given = given[sensors]
        if given.ndim == 4:
            given = given[:, :, sensors]
        return Noise(given, len(sensors), self.steps)

    def draw(self, generator: np.random.Generator, count: int) -> np.ndarray:
        """Samples, of shape (count, T, C)."""
        z = generator.standard_normal((count, self.steps, self.candidates))
        if self.deviations is not None:
            return z * self.deviations
        if self.correlated is None:
            return np.einsum("cij,bjc->bic", np.linalg.cholesky(self.given), z)
        root = np.linalg.cholesky(self.correlated.reshape(self.candidates * self.steps, -1))
        flat = np.swapaxes(z, 1, 2).reshape(count, -1) @ root.T
        return np.swapaxes(flat.reshape(count, self.candidates, self.steps), 1, 2)

    def whiten(self, blocks: np.ndarray, p: int, which: slice) -> np.ndarray:
        """L_p^-1 B_pj L_j^-T of blocks of shape (T, n, T)."""
        if self.deviations is not None:
            scale = self.deviations[p] * self.deviations[which]
            return blocks / scale[:, None]
        assert self.inverses is not None
        left = np.tensordot(self.inverses[p], blocks, 1)
        return np.moveaxis(np.moveaxis(left, 1, 0) @ self.inverses[which].swapaxes(1, 2), 0, 1)

    def whiten_diagonal(self, blocks: np.ndarray, which: slice) -> np.ndarray:
        """L_j^-1 B_jj L_j^-T of blocks of shape (n, T, T)."""
        if self.deviations is not None:
            return blocks / np.square(self.deviations[which])[:, None, None]
        assert self.inverses is not None
        left = self.inverses[which]
        return left @ blocks @ left.swapaxes(1, 2)


class Whitened:
    """L_p^-1 (X + Gamma)_pj L_j^-T, where L_j L_j^T is the noise of sensor j by itself.

    Without correlations between sensors that is the identity plus a positive semi-definite matrix,
    and log-determinants are those of X + Gamma less those of Gamma.

    Attributes
    ----------
    covariance : Covariance or None
        X; zero if None.
    read : int
        Blocks of X, T x T, read so far.
    largest : float
        Of the variances seen by `diagonal`.
    """

    def __init__(self, covariance: Covariance | None, noise: Noise, name: str):
        self.covariance, self.noise, self.name, self.read = covariance, noise, name, 0
        self.largest = 0.0
        self._counting = Lock()

    def diagonal(self, which: slice) -> np.ndarray:
        """Shape (n, T, T)."""
        noise, blocks = self.noise.correlated, np.zeros(())
        if self.covariance is not None:
            blocks = self._checked(self.covariance.diagonal(which))
        if noise is not None:
            blocks = blocks + diagonal_blocks(noise, which)
        white = self.noise.whiten_diagonal(blocks, which)
        if noise is None:
            white = white + np.eye(white.shape[1])
        with self._counting:
            self.largest = max(self.largest, np.diagonal(white, axis1=1, axis2=2).max(initial=0.0))
        return white

    def row(self, p: int, which: slice) -> np.ndarray:
        """Shape (T, n, T)."""
        noise, blocks = self.noise.correlated, np.zeros(())
        if self.covariance is not None:
            blocks = self._checked(self.covariance.row(p, which))
        if noise is not None:
            blocks = blocks + noise[p, :, which]
        white = self.noise.whiten(blocks, p, which)
        if noise is None and which.start <= p < which.stop:
            white[:, p - which.start] += np.eye(len(white))
        return white

    def refusal(self, size: int, largest: float = 0.0) -> DataError:
        """Why it cannot be factorised, `size` rows of it."""
        return refusal(self.name, self.noise, max(self.largest, largest), size)

    def _checked(self, blocks: np.ndarray) -> np.ndarray:
        if not np.isfinite(blocks).all():
            raise DataError(f"{self.name}: values are not finite")
        with self._counting:
            self.read += blocks.size // blocks.shape[-1] ** 2
        return blocks


def objective(
    covariance: Covariance, noise: Any, conditional: Covariance | None = None
) -> tuple[Whitened, ...]:
    """K = X + Gamma, and where noise is correlated or X' is given the B of
    [logdet K_S - logdet B_S] / 2.

    Raises
    ------
    DataError
        If they do not fit.
    """
    for name, one in (("covariance", covariance), ("conditional", conditional)):
        if one is not None and not isinstance(one, Covariance):
            raise ConfigError(
                f"{name}: found {shown(one)}, expected a Covariance; DenseCovariance makes one of"
                " an array (C, T, C, T)"
            )
    shape = covariance.candidates, covariance.steps
    found = Noise.of(noise, *shape)
    matrices = [Whitened(covariance, found, "covariance with noise")]
    if conditional is not None:
        if (conditional.candidates, conditional.steps) != shape:
            raise DataError(
                f"conditional: found {conditional.candidates} candidates and {conditional.steps}"
                f" steps, expected {shape[0]} and {shape[1]}"
            )
        matrices.append(Whitened(conditional, found, "conditional with noise"))
    elif found.correlated is not None:
        matrices.append(Whitened(None, found, "noise"))
    return tuple(matrices)
