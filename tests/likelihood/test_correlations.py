"""Partial correlations of systematics: their decomposition, where it is exact, and pyhf's numbers of it."""

import jax.numpy as jnp
import numpy as np
import pytest
from modelled import SHAPE, VARIATIONS, drawn, modifiers, require_equal, small, traced

from pipeline.config.fit.correlations import Correlation, loadings
from pipeline.errors import ConfigError

pytestmark = pytest.mark.usefixtures("compiled_quickly")

RATE = {"name": "rate", "type": "Normalization", "up": 0.1, "down": -0.08, "samples": ["top", "qcd"]}
SCALE = {"name": "scale", **SHAPE, "channels": ["A", "B"]}
TUNE = {"name": "tune", "type": "NormPlusShape", "up": "tune_up", "channels": ["B", "C"], "samples": ["top"]}


def between(*pairs):
    return [{"between": [first, second], "value": value} for first, second, value in pairs]


def test_the_sums_have_the_correlations():
    names = ["a", "b", "c", "alone"]
    values = {("a", "b"): 0.5, ("a", "c"): -0.3, ("b", "c"): 0.4}
    found = loadings(names, [Correlation(between=pair, value=value) for pair, value in values.items()])
    assert found["a"] == {"a": 1.0}
    assert found["alone"] == {"alone": 1.0}
    assert found["b"] == pytest.approx({"a": 0.5, "b": np.sqrt(0.75)})
    root = np.array([[found[one].get(other, 0.0) for other in names] for one in names])
    wanted = np.eye(4)
    for (one, other), value in values.items():
        wanted[names.index(one), names.index(other)] = wanted[names.index(other), names.index(one)] = value
    np.testing.assert_allclose(root @ root.T, wanted, atol=1e-15)


def test_pyhf_has_the_same_numbers():
    pairs = between(("scale", "tune", 0.6), ("tune", "rate", -0.4))
    run = small({"systematics": [SCALE, TUNE, RATE], "correlations": pairs})
    written = require_equal(run, *drawn(run))
    own = {("staterror", "staterror_C")}
    shared = {("normsys", "tune"), ("histosys", "tune"), ("normsys", "rate"), ("normsys", "scale")}
    assert modifiers(written, "C", "top") == own | shared | {("histosys", "scale")}
    assert modifiers(written, "C", "signal") == own | {("normfactor", "mu")}
    assert modifiers(written, "C", "qcd") == own | {("normsys", own) for own in ("rate", "tune")}


def expected(run, axes, templates, **at):
    model, stacked = traced(run, axes, templates)
    point = [at.get(name, start) for name, start in zip(model.parameter_names, model.initial, strict=True)]
    return model.expected_by_sample(jnp.asarray(point), stacked)


@pytest.mark.parametrize("value", [0.6, -0.8, 1.0, -1.0])
def test_it_is_exact_for_linear_and_exponential_effects(value):
    """Symmetric shapes of unchanged yield, and factors of reciprocal sides beyond one standard deviation."""
    rate = {**RATE, "down": 1 / 1.1 - 1, "channels": ["D"]}
    systematics = [SCALE, {**TUNE, "samples": None}, {**rate, "name": "one"}, {**rate, "name": "other"}]
    pairs = between(("scale", "tune", value), ("one", "other", value))
    plain, correlated = (small({"systematics": systematics, "correlations": c}) for c in ([], pairs))
    axes, templates = drawn(plain)
    ups = [1 + VARIATIONS.index(name) for name in ("scale_up", "scale_down", "tune_up")]
    for yields in templates.yields.values():
        nominal, change = yields[:, 0], np.array([[2.0, -3.0, 1.0]])
        for row, factor in zip(ups, (1.0, -1.0, 0.5), strict=True):
            yields[:, row] = nominal + factor * change
    own = np.sqrt(1 - value**2)
    for first, second in ((1.3 * np.sign(value), 2.9), (-1.2 * np.sign(value), -3.1)):
        sides = {"scale": first, "tune": second, "one": first, "other": second}
        both = value * first + own * second
        assert abs(both) > 1
        one = expected(correlated, axes, templates, **sides)
        moved = {"scale": first, "tune": both, "one": first, "other": both}
        np.testing.assert_allclose(one, expected(plain, axes, templates, **moved), rtol=1e-12)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (
            between(("scale", "tune", 1.5)),
            "correlation between 'scale' and 'tune' is 1.5; allowed are -1 to 1",
        ),
        (between(("scale", "scale", 0.5)), "between 'scale' and itself is 1"),
        (between(("scale", "tun", 0.5)), r"model\.correlations: 'tun' is not one of model\.systematics"),
        (between(("scale", "tune", 0.5), ("tune", "scale", 0.2)), "'tune' and 'scale' are given twice"),
        (
            between(("scale", "tune", 0.9), ("tune", "rate", 0.9), ("rate", "scale", -0.9)),
            "between 'scale', 'tune', 'rate' contradict each other: their matrix has the eigenvalue -0.8",
        ),
    ],
)
def test_correlations_that_are_refused(pairs, message):
    with pytest.raises(ConfigError, match=message):
        small({"systematics": [SCALE, TUNE, RATE], "correlations": pairs})


def test_other_widths_have_no_correlation():
    systematics = [SCALE, {**TUNE, "constraint_width": 2.0}]
    with pytest.raises(ConfigError, match=r"model\.correlations: 'tune' has another constraint_width than 1"):
        small({"systematics": systematics, "correlations": between(("scale", "tune", 0.5))})
