"""A configuration of cabinetry that builds the workspace that it was written from."""

import logging

import cabinetry
import numpy as np
import pyhf
import pytest
from workspaces import modifier, two_channels, workspace_of

from pipeline.evaluate.workspaces.exchange.cabinetry_files import write_cabinetry
from pipeline.evaluate.workspaces.exchange.content import CannotSayError, content_of


def spoken():
    """Two regions as cabinetry makes them: yields and shapes of one name, a sample without errors."""
    channels = []
    for name, scale in (("signal region", 1.0), ("CR", 2.0)):
        nominal = [10.0 * scale, 20.0 * scale]
        background = {
            "name": "b",
            "data": nominal,
            "modifiers": [
                modifier("staterror_" + name.replace(" ", "-"), "staterror", [0.5, 0.7]),
                modifier("tilt", "normsys", {"hi": 1.1 + 0.1 * scale, "lo": 0.9}),
                modifier(
                    "tilt",
                    "histosys",
                    {
                        "hi_data": [nominal[0] + 1, nominal[1] - 1],
                        "lo_data": [nominal[0] - 2, nominal[1] + 2],
                    },
                ),
                modifier("norm", "normsys", {"hi": 1 + 0.05 * scale, "lo": 0.93}),
            ],
        }
        signal = {
            "name": "s",
            "data": [1.0, 3.0 * scale],
            "modifiers": [modifier("mu", "normfactor"), modifier("norm", "normsys", {"hi": 1.2, "lo": 0.8})],
        }
        channels.append({"name": name, "samples": [signal, background]})
    observed = {"signal region": [11.0, 23.0], "CR": [21.0, 46.0]}
    parameters = [
        {"name": "mu", "inits": [1.5], "bounds": [[-2.0, 7.0]]},
        {"name": "norm", "inits": [0.0], "fixed": True},
    ]
    return workspace_of(channels, observed, parameters=parameters)


def test_cabinetry_builds_the_same_workspace(tmp_path):
    content = spoken()
    write_cabinetry(tmp_path / "out", content_of(content))
    configuration = cabinetry.configuration.load(tmp_path / "out/config.yml")
    assert cabinetry.configuration.validate(configuration)
    logging.getLogger("cabinetry").setLevel(logging.ERROR)
    built = cabinetry.workspace.build(configuration)
    one, other = (pyhf.Workspace(own) for own in (content, built))
    first, second = one.model(), other.model()
    assert first.config.par_names == second.config.par_names
    for suggested in ("suggested_init", "suggested_bounds", "suggested_fixed"):
        assert getattr(first.config, suggested)() == getattr(second.config, suggested)()
    assert first.config.poi_name == second.config.poi_name
    np.testing.assert_array_equal(one.data(first), other.data(second))
    rng = np.random.default_rng(4)
    for _ in range(3):
        point = np.array(first.config.suggested_init()) + rng.uniform(-0.5, 0.5, first.config.npars)
        data = one.data(first)
        np.testing.assert_allclose(first.logpdf(point, data), second.logpdf(point, data), rtol=1e-12)
    mine = {(c["name"], s["name"]): s for c in content["channels"] for s in c["samples"]}
    for channel in built["channels"]:
        for sample in channel["samples"]:
            own = mine[channel["name"], sample["name"]]
            assert sorted((m["name"], m["type"]) for m in sample["modifiers"]) == sorted(
                (m["name"], m["type"]) for m in own["modifiers"]
            )


def _yield(content):
    content["channels"][0]["samples"][1]["modifiers"][2]["data"]["hi_data"] = [12.0, 21.0]


def _name(content):
    content["channels"][1]["samples"][1]["modifiers"][0]["name"] = "stat"


def _half(content):
    content["channels"][0]["samples"][1]["modifiers"].append(modifier("rate", "normfactor"))
    content["channels"][1]["samples"][0]["modifiers"].append(modifier("rate", "normfactor"))


def _start(content):
    content["measurements"][0]["config"]["parameters"].append({"name": "tilt", "inits": [0.5]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            _yield,
            "histosys 'tilt' of channel 'signal region', sample 'b': cabinetry .* hi_data has another yield",
        ),
        (_name, r"sample 'b' of channel 'CR': .* its staterror are \['stat'\], not \['staterror_CR'\]"),
        (_half, "normfactor 'rate': cabinetry cannot say it: it acts on"),
        (_start, "parameter 'tilt': cabinetry cannot say it: the measurement gives it a start value"),
    ],
)
def test_what_cabinetry_would_build_otherwise_is_named(tmp_path, change, message):
    content = spoken()
    change(content)
    with pytest.raises(CannotSayError, match=message):
        write_cabinetry(tmp_path, content_of(content))
    assert not any(tmp_path.iterdir())


def test_the_luminosity_is_named(tmp_path):
    with pytest.raises(CannotSayError, match="lumi 'lumi': cabinetry cannot say it: it has no such modifier"):
        write_cabinetry(tmp_path, content_of(two_channels()))
