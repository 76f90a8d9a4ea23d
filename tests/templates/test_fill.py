"""Why templates are not finite: the column, the variation, the channel and the parameter are named."""

import jax.numpy as jnp
import numpy as np
import pytest

from pipeline.analysis import Analysis, FlatTree, Free, Transform
from pipeline.cluster import InProcess
from pipeline.containers import Columns, Observation
from pipeline.data import datasets
from pipeline.errors import FitError
from pipeline.gradient.sweeps import forward
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.schedule import widths_at
from pipeline.templates.binning import Binning
from pipeline.templates.fill import EXACT, Recipe, Widths, bad_events, fill

BINNINGS = (Binning("region", (0.0, 1.0, 2.0)), Binning("count", None))
WIDTHS = Widths(operations={"x": jnp.asarray(0.1)}, bandwidths={"region": jnp.asarray(0.1)})


class Ratio(Analysis):
    """An analysis that divides by a column, which the variation sets to 0."""

    reads = FlatTree(("x", "y"))
    parameters = {"x": Free(0.5, bounds=(0.0, 1.0))}  # noqa: RUF012

    def columns(self, events, dataset):
        return {"x": events.x, "y": events.y, "weight": np.ones(len(events.x))}

    def variations(self):
        return {
            "zero": Transform(lambda c: {"y": 0 * c.y}),
            "root": Transform(lambda c: {"x": jnp.sqrt(c.x - 1)}),
            "infinite": Transform(lambda c: {"weight": c.weight / 0}),
        }

    def observe(self, p, c, relax):
        passes = relax.greater(c.x, p.x)
        return {
            "region": Observation(value=c.x / c.y, weight=c.weight * passes),
            "count": Observation(weight=c.weight * passes),
        }


def seen(variations, widths=WIDTHS, **columns):
    events = {"x": jnp.array([0.0, 1.2]), "y": jnp.array([1.0, 1.0]), "weight": jnp.array([1.0, 0.5])}
    events |= {name: jnp.asarray(values) for name, values in columns.items()}
    arguments = Recipe(Ratio(), BINNINGS, variations), {"x": 0.5}, Columns(events), widths
    finite = all(np.all(np.isfinite(y)) for y in fill(*arguments).yields.values())
    found = bad_events(*arguments)
    assert finite == (not found)
    return found


def test_nothing_is_bad_about_good_events():
    assert seen(()) == []


@pytest.mark.parametrize("widths", [WIDTHS, EXACT], ids=["relaxed", "exact"])
def test_the_channel_and_the_variation_of_a_nan_are_named(widths):
    found = seen(("zero",), widths, x=[0.0, 0.0])
    assert len(found) == 1
    assert "NaN for 2 of 2 events in channel 'region', variation 'zero'" in found[0]


def test_the_column_and_its_variation_are_named_first():
    found = seen(("root",), y=[1.0, 2.0])
    assert found[0] == "column 'x' of variation 'root' holds 1 values that are not finite"


def test_bad_weights_are_named():
    found = seen(("infinite",))
    assert found[0].startswith("column 'weight' of variation 'infinite' holds 2 values")
    assert any("weight is not finite for 2 of 2 events in channel 'count'" in why for why in found)


@pytest.mark.simulate
def test_the_sweep_names_the_parameter_or_the_cure(miniature, miniature_columns):
    work = prepare_work(miniature, miniature_columns, datasets.TRAIN)
    parameters = {**initial_parameters(miniature), "jet_pt": np.float64("nan")}
    with pytest.raises(FitError, match=r"template '4j1b' .* is not finite: parameters .* jet_pt; mask such"):
        forward(InProcess(), work, parameters, widths_at(miniature, 0))
