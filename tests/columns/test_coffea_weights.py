"""coffea's `Weights` as columns and variations: all of them, in one order, of the kept events."""

import awkward as ak
import jax.numpy as jnp
import numpy as np
import pytest
from coffea.analysis_tools import PackedSelection, Weights

from pipeline.analysis import coffea_variations
from pipeline.columns import coffea_weights
from pipeline.containers import Columns
from pipeline.errors import ConfigError, InputError

SIZE = 5
NOMINAL = np.array([1.0, -1, 2, 0, 4])


@pytest.fixture
def weights():
    """With both directions, with one of which the other follows, and with several of one weight."""
    made = Weights(SIZE)
    made.add("generator", NOMINAL)
    made.add("muon", np.full(SIZE, 0.9), np.full(SIZE, 0.95), np.full(SIZE, 0.8))
    made.add("pileup", np.full(SIZE, 1.0), np.full(SIZE, 1.25))
    names = ["light", "heavy"]
    up, down = ([np.full(SIZE, x), np.full(SIZE, y)] for x, y in ((1.1, 1.2), (0.9, 0.8)))
    made.add_multivariation("btag", np.full(SIZE, 1.0), names, up, down)
    return made


def test_every_variation_is_a_column_of_the_kept_events(weights):
    cuts = PackedSelection()
    cuts.add("some", ak.Array([True, False, True, True, False]))
    kept = cuts.all("some")
    found = coffea_weights(weights, kept)
    assert list(found) == ["weight", *(f"weight_{name}" for name in sorted(weights.variations))]
    np.testing.assert_allclose(found["weight"], 0.9 * NOMINAL[kept])
    np.testing.assert_allclose(found["weight_muonDown"], 0.8 * NOMINAL[kept])
    np.testing.assert_allclose(found["weight_pileupDown"], 0.9 / 1.25 * NOMINAL[kept])
    np.testing.assert_allclose(found["weight_btag_heavyUp"], 0.9 * 1.2 * NOMINAL[kept])


def test_without_a_selection_all_events_are_kept(weights):
    np.testing.assert_array_equal(coffea_weights(weights)["weight"], weights.weight())


def test_a_variation_takes_its_column_for_the_weight(weights):
    columns = Columns({name: jnp.asarray(array) for name, array in coffea_weights(weights).items()})
    made = coffea_variations("muon", "btag_light")
    assert list(made) == ["muonUp", "muonDown", "btag_lightUp", "btag_lightDown"]
    for name, variation in made.items():
        np.testing.assert_array_equal(variation.changed(columns)["weight"], weights.weight(name))


@pytest.mark.parametrize(
    ("kept", "says"),
    [
        (np.ones(4, bool), r"kept is bool\[4\] for the weights of 5 events"),
        (np.arange(5), r"kept is int64\[5\]"),
        (ak.Array([[True]] * 5), "kept is 5 [*] var [*] bool"),
        (ak.Array([True, None, True, True, True]), r"kept is 5 [*] \?bool"),
    ],
)
def test_what_is_no_selection_of_the_events_is_refused(weights, kept, says):
    with pytest.raises(InputError, match=says):
        coffea_weights(weights, kept)


def test_delayed_weights_are_refused():
    with pytest.raises(InputError, match=r"delayed.*Weights\(len\(events\)\)"):
        coffea_weights(Weights(None))


def test_the_name_of_one_variation_is_not_that_of_a_weight():
    with pytest.raises(ConfigError, match=r"coffea_variations\('muonUp'\): that is one variation"):
        coffea_variations("muonUp")
