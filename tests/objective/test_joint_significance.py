"""The geometric mean of two signals' significances: by hand without a fit, and as two discoveries with one."""

import numpy as np
import pytest
from workspaces import modifier, workspace_of

from pipeline.config.quantities import Discovery, JointSignificance
from pipeline.likelihood import HistFactory
from pipeline.objective import Inputs, value_of

ONE, TWO, BACKGROUND = ([6.0, 2.0, 0.5], [0.3, 1.0, 4.0], [40.0, 90.0, 30.0])
TILTED = {"hi_data": [44.0, 90.0, 28.0], "lo_data": [36.0, 90.0, 32.0]}


@pytest.fixture(scope="module")
def workspace():
    """Two signals on a background with an uncertain shape."""
    signals = [
        {"name": name, "data": data, "modifiers": [modifier(f"mu_{name}", "normfactor")]}
        for name, data in (("one", ONE), ("two", TWO))
    ]
    background = {"name": "b", "data": BACKGROUND, "modifiers": [modifier("tilt", "histosys", TILTED)]}
    total = np.sum([ONE, TWO, BACKGROUND], axis=0).tolist()
    channels = [{"name": "sr", "samples": [*signals, background]}]
    return workspace_of(channels, {"sr": total}, poi="mu_one")


def number(model, **options):
    found = value_of(
        JointSignificance(signals=("mu_one", "mu_two"), **options), Inputs(model, model.templates)
    )
    assert found.converged
    return float(found.value)


def test_without_a_fit_it_is_eq_97_with_the_other_signal_as_background(workspace):
    def z(signal, other):
        s, b = np.array(signal), np.array(other) + np.array(BACKGROUND)
        return np.sqrt(np.sum(2 * ((s + b) * np.log(1 + s / b) - s)))

    by_hand = np.sqrt(z(ONE, TWO) * z(TWO, ONE))
    np.testing.assert_allclose(
        number(HistFactory.from_workspace(workspace), fitted=False), by_hand, rtol=1e-12
    )


def test_with_fits_it_is_that_of_two_models_with_their_own_parameters_of_interest(workspace):
    model = HistFactory.from_workspace(workspace)
    each = []
    for name in ("mu_one", "mu_two"):
        own = HistFactory.from_workspace(workspace, poi=name)
        each.append(float(value_of(Discovery(), Inputs(own, own.templates)).value))
    found = number(model)
    np.testing.assert_allclose(found, np.sqrt(np.prod(each)), rtol=1e-10)
    assert found < number(model, fitted=False)


def test_a_signal_that_is_no_parameter_is_refused_and_one_without_events_is_nothing(workspace):
    model = HistFactory.from_workspace(workspace)
    with pytest.raises(ValueError, match="objective 'joint_significance': no parameter 'mu_three'"):
        value_of(JointSignificance(signals=("mu_one", "mu_three")), Inputs(model, model.templates))
    with pytest.raises(ValueError, match="at least 2"):
        JointSignificance(signals=("mu_one",))
    workspace["channels"][0]["samples"][1]["data"] = [0.0, 0.0, 0.0]
    empty = HistFactory.from_workspace(workspace)
    assert number(empty, fitted=False) == 0
