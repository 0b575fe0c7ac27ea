"""What `jax.numpy`'s annotations take from jaxlib's compiled module, whose wheel has no stubs."""

from typing import Any

class Device: ...

def __getattr__(name: str) -> Any: ...
