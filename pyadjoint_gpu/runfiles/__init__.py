"""Run files: TOML tables that build the same objects as the Python API."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach(__name__, ["examples"])
