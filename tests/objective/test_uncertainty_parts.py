"""Parts of an uncertainty as objectives: together they are the uncertainty, with its derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from workspaces import counting, directions, two_channels

from pipeline import config
from pipeline.fit.shares import combination, fit_with_shares, is_of_bins
from pipeline.likelihood import HistFactory
from pipeline.objective import Inputs, value_of

pytestmark = pytest.mark.usefixtures("compiled_quickly")


def test_squares_of_the_parts_have_value_and_derivative_of_the_whole():
    """A second route to the derivative: that of the covariance, of which the parts know nothing."""
    model = HistFactory.from_workspace(two_channels())
    vector, bins = combination(model, {"mu": 2.0, "norm": -0.5}, "test"), is_of_bins(model)

    def squares(templates):
        data = model.expected_data(model.initial, templates)
        result, shares = fit_with_shares(model, data, vector, templates=templates)
        parts = [jnp.sum(jnp.where(own, shares.squares, 0.0)) for own in (bins, ~bins)]
        return jnp.stack([shares.variance, *parts]), result.converged

    (direction,) = directions(model.templates, 1)
    found = jax.jit(lambda d: jax.jvp(squares, (model.templates,), (d,)))(direction)
    (values, converged), (slopes, _) = found
    assert converged
    assert np.all(np.asarray(values) > 0)
    np.testing.assert_allclose(jnp.sum(values[1:]), values[0], rtol=1e-10)
    np.testing.assert_allclose(jnp.sum(slopes[1:]), slopes[0], rtol=1e-8)
    assert abs(slopes[1]) > 1e-3 < abs(slopes[2])
    section = config.Objective(
        kind="uncertainty_part", group="data_statistics", combination={"mu": 2.0, "norm": -0.5}
    )
    part = section.with_groups({"data_statistics": ()}).quantity
    value = jax.jit(lambda t: value_of(part, Inputs(model, t)).value)(model.templates)
    np.testing.assert_allclose(value**2, values[1], rtol=1e-12)


def test_a_group_that_does_nothing_has_no_part_and_no_derivative():
    """Nor has one of which the model has no parameter, as where it has been pruned."""
    model = HistFactory.from_workspace(counting())
    options = config.Objective(kind="uncertainty_part", sources=("gone",)).quantity
    value, slope = jax.jit(jax.value_and_grad(lambda t: value_of(options, Inputs(model, t)).value))(
        model.templates
    )
    assert value == 0
    assert all(jnp.all(leaf == 0) for leaf in jax.tree.leaves(slope))


def test_without_a_run_nobody_knows_what_a_group_holds():
    model = HistFactory.from_workspace(two_channels())
    options = config.Objective(kind="uncertainty_part", group="jets").quantity
    with pytest.raises(ValueError, match="which parameters group 'jets' has, only a run says; give sources"):
        value_of(options, Inputs(model, model.templates))
