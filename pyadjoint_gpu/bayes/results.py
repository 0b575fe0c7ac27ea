"""What samplers found, as Datasets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import jax
import numpy as np

from .. import __version__
from ..dataset import clean

TITLE = "pyadjoint_gpu samples"


def evidence(log_evidence: np.ndarray) -> dict[str, float | None]:
    """ln Z of independent runs together, and its error.

    ln of the mean of the estimates of Z, which are unbiased, and the standard deviation of ln Z
    over the square root of the number of runs; one run says nothing of its error.
    """
    count = len(log_evidence)
    top = np.max(log_evidence)
    together = float(top + np.log(np.mean(np.exp(log_evidence - top))))
    error = float(np.std(log_evidence, ddof=1) / np.sqrt(count)) if count > 1 else None
    return {"log_evidence": together, "log_evidence_error": error}


def attributes(event: str, **more: Any) -> dict[str, Any]:
    """Of the whole Dataset."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    device = jax.devices()[0]
    return clean(
        {
            "Conventions": "CF-1.11",
            "title": TITLE,
            "source": f"pyadjoint_gpu {__version__}",
            "history": f"{now} {event}",
            "created_at": now,
            "pyadjoint_gpu_version": __version__,
            "device": f"{device.platform}: {device.device_kind}",
            **more,
        }
    )


def named(long_name: str, units: str = "1") -> dict[str, str]:
    return {"units": units, "long_name": long_name}
