"""Benchmarks: iteration throughput, time to a solution, memory. ``python -m benchmarks``."""

import os

# Before numpy is imported: SuperLU and pyamg do not thread, and their short dot products run
# several times slower when BLAS does, next to anything else that uses the cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
