"""The status of events: what is counted, and that counts of chunks add."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.relax import histogram, status

numbers = st.lists(
    st.tuples(
        st.sampled_from([0.0, 1.5, np.nan, np.inf, -np.inf]), st.sampled_from([0.0, 2.0, np.nan, np.inf])
    ),
    min_size=4,
    max_size=4,
)
counted = jax.jit(status)


@given(numbers)
def test_counts_and_what_the_histogram_shows(events):
    values, weights = np.array(events).T
    found = counted(values, weights)
    assert found.nan_values == np.isnan(values).sum()
    assert found.infinite_values == np.isinf(values).sum()
    assert found.bad_weights == (~np.isfinite(weights)).sum()
    contents = histogram(values, np.array([-1.0, 1.0, 2.0]), bandwidth=0.1, weights=weights)
    assert found.ok == bool(np.all(np.isfinite(contents)))


def test_chunks_add_and_stacks_are_counted_by_row():
    values = jnp.array([[0.0, jnp.nan, jnp.inf, 1.0], [jnp.nan, jnp.nan, 0.0, 0.0]])
    whole = status(values)
    parts = jax.tree.map(jnp.add, status(values[:, :2]), status(values[:, 2:]))
    assert [n.tolist() for n in whole] == [n.tolist() for n in parts] == [[1, 2], [1, 0], 0]
    assert status(0.0 * jnp.ones(3)).ok
