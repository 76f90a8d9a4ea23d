"""Settings of every test: float64, no silent promotion, one seeded key."""

import os

os.environ.setdefault("NPROC", "1")  # one XLA thread per test process: the machine's cores are pytest-xdist's

import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture
def key():
    """One seeded random key."""
    return jax.random.key(20261122)
