"""Relaxed operations are continuous: a tiny change of a value changes a result by no more than a slope can."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.relax import Relaxed

EVENTS, OBJECTS = 4000, 6
STEP = 1e-9
STEEPEST = 1e4  # largest change of any result below per change of a value: scores of 100 over a width of 0.5, squared
WIDTH = 0.5
MASK = jnp.asarray(np.random.default_rng(3).random((EVENTS, OBJECTS)) < 0.8)


def choose(x):
    relax = Relaxed(WIDTH)
    return relax.choose(x, mask=MASK, eligible=relax.greater(x[..., ::-1], 3.0))


OPERATIONS = {
    "choose": choose,
    "greater": lambda x: Relaxed(WIDTH).greater(x, 3.0),
    "between": lambda x: Relaxed(WIDTH).between(x, -3.0, 3.0),
    "at_least": lambda x: Relaxed(WIDTH).at_least(Relaxed(WIDTH).greater(x, 3.0), 2),
    "exactly": lambda x: Relaxed(WIDTH).exactly(Relaxed(WIDTH).greater(x, 3.0), 2),
    "nth_passing": lambda x: Relaxed(WIDTH).nth_passing(Relaxed(WIDTH).greater(x, 3.0), 2),
    "max": lambda x: Relaxed(WIDTH).max(x, mask=MASK),
    "min": lambda x: Relaxed(WIDTH).min(x, mask=MASK),
    "top": lambda x: Relaxed(WIDTH).top(x, 2, mask=MASK),
    "nth": lambda x: Relaxed(WIDTH).nth(x, 2, mask=MASK),
    "rank": lambda x: Relaxed(WIDTH).rank(x, mask=MASK),
    "sort": lambda x: Relaxed(WIDTH).sort(x, width=0.01, mask=MASK),
    "histogram": lambda x: (
        Relaxed(WIDTH).histogram(x.ravel(), jnp.linspace(-20, 20, 9), bandwidth=0.3) / EVENTS
    ),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_tiny_change_of_a_value_changes_little(name):
    operation = jax.jit(OPERATIONS[name])
    rng = np.random.default_rng(1)
    x = np.round(
        rng.normal(0, 8, (EVENTS, OBJECTS))
    )  # many values are equal, and many lie on a cut or an edge
    change = operation(x + STEP * rng.choice([-1, 1], x.shape)) - operation(x)
    assert np.max(np.abs(change)) < STEEPEST * STEP


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_object_that_cannot_be_chosen_any_more_leaves_without_a_jump(dtype):
    # Scores count from the smallest, here that of the object that fades away.
    scores, mask = np.array([100.0, 95.0, 10.0], dtype), np.ones(3)
    smallest = np.finfo(dtype).tiny
    kept, gone = (
        jax.jit(Relaxed(WIDTH).choose)(scores, mask=mask, eligible=np.array([0.93, 1.0, last], dtype))
        for last in (smallest, smallest / 2)
    )
    np.testing.assert_allclose(kept, gone, rtol=1e-6)
    assert kept[0] < kept[1]  # counted from 95 it would be the other way round
