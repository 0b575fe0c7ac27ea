"""Gaussian noise of sensors, and whitening by it."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ..core.checks import finite_array
from ..core.errors import DataError
from ..core.quantities import converter, power, spelling, stated
from .covariance import check_symmetric, diagonal_blocks


def in_units(given: Any, units: str) -> Any:
    """Noise in the units of the data (covariances in their squares), where both state units.

    Raises
    ------
    DataError
        If the units of the noise do not convert.
    """
    own = stated(given)
    if own is None or spelling(units) == "1":
        return given
    wanted = units if np.ndim(given) < 2 else power((units, 2))
    return converter("noise", own, wanted).difference(finite_array("noise", given))


class Noise:
    """Gaussian noise of sensors, independent between them or correlated.

    Parameters
    ----------
    given : number or array
        A standard deviation; one for each sensor, shape (C,); a covariance for each sensor,
        (C, T, T); or one of all sensors, (C, T, C, T).
    candidates, steps : int
        C and T.

    Attributes
    ----------
    given : array
    deviations : array, shape (C,), or None
        Standard deviations, where no covariances are given.
    inverses : array, shape (C, T, T), or None
        L_j^-1, with L_j L_j^T the covariance of sensor j.
    correlated : array, shape (C, T, C, T), or None
        The covariance of all sensors, where they are correlated.

    Raises
    ------
    DataError
        If it has another shape, or is not symmetric and positive definite.
    """

    def __init__(self, given: Any, candidates: int, steps: int):
        self.given = values = finite_array("noise", given)
        self.candidates, self.steps = candidates, steps
        each = candidates, steps, steps
        if values.shape not in ((), (candidates,), each, (candidates, steps, candidates, steps)):
            raise DataError(
                f"noise: found shape {values.shape}, expected a number, {(candidates,)},"
                f" {each} or {(candidates, steps, candidates, steps)}"
            )
        self.deviations: Float[np.ndarray, " candidates"] | None = None
        self.inverses: Float[np.ndarray, "candidates times times"] | None = None
        self.correlated: Float[np.ndarray, "candidates times candidates times"] | None = None
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
        """`given` itself if it is a `Noise` already, else the noise that it describes."""
        return given if isinstance(given, cls) else cls(given, candidates, steps)

    def matrix(self) -> Float[np.ndarray, "candidates times candidates times"]:
        """The covariance of all sensors."""
        if self.correlated is not None:
            return self.correlated
        out = np.zeros((self.candidates, self.steps) * 2)
        for k in range(self.candidates):
            if self.deviations is None:
                out[k, :, k] = self.given[k]
            else:
                np.fill_diagonal(out[k, :, k], np.square(self.deviations[k]))
        return out

    def select(self, sensors: Int[np.ndarray, " some"]) -> Noise:
        """The noise of some of the sensors, by their indices."""
        given = self.given
        if given.ndim:
            given = given[sensors]
        if given.ndim == 4:
            given = given[:, :, sensors]
        return Noise(given, len(sensors), self.steps)

    def draw(
        self, generator: np.random.Generator, count: int
    ) -> Float[np.ndarray, "{count} times candidates"]:
        """Samples of the noise."""
        z = generator.standard_normal((count, self.steps, self.candidates))
        if self.deviations is not None:
            return z * self.deviations
        if self.correlated is None:
            return np.einsum("cij,bjc->bic", np.linalg.cholesky(self.given), z)
        root = np.linalg.cholesky(self.correlated.reshape(self.candidates * self.steps, -1))
        flat = np.swapaxes(z, 1, 2).reshape(count, -1) @ root.T
        return np.swapaxes(flat.reshape(count, self.candidates, self.steps), 1, 2)

    def whiten(
        self, blocks: Float[np.ndarray, "times some times"], p: int, which: slice
    ) -> Float[np.ndarray, "times some times"]:
        """L_p^-1 B_pj L_j^-T for blocks B_pj of sensor p with the sensors j of `which`."""
        if self.deviations is not None:
            scale = self.deviations[p] * self.deviations[which]
            return blocks / scale[:, None]
        assert self.inverses is not None
        left = np.tensordot(self.inverses[p], blocks, 1)
        return np.moveaxis(np.moveaxis(left, 1, 0) @ self.inverses[which].swapaxes(1, 2), 0, 1)

    def whiten_diagonal(
        self, blocks: Float[np.ndarray, "some times times"], which: slice
    ) -> Float[np.ndarray, "some times times"]:
        """L_j^-1 B_jj L_j^-T for blocks B_jj of the sensors j of `which`."""
        if self.deviations is not None:
            return blocks / np.square(self.deviations[which])[:, None, None]
        assert self.inverses is not None
        left = self.inverses[which]
        return left @ blocks @ left.swapaxes(1, 2)
