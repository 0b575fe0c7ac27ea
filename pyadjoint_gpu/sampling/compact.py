"""Flows that are small enough for a file of 100 KB."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from .flow.architecture import Architecture
from .flow.model import Flow, network
from .flow.training import fit

PARAMETERS = 20_000
"""Most parameters of a flow, each 2 to 3 bytes in a file."""
BITS = 16
"""Significant bits of a parameter: ln q changes by some 1e-5, and by 3e-4 at most of 20,000 draws
in 11 dimensions."""
WIDEST = 32
"""Most units of the hidden layer of each network."""
STEPS = 8000
"""Steps of training, about, where samples are many."""
EPOCHS = 10, 80
"""Fewest and most passes through the samples."""
BATCH = 256


def fitted(
    x: Float[np.ndarray, "rows n"], weights: Float[np.ndarray, " rows"] | None, seed: int
) -> Flow:
    """The flow of rows, of as many parameters as a file has room for, of 16 bits."""
    epochs = int(np.clip(STEPS * BATCH / len(x), *EPOCHS))
    flow = fit(x, weights=weights, seed=seed, width=width(x.shape[1]), epochs=epochs, batch=BATCH)
    return Flow(flow.mean, flow.factor, _rounded(np.asarray(flow.parameters)), flow.architecture)


def width(n: int) -> int:
    """Units of the hidden layers of a flow of n components."""
    one, two = (network().number(Architecture(n, width=w)) for w in (1, 2))
    # The number of parameters is linear in the width.
    return int(np.clip((PARAMETERS - one) // max(two - one, 1) + 1, 1, WIDEST))


def _rounded(numbers: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Numbers of 16 significant bits, which single precision holds, and of which files get
    smaller."""
    mantissa, exponent = np.frexp(numbers)
    return (
        np.ldexp(np.round(np.ldexp(mantissa, BITS)), exponent - BITS)
        .astype(np.float32)
        .astype(float)
    )
