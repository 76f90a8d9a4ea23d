"""Parts of an uncertainty as objectives: together they are the uncertainty, with its derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from workspaces import counting, directions, two_channels

from pipeline import config
from pipeline.likelihood import HistFactory
from pipeline.objective import Inputs, value_of

pytestmark = pytest.mark.usefixtures("compiled_quickly")

GROUPS = {"data_statistics": (), "others": ("tilt", "norm", "lumi", "stat_sr", "stat_cr")}


def test_squares_of_the_parts_have_value_and_derivative_of_the_whole():
    """A second route to the derivative: that of the covariance, of which the parts know nothing."""
    model = HistFactory.from_workspace(two_channels())
    of = {"combination": {"mu": 2.0, "norm": -0.5}}
    whole = config.Objective(kind="poi_uncertainty", **of).quantity
    parts = [
        config.Objective(kind="uncertainty_part", group=name, **of).with_groups(GROUPS) for name in GROUPS
    ]

    def squares(templates):
        found = [
            value_of(own, Inputs(model, templates)) for own in (whole, *(part.quantity for part in parts))
        ]
        values = jnp.stack([own.value for own in found]) ** 2
        return values, jnp.all(jnp.stack([own.converged for own in found]))

    (direction,) = directions(model.templates, 1)
    (values, converged), (slopes, _) = jax.jit(lambda d: jax.jvp(squares, (model.templates,), (d,)))(
        direction
    )
    assert converged
    assert np.all(np.asarray(values) > 0)
    np.testing.assert_allclose(jnp.sum(values[1:]), values[0], rtol=1e-10)
    np.testing.assert_allclose(jnp.sum(slopes[1:]), slopes[0], rtol=1e-8)
    assert len(set(np.round(np.asarray(slopes), 12))) == len(slopes)


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
