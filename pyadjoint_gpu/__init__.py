"""Recover unknown fields of PDEs from data, with exact adjoint gradients."""

import lazy_loader as _lazy

from .core.version import __version__ as __version__
from .plots import accessor as _accessor

# Imported on first use: JAX, scipy and matplotlib cost nothing until something needs them. What
# there is, and where, stands in __init__.pyi.
__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)

_accessor.register()
