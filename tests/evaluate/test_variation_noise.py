"""Noise of variations: an effect is seen where there is one, and not where the events only fluctuate."""

import numpy as np
import pytest

from pipeline import config
from pipeline.config import NormPlusShapeSystematic
from pipeline.containers import Templates
from pipeline.data.datasets import NOMINAL
from pipeline.evaluate.variation_noise import variation_noise
from pipeline.templates.axes import Axes

BINS, EVENTS, REPLICAS = 6, 4000, 60
SYSTEMATIC = NormPlusShapeSystematic(name="scale", type="NormPlusShape", up="up", samples=("wjets",))
AXES = Axes(("wjets",), (NOMINAL, "up"))


@pytest.fixture(scope="module")
def run(request):
    """A run of one channel and one systematic."""
    shipped = config.load(request.config.rootpath / "config" / "miniature.yaml")
    model = shipped.model.model_copy(update={"systematics": (SYSTEMATIC,)})
    return shipped.model_copy(update={"model": model, "channels": {"region": shipped.channels["4j1b"]}})


def templates(rows):
    """Of one channel: [samples, variations, bins]."""
    return Templates({"region": np.asarray(rows)}, {})


def weighted_events(seed, factor):
    """Events with weights of both signs; nominal and varied contents for any numbers of copies."""
    rng = np.random.default_rng(seed)
    place, weight = rng.integers(0, BINS, EVENTS), rng.choice([1.0, 1.0, 1.0, -1.0], EVENTS)
    ratio = factor(rng, place)

    def contents(copies):
        nominal = np.bincount(place, copies * weight, BINS)
        return templates([[nominal, np.bincount(place, copies * weight * ratio, BINS)]])

    replicas = [contents(rng.poisson(1.0, EVENTS)) for _ in range(REPLICAS)]
    return contents(np.ones(EVENTS)), replicas


def seen(run, seed, factor):
    (found,) = variation_noise(run, AXES, *weighted_events(seed, factor))
    return found


def test_a_variation_of_pure_noise_on_the_same_events_is_compatible_with_none(run):
    found = [seen(run, seed, lambda rng, place: rng.normal(1.0, 0.3, len(place))) for seed in range(40)]
    assert sum(one.is_seen for one in found) <= 7  # 5 % of 40 are 2


def test_an_effect_of_five_per_cent_is_seen_and_its_error_is_that_of_the_weights(run):
    def factor(rng, place):
        return 1 + 0.05 * (place == 2) * rng.normal(1.0, 0.2, len(place))

    found = seen(run, 1, factor)
    assert found.is_seen
    assert found.bins_seen == (2,)
    # sum of w^2 (ratio - 1)^2 over the events of the bin
    assert found.error[2] == pytest.approx(0.05 * np.sqrt(1.04 * EVENTS / BINS), rel=0.4)


def test_samples_of_their_own_have_the_noise_of_both(run):
    rng = np.random.default_rng(3)
    axes = Axes(("wjets", "wjets__up"), (NOMINAL,))

    def contents(copies):
        return templates([[np.bincount(places[i], copies[i], BINS)] for i in range(2)])

    places = rng.integers(0, BINS, (2, EVENTS))
    replicas = [contents(rng.poisson(1.0, (2, EVENTS))) for _ in range(REPLICAS)]
    (found,) = variation_noise(run, axes, contents(np.ones((2, EVENTS))), replicas)
    assert not found.is_seen
    np.testing.assert_allclose(found.error, np.sqrt(2 * EVENTS / BINS), rtol=0.35)


def test_few_replicas_say_nothing_and_an_effect_without_noise_is_one(run):
    exact, replicas = weighted_events(5, lambda rng, place: np.ones(len(place)))
    assert variation_noise(run, AXES, exact, replicas[:10]) == ()
    (found,) = variation_noise(run, AXES, exact, replicas)
    assert not found.is_seen
    moved = templates(exact.yields["region"] + np.array([[[0.0], [1.0]]]))
    shifted = [templates(own.yields["region"] + np.array([[[0.0], [1.0]]])) for own in replicas]
    (found,) = variation_noise(run, AXES, moved, shifted)
    assert found.is_seen
