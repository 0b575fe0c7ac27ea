"""Gaussian priors of a problem's controls, those of fields by an elliptic operator."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ..core.checks import real_array
from ..core.errors import ConfigError, DataError
from ..core.quantities import converter, stated
from ..problem.control import BoundControl
from ..statistics.matern import FieldMap, MaternField
from ..statistics.observed import check_units


@dataclass(frozen=True)
class FieldPrior:
    """Gaussian prior theta ~ N(theta_0, sd^2 C), theta the transformed control (``ln m`` for
    transform "log") and theta_0 its initial value.

    Parameters
    ----------
    name : str
        The control.
    sd : float or array
        Standard deviation of theta, one or one a component, > 0.
    length : float, optional
        Correlation length, in the grid's unit of length. A control with basis "field" needs one;
        components of other controls are independent.
    """

    name: str
    sd: ArrayLike
    length: float | None = None

    def bind(self, control: BoundControl) -> FieldMap:
        """The linear map from independent standard normal numbers, of the control's shape, to
        theta - theta_0.

        Raises
        ------
        ConfigError, DataError
            If a number is not positive, or there is a length too many or too few.
        """
        key = f"prior.{self.name}"
        check_units(f"{key}.sd", self.sd)
        own = control.parameter.units if control.control.transform == "identity" else "1"
        how = converter(f"{key}.sd", stated(self.sd), own)
        try:
            sd = np.broadcast_to(how.difference(real_array(f"{key}.sd", self.sd)), control.shape)
        except (TypeError, ValueError):
            raise ConfigError(
                f"{key}.sd: found {self.sd!r}, expected a number, or an array of {control.shape}"
            ) from None
        if not np.all(np.isfinite(sd) & (sd > 0)):
            raise DataError(f"{key}.sd: found {np.min(sd):g}, expected finite values > 0")
        if control.control.basis != "field":
            if self.length is not None:
                raise ConfigError(f"{key}.length: the control is not a field; leave it out")
            return lambda x: jnp.asarray(sd) * x
        length, units = self.length, stated(self.length)
        if units is not None:
            how = converter(f"{key}.length", units, control.space.grid.units)
            length = how(real_array(f"{key}.length", length)).item()
        field = MaternField(control.space, length, key)
        return lambda x: jnp.asarray(sd) * field.root(x)
