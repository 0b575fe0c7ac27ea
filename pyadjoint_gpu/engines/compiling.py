"""Compilations as phases of progress."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from ..core.progress import first_use
from ..core.texts import sizes
from ..models.base import Model
from .base import Engine

P = ParamSpec("P")
T = TypeVar("T")


def compiling(what: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorator of the methods of JAX's engines that take a model: the first call is a phase of
    progress, since it waits for the compiler. `what` names the computation."""

    def decorate(method: Callable[P, T]) -> Callable[P, T]:
        @wraps(method)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
            engine, model = args[:2]
            assert isinstance(engine, Engine) and isinstance(model, Model)
            key = (what, model.structure, str(engine.settings()))
            with first_use(key, f"compiling {what} for {sizes(model.grid.shape)}"):
                return method(*args, **kwargs)

        return wrapper

    return decorate
