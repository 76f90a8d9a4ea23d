"""The widths of an epoch: geometric, final on time, and bandwidths as fractions of the bins."""

import numpy as np
import pytest

from pipeline import config
from pipeline.optimise.schedule import widths_at
from pipeline.templates.binning import binnings_of


@pytest.fixture(scope="module")
def settings(request):
    return config.load(request.config.rootpath / "config" / "miniature.yaml", [])


def with_bandwidth(settings, channel, **bandwidth):
    found = settings.channels[channel]
    changed = found.model_copy(update={"bandwidth": config.Bandwidth(**bandwidth)})
    return settings.model_copy(update={"channels": {**settings.channels, channel: changed}})


def test_widths_shrink_geometrically_and_are_final_on_time(settings):
    epochs, fraction = settings.optimise.epochs, settings.optimise.anneal_fraction
    for name, schedule in settings.widths.items():
        path = [widths_at(settings, e).operations[name].item() for e in range(epochs)]
        ratios = np.divide(path[1:], path[:-1])[: int(epochs * fraction) - 1]
        assert path[0] == schedule.initial
        assert widths_at(settings, epochs).operations[name] == schedule.final
        np.testing.assert_allclose(ratios, ratios[0], rtol=1e-12)


def test_a_bandwidth_in_units_of_bins_ends_at_that_fraction(settings):
    channel = next(name for name, found in settings.channels.items() if found.edges)
    settings = with_bandwidth(settings, channel, initial=0.5, final=0.1, unit="bin")
    start, end = (widths_at(settings, e).bandwidths[channel] for e in (0, settings.optimise.epochs))
    np.testing.assert_allclose([start, end], [0.5, 0.1])
    assert next(b.unit for b in binnings_of(settings) if b.channel == channel) == "bin"
