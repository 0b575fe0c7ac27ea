"""Where solves run: an engine gives ``solve`` and ``adjoint``, and nothing else is asked of it."""

from __future__ import annotations

from .base import Adjoint, Engine, Solution

ENGINES = ("auto", "embedded", "julia")

__all__ = ["ENGINES", "Adjoint", "Engine", "Solution", "get_engine"]


def get_engine(engine: str | Engine = "auto") -> Engine:
    """The engine of that name, or `engine` itself.

    Raises
    ------
    ConfigError
        If there is no engine of that name.
    EngineError
        If it cannot run here.
    """
    from ..errors import ConfigError, EngineError

    if not isinstance(engine, str):
        if not hasattr(engine, "solve"):
            raise ConfigError(f"engine: found {engine!r}, expected one of {', '.join(ENGINES)}")
        return engine
    if engine in ("auto", "embedded"):
        from .embedded import EmbeddedEngine

        return EmbeddedEngine()
    if engine == "julia":
        raise EngineError(
            "engine 'julia' is not part of this version; use engine='embedded', which solves the"
            " same discrete equations"
        )
    raise ConfigError(f"engine: found {engine!r}, expected one of {', '.join(ENGINES)}")
