"""Run files: TOML tables that build the same objects as the Python API."""

import lazy_loader as _lazy

KINDS = ("inversion", "sampling", "placement")
"""Kinds of run files: each a class of its name (`Placement`) in a module of its name, beside the
module that runs it (``placement_run``). They are imported on use: a run needs its libraries only.
"""

__getattr__, __dir__, __all__ = _lazy.attach(__name__, ["examples"])
