"""Every word of a model: what it becomes in pyhf, the same numbers here and there, and what is refused."""

import pytest
from modelled import SHAPE, drawn, modifiers, require_equal, small

from pipeline.errors import ConfigError

pytestmark = pytest.mark.usefixtures("compiled_quickly")


def test_channels_of_norm_factors_and_systematics():
    run = small(
        {
            "luminosity_uncertainty": 0.02,
            "normfactors": [{"name": "k", "samples": ["qcd", "top"], "channels": ["A", "C"], "nominal": 1.1}],
            "systematics": [
                {"name": "rate", "type": "Normalization", "up": 0.1, "down": -0.08, "channels": ["B"]},
                {"name": "scale", **SHAPE, "channels": ["A", "B"], "samples": ["top", "qcd"]},
                {"name": "tune", "type": "NormPlusShape", "up": "tune_up", "channels": ["D"]},
            ],
        }
    )
    written = require_equal(run, *drawn(run))
    everywhere = {("lumi", "lumi")}
    both = {("normsys", "scale"), ("histosys", "scale")}
    assert modifiers(written, "A", "top") == everywhere | both | {
        ("normfactor", "k"),
        ("staterror", "staterror_A"),
    }
    assert modifiers(written, "B", "top") == everywhere | both | {
        ("normsys", "rate"),
        ("staterror", "staterror_B"),
    }
    assert modifiers(written, "D", "top") == everywhere | {
        ("normsys", "tune"),
        ("histosys", "tune"),
        ("staterror", "staterror_D"),
    }


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"normfactors": [{"name": "k", "samples": ["qcd"], "channels": ["E"]}]}, "'k': channel 'E' is not"),
        ({"normfactors": [{"name": "k", "samples": ["qcd"], "channels": []}]}, r"normfactors\.1\.channels"),
        (
            {"systematics": [{"name": "s", **SHAPE, "channels": ["AA"]}]},
            "model: 's': channel 'AA' is not one",
        ),
    ],
)
def test_a_model_that_is_refused(model, message):
    with pytest.raises(ConfigError, match=message):
        small(model)
