"""Inverse problems: controls, likelihood and penalties around a model."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(__name__, ["synthetic"])
