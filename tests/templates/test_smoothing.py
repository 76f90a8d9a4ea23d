"""Smoothed templates: a plain loop, what stays as it is, derivatives, and the likelihood and workspace made of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rootfiles import write_run

from pipeline import config
from pipeline.containers import Templates
from pipeline.errors import ConfigError
from pipeline.likelihood.configured.run_workspace import workspace
from pipeline.likelihood.configured.specifier import Specifier
from pipeline.templates.axes import Axes
from pipeline.templates.shapes import Channels
from pipeline.templates.smoothing import smoothed
from pipeline.templates.varied import varied_templates

SIZES = (4, 3)
ROWS = hnp.arrays(np.float64, (2, sum(SIZES)), elements=st.floats(0.125, 1e4))
CHANNELS = Channels.of_sizes(SIZES)


def by_a_loop(nominal, varied, width):
    """One channel, bin by bin."""
    change = []
    for b in range(len(nominal)):
        weights = [np.exp(-0.5 * ((b - c) / width) ** 2) for c in range(len(nominal))]
        above = sum(w * (v - n) for w, v, n in zip(weights, varied, nominal, strict=True))
        change.append(above / sum(w * n for w, n in zip(weights, nominal, strict=True)))
    rough = nominal * (1 + np.array(change))
    return rough * varied.sum() / rough.sum()


@given(ROWS, ROWS, st.sampled_from([0.3, 1.0, 5.0]))
def test_a_plain_loop_says_the_same_channel_by_channel(nominal, varied, width):
    found = np.asarray(smoothed(nominal, varied, CHANNELS, width))
    for row in range(2):
        for part in (slice(0, 4), slice(4, 7)):
            expected = by_a_loop(nominal[row, part], varied[row, part], width)
            np.testing.assert_allclose(found[row, part], expected, rtol=1e-9)


@given(ROWS, ROWS)
def test_the_yield_of_a_channel_stays(nominal, varied):
    found = smoothed(nominal, varied, CHANNELS, 1.5)
    np.testing.assert_allclose(CHANNELS.sums(found), CHANNELS.sums(varied), rtol=1e-12)


@given(ROWS, st.floats(0.2, 3.0))
def test_a_change_of_the_yield_alone_and_a_narrow_kernel_change_nothing(nominal, factor):
    np.testing.assert_allclose(
        smoothed(nominal, factor * nominal, CHANNELS, 2.0), factor * nominal, rtol=1e-12
    )
    varied = nominal[:, ::-1]
    np.testing.assert_allclose(smoothed(nominal, varied, CHANNELS, 0.02), varied, rtol=1e-9)


def test_noise_goes_and_a_slow_effect_stays():
    """Twenty bins, a slope of 5 %, and noise of 5 % in each bin: what is left of it is a third."""
    rng, bins = np.random.default_rng(1), np.arange(20)
    nominal = np.full(20, 1000.0)
    effect = 50.0 * (bins - 9.5) / 9.5
    noise = rng.normal(scale=50.0, size=(400, 20))
    found = smoothed(np.tile(nominal, (400, 1)), nominal + effect + noise, Channels.of_sizes([20]), 2.0)
    change = np.asarray(found) - nominal
    inner = slice(4, 16)
    np.testing.assert_allclose(change.mean(axis=0)[inner], effect[inner], atol=8.0)
    assert change.std(axis=0)[inner].max() < 0.45 * 50.0


def test_bins_without_events_and_negative_ones_stay_finite():
    nominal = np.array([[0.0, 0.0, 5.0, -3.0, 0.0, 0.0, 0.0]])
    varied = np.array([[0.0, 1.0, 6.0, -3.0, 0.0, 2.0, 0.0]])
    value, slopes = jax.value_and_grad(
        lambda pair: jnp.sum(smoothed(pair[0], pair[1], CHANNELS, 1.0) ** 2), argnums=0
    )((jnp.asarray(nominal), jnp.asarray(varied)))
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(s)) for s in slopes)
    np.testing.assert_array_equal(smoothed(nominal, varied, CHANNELS, 1.0)[0, 4:], varied[0, 4:])


@pytest.mark.parametrize(
    ("nominal", "varied", "width"),
    [
        ([10, -12, 3, 5], [11, -10, 3, 5], 0.3),
        ([10, -9, 1, 5], [10, -8, 1, 5], 1.0),
        ([0, 10, 10], [5, 10, 10], 1.0),
    ],
)
def test_the_yield_stays_beside_bins_without_events_and_negative_ones(nominal, varied, width):
    """A channel in which the mean around a bin is not known is not smoothed at all."""
    channel = Channels.of_sizes([len(nominal)])
    found = np.asarray(smoothed(np.array([nominal], float), np.array([varied], float), channel, width))
    np.testing.assert_allclose(found.sum(), sum(varied), rtol=1e-12)
    if min(nominal) < 0:
        np.testing.assert_array_equal(found[0], varied)


@given(ROWS, ROWS, st.integers(0, 2**32 - 1))
def test_derivatives_are_those_of_differences(nominal, varied, seed):
    rng = np.random.default_rng(seed)
    direction = tuple(a * rng.uniform(-1, 1, size=a.shape) for a in (nominal, varied))

    def at(step):
        moved = [a + step * d for a, d in zip((nominal, varied), direction, strict=True)]
        return smoothed(*moved, CHANNELS, 1.2)

    _, slope = jax.jvp(lambda n, v: smoothed(n, v, CHANNELS, 1.2), (nominal, varied), direction)
    difference = (at(1e-5) - at(-1e-5)) / 2e-5
    np.testing.assert_allclose(slope, difference, rtol=1e-5, atol=1e-6 * np.abs(difference).max())


SHAPE = "{name: x, type: NormPlusShape, up: up, down: down, samples: [background]"


def of_run(tmp_path, keys=""):
    """A run whose background has variations, and its templates in four bins."""
    path = write_run(tmp_path)
    run = config.load(
        path,
        [
            "channels.all={edges: [0, 1, 2, 3, 4], bandwidth: {initial: 0.1, final: 0.1}}",
            f"model.systematics=[{SHAPE}{keys}}}]",
        ],
    )
    processes = list(run.data.samples)
    axes = Axes(tuple(processes), ("nominal", "up", "down"))
    yields = np.random.default_rng(3).uniform(50, 100, size=(len(processes), 3, 4))
    return run, axes, Templates({"all": yields}, {"all": yields[:, 0]})


def test_workspace_and_cautions_have_the_smoothed_templates(tmp_path):
    run, axes, templates = of_run(tmp_path, ", smoothing: {algorithm: gaussian, width: 1.5}")
    spec = workspace(templates, axes, run, specifier=Specifier.of(templates, axes, run))
    sample = next(s for s in spec["channels"][0]["samples"] if s["name"] == "background")
    kinds = {m["type"]: m["data"] for m in sample["modifiers"]}
    rows = templates.yields["all"][axes.samples.index("background")]
    (used,) = [v for v in varied_templates(templates, axes, run) if v.sample == "background"]
    for norm, shape, row, own in zip(("hi", "lo"), ("hi_data", "lo_data"), rows[1:], used.used, strict=True):
        expected = by_a_loop(rows[0], row, 1.5)
        found = kinds["normsys"][norm] * np.array(kinds["histosys"][shape])
        np.testing.assert_allclose(found, expected, rtol=1e-10)
        np.testing.assert_allclose(own, expected, rtol=1e-10)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("smoothing: {algorithm: gaussian, width: 0}", "greater than 0"),
        ("smoothing: {algorithm: gaussian}", "width"),
        ("smoothing: {algorithm: running_mean, width: 1}", "gaussian"),
    ],
)
def test_what_is_no_smoothing_is_refused(tmp_path, keys, message):
    with pytest.raises(ConfigError, match=message):
        of_run(tmp_path, f", {keys}")
