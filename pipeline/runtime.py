"""The JAX runtime that every process of a run has, so that the same sums have the same bits everywhere."""

import importlib.metadata
import os

# jaxlib's thread pool reads NPROC; OMP_NUM_THREADS and XLA_FLAGS do not pin it. Its Cholesky and triangular solves are
# SciPy's OpenBLAS, whose own threads wait for each other on busy cores, for longer than a small matrix takes. Sums then
# run in one order.
ONE_THREAD = {"NPROC": "1", "OPENBLAS_NUM_THREADS": "1"}
# Halves the time to compile a sweep or a fit on the CPU and costs nothing at run time.
# Another version may not know the flag, and XLA ends a process with an unknown one.
FAST_COMPILATION = {"XLA_FLAGS": "--xla_cpu_use_fusion_emitters=false"}
KNOWN_TO = "0.10."


def environment() -> dict[str, str]:
    """Environment variables to set before JAX is imported; those already set are the user's and stay."""
    flags = FAST_COMPILATION if importlib.metadata.version("jaxlib").startswith(KNOWN_TO) else {}
    return {name: os.environ.get(name, value) for name, value in {**ONE_THREAD, **flags}.items()}
