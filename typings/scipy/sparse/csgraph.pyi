"""What the package uses of scipy.sparse.csgraph, which has no types."""

import numpy as np

from . import csr_array

def connected_components(csgraph: csr_array, directed: bool = ...) -> tuple[int, np.ndarray]: ...
