"""Inference through ordinary differential equations: stars of given equations of state, and
many-start gradient descent to all parameters that fit data."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
