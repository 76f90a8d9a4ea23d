"""Contours of two parameters: pyhf's fits with both held have that rise of -2 ln L, and many events make an ellipse."""

import numpy as np
import pyhf
import pytest
from workspaces import modifier, workspace_of

from pipeline.errors import FitError
from pipeline.fit.contour import LEVELS, contours, rise_of
from pipeline.likelihood import HistFactory

pytestmark = pytest.mark.usefixtures("compiled_quickly")


def two_signals(scale, shapes=((8.0, 2.0, 1.0), (1.0, 3.0, 7.0)), background=(3.0, 4.0, 5.0)):
    """Two free signals on a background with an uncertainty of its own."""
    signals = [
        {"name": name, "data": [scale * n for n in own], "modifiers": [modifier(f"mu_{name}", "normfactor")]}
        for name, own in zip("ab", shapes, strict=True)
    ]
    other = {
        "name": "c",
        "data": [scale * n for n in background],
        "modifiers": [modifier("norm", "normsys", {"hi": 1.1, "lo": 0.9})],
    }
    samples = [*signals, other]
    total = [sum(bins) for bins in zip(*(sample["data"] for sample in samples), strict=True)]
    wide = [{"name": f"mu_{name}", "inits": [1.0], "bounds": [[0.0, 20.0]]} for name in "ab"]
    return workspace_of([{"name": "r", "samples": samples}], {"r": total}, poi="mu_a", parameters=wide)


def test_the_rise_at_every_point_is_that_of_pyhf():
    content = two_signals(4.0)
    (found,) = contours(HistFactory.from_workspace(content), ["mu_a", "mu_b"])
    assert found.parameters == ("mu_a", "mu_b")
    assert found.best == pytest.approx((1.0, 1.0), abs=1e-9)
    model = pyhf.Workspace(content).model()
    data = np.asarray(model.expected_data(model.config.suggested_init()))
    places = [model.config.par_names.index(name) for name in found.parameters]
    fixed = [index in places for index in range(model.config.npars)]
    pyhf.set_backend("numpy", pyhf.optimize.scipy_optimizer(tolerance=1e-10))
    try:
        lowest = float(-2 * model.logpdf(model.config.suggested_init(), data)[0])
        for level in LEVELS:
            curve = found.curves[f"{level:g}"]
            assert not any(point.is_bound for point in curve)
            for point in curve[::6]:
                start = model.config.suggested_init()
                start[places[0]], start[places[1]] = point.x, point.y
                _, held = pyhf.infer.mle.fit(data, model, start, fixed_params=fixed, return_fitted_val=True)
                assert float(held) - lowest == pytest.approx(-2 * np.log(1 - level), rel=1e-3)
    finally:
        pyhf.set_backend("numpy")


def test_many_events_make_the_ellipse_of_the_hessian():
    model = HistFactory.from_workspace(two_signals(4e6))
    (found,) = contours(model, ["mu_a", "mu_b"])
    inverse = np.linalg.inv(np.asarray(found.covariance))
    for level in LEVELS:
        away = np.array([[point.x, point.y] for point in found.curves[f"{level:g}"]]) - found.best
        np.testing.assert_allclose(np.sum(away @ inverse * away, axis=1), rise_of(level), rtol=2e-3)
        drawn = (found.ellipse(level) - np.asarray(found.best)[:, None]).T
        np.testing.assert_allclose(np.sum(drawn @ inverse * drawn, axis=1), rise_of(level), rtol=1e-9)
    assert [rise_of(level) for level in LEVELS] == pytest.approx([2.279, 5.991], abs=1e-3)


def test_a_contour_ends_where_the_model_does():
    """Beyond the bounds of the parameters, which mean nothing to it, but not where a bin expects less than nothing."""
    content = two_signals(0.5, ((8.0, 2.0, 0.001), (1.0, 3.0, 0.0)), (3.0, 4.0, 0.0))
    model = HistFactory.from_workspace(content)
    (found,) = contours(model, ["mu_a", "mu_b"])
    curve = found.curves["0.95"]
    bounded = [point for point in curve if point.is_bound]
    assert 0 < len(bounded) < len(curve)
    assert [point.x for point in bounded] == pytest.approx(np.zeros(len(bounded)), abs=1e-3)
    assert min(point.y for point in curve) < 0


def test_parameters_that_make_up_for_each_other_have_none():
    model = HistFactory.from_workspace(two_signals(4.0, ((2.0, 4.0, 6.0), (1.0, 2.0, 3.0))))
    with pytest.raises(FitError):
        contours(model, ["mu_a", "mu_b"])
