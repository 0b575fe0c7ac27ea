"""Gaussian noise of sensors at the times of a linear time-invariant system, and whitening of their
blocks by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from ..core.checks import finite_array
from ..core.errors import DataError
from ..core.quantities import converter, power, spelling, stated
from .bound_noise import Errors, as_covariance
from .covariance import check_symmetric, diagonal_blocks
from .noise import Layout, Noise


@dataclass(frozen=True, eq=False)
class SensorLayout(Layout):
    """The layout of data of C sensors at T times, times before sensors, with the shapes that noise
    of sensors may have."""

    sensors: int = 1

    @classmethod
    def of(
        cls, sensors: int, steps: int, units: str, interval: float, time_units: str
    ) -> SensorLayout:
        times = np.repeat(interval * np.arange(1.0, steps + 1.0), sensors)
        sites = np.tile(np.arange(sensors), steps)
        return cls(sensors * steps, units, times, time_units, sites, sensors=sensors)

    @property
    def steps(self) -> int:
        """T."""
        return self.size // self.sensors

    def finite(self, given: Any) -> Float[np.ndarray, " ..."]:
        """Errors of one of these shapes, in the units of the data, covariances in their square."""
        array = finite_array(self.name, given)
        c, t = self.sensors, self.steps
        shapes = (), (c,), (c, t, t), (c, t, c, t)
        if array.shape not in shapes:
            raise DataError(
                f"{self.name}: found shape {array.shape}, expected a number,"
                f" {', '.join(map(str, shapes[1:3]))} or {shapes[3]}"
            )
        own = stated(given)
        if own is None or spelling(self.units) == "1":
            return array
        wanted = self.units if array.ndim < 2 else power((self.units, 2))
        return converter(self.name, own, wanted).difference(array)

    def deviations(self, given: Any) -> Float[np.ndarray, " n"]:
        if np.shape(given) == (self.steps, self.sensors):  # the shape of the data
            given = given.data.ravel() if hasattr(given, "dims") else np.ravel(given)
            return super().deviations(given)
        return np.tile(np.broadcast_to(self.finite(given), self.sensors), self.steps)

    def covariance(self, given: Any) -> Errors:
        if np.ndim(given) == 2:
            return super().covariance(given)
        array = self.finite(given)
        if array.ndim == 3:
            found = scipy.sparse.block_diag(list(array), format="csr")
        else:
            found = scipy.sparse.csr_array(array.reshape(self.size, self.size))
        order = np.arange(self.size).reshape(self.sensors, self.steps).T.ravel()
        return scipy.sparse.csr_array(found)[order][:, order]

    def part(self, which: slice) -> Layout:
        own = Layout(self.size, self.units, self.times, self.time_units, self.sites, self.name)
        return own.part(which)

    def by_sensor(self, noise: Noise) -> Float[np.ndarray, " ..."]:
        """The errors of a noise in the smallest of the shapes."""
        c, t = self.sensors, self.steps
        plain = type(noise) is Noise and noise.scale is None
        if plain and noise.duration is not None:  # not by way of a sparse matrix
            assert self.times is not None
            sd = finite_array(self.name, self.deviations(noise.sd)).reshape(t, c).T[:, :, None]
            apart = np.abs(self.times[::c, None] - self.times[::c])
            return sd * np.exp(-apart / self.length(noise.duration)) * sd.swapaxes(1, 2)
        errors = noise.errors(self)
        finite_array(self.name, errors if isinstance(errors, np.ndarray) else errors.data)
        if isinstance(errors, np.ndarray):
            each = errors.reshape(t, c)
            if np.all(each == each[0]):
                return each[0]
        found = as_covariance(errors).tocoo()
        if np.all(found.row % c == found.col % c):
            out = np.zeros((c, t, t))
            out[found.row % c, found.row // c, found.col // c] = found.data
            return out
        out = np.zeros((c, t, c, t))
        out[found.row % c, found.row // c, found.col % c, found.col // c] = found.data
        return out


class SensorNoise:
    """Gaussian noise of sensors, independent between them or correlated.

    Parameters
    ----------
    given : Noise, number or array
        A `Noise`; or a standard deviation; one for each sensor, shape (C,); a covariance for each
        sensor, (C, T, T); or one of all sensors, (C, T, C, T).
    sensors, steps : int
        C and T.
    units : str
        Units of the data.
    interval : float
        Time between steps, in `time_units`.

    Attributes
    ----------
    given : array
        The errors in the smallest of these shapes.
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

    def __init__(
        self,
        given: Any,
        sensors: int,
        steps: int,
        units: str = "1",
        interval: float = 1.0,
        time_units: str = "1",
    ):
        layout = SensorLayout.of(sensors, steps, units, interval, time_units)
        values = layout.by_sensor(given) if isinstance(given, Noise) else layout.finite(given)
        self.given = values
        self.candidates, self.steps = sensors, steps
        self.deviations: Float[np.ndarray, " candidates"] | None = None
        self.inverses: Float[np.ndarray, "candidates times times"] | None = None
        self.correlated: Float[np.ndarray, "candidates times candidates times"] | None = None
        if values.ndim < 2:
            if not (values > 0.0).all():
                raise DataError(f"noise: found {values.min():g}, expected values > 0")
            self.deviations = np.broadcast_to(values, (sensors,))
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
                np.linalg.cholesky(self.correlated.reshape(sensors * steps, -1))
            except np.linalg.LinAlgError:
                raise DataError("noise: it is not positive definite") from None

    @classmethod
    def of(cls, given: Any, candidates: int, steps: int) -> SensorNoise:
        """`given` itself if it is bound to sensors already, else the noise that it describes."""
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

    def select(self, sensors: Int[np.ndarray, " some"]) -> SensorNoise:
        """The noise of some of the sensors, by their indices."""
        given = self.given
        if given.ndim:
            given = given[sensors]
        if given.ndim == 4:
            given = given[:, :, sensors]
        return SensorNoise(given, len(sensors), self.steps)

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
