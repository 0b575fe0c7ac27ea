"""The base of engines for models with time steps."""

from __future__ import annotations

from typing import Any

from .base import Engine


class TimeStepper(Engine):
    """An engine for models with time steps, in the name of another engine."""

    def __init__(self, engine: Engine):
        self.engine = engine
        self.name, self.solver = engine.name, engine.solver

    def info(self) -> dict[str, Any]:
        return self.engine.info()

    def settings(self) -> dict[str, Any] | None:
        return self.engine.settings()

    def close(self) -> None:
        self.engine.close()
