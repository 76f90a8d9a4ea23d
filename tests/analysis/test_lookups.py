"""Tables looked up in `observe`: NumPy's values under JAX's transformations, no derivative, errors of the analysis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.analysis import lookup
from pipeline.containers import Columns
from pipeline.errors import AnalysisError, Failures

X = jnp.asarray([[0.1, 0.6], [0.9, 0.3], [0.5, 0.5]], jnp.float32)
C = Columns({"weight": jnp.ones(3), "x": X})


def steps(x, cut):
    return np.where(x > cut, 10.0, 1.0) + x.astype(np.float64)


def test_it_is_numpys_in_the_type_of_the_weights():
    found = jax.jit(lambda cut: lookup(C, steps, X, cut))(0.5)
    assert found.dtype == C.weight.dtype
    np.testing.assert_array_equal(found, steps(np.asarray(X), 0.5))
    narrow = Columns({"weight": jnp.ones(3, jnp.float32), "x": X})
    assert lookup(narrow, steps, X, 0.5).dtype == jnp.float32


def test_whole_numbers_stay_whole():
    """correctionlib's inputs of type int, such as the flavour of a jet, refuse others."""
    seen = []

    def table(flavour):
        seen.append(flavour.dtype)
        return 1.0 * flavour

    np.testing.assert_array_equal(lookup(C, table, jnp.asarray([0, 4, 5], jnp.int32)), [0, 4, 5])
    assert seen == [np.int32]


def test_variations_that_are_observed_together_are_looked_up_together():
    sizes = jnp.asarray([0.9, 1.0, 1.1], jnp.float32)
    found = jax.vmap(lambda size: lookup(C, steps, size * X, 0.5))(sizes)
    for row, size in zip(found, np.asarray(sizes), strict=True):
        np.testing.assert_array_equal(row, steps(size * np.asarray(X), 0.5))


def test_its_derivative_is_nothing_and_that_of_the_rest_is_there():
    def total(cut):
        return jnp.sum(lookup(C, steps, X, cut)) * cut

    value, slope = jax.value_and_grad(total)(0.5)
    assert slope == value / 0.5


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (lambda x: x[0], r"shape \(3, 2\) for arguments of shape \(2, 3, 2\)"),
        (lambda x: {}["muon"], "KeyError in the function of a lookup"),
    ],
)
def test_an_error_in_the_function_is_the_analysiss(table, says):
    """It is raised where somebody looks for the cause of the NaN."""
    failures = Failures()
    columns = Columns(C.arrays, failures).replace(x=2 * X)  # the columns of a variation, too
    sizes = jnp.asarray([0.9, 1.1], jnp.float32)
    assert np.all(np.isnan(jax.vmap(lambda size: lookup(columns, table, size * columns.x))(sizes)))
    with pytest.raises(AnalysisError, match=says):
        failures.raised()


def test_what_is_raised_where_nobody_looks_is_no_cause():
    failures = Failures()
    assert np.all(np.isnan(lookup(C, lambda x: {}["muon"], X)))
    lookup(Columns(C.arrays, failures), steps, X, 0.5)
    failures.raised()
