"""HS3 and back, and read by another program."""

import copy
import json

import numpy as np
import pyhf
import pytest
from hypothesis import given, settings
from workspaces import everything, modifier, two_channels, workspace_of, workspaces

from pipeline.errors import InputError
from pipeline.evaluate.workspaces.exchange.content import CannotSayError, content_of
from pipeline.evaluate.workspaces.exchange.hs3 import to_hs3
from pipeline.evaluate.workspaces.exchange.hs3_reading import from_hs3

SPOKEN = (
    "histosys",
    "normsys",
    "lumi",
    "staterror",
    "shapefactor",
)  # a random shapesys has bins without uncertainty


def round_trip(content, **options):
    return from_hs3(json.loads(json.dumps(to_hs3(content_of(content), **options))))


def same_density(one, other, draws=3):
    """Whether two workspaces are one model: its parameters, their settings, its data, its density."""
    spaces = [pyhf.Workspace(one), pyhf.Workspace(other)]
    first, second = (space.model() for space in spaces)
    assert first.config.par_names == second.config.par_names
    for suggested in ("suggested_init", "suggested_bounds", "suggested_fixed"):
        assert getattr(first.config, suggested)() == getattr(second.config, suggested)()
    assert first.config.poi_name == second.config.poi_name
    data = spaces[0].data(first)
    np.testing.assert_array_equal(data, spaces[1].data(second))
    rng, start = np.random.default_rng(1), np.array(first.config.suggested_init())
    for _ in range(draws):
        point = start + rng.uniform(-0.3, 0.3, start.size)
        expected = first.logpdf(point, data)
        assert np.isfinite(expected)
        np.testing.assert_allclose(second.logpdf(point, data), expected, rtol=1e-12)


@settings(max_examples=15)
@given(workspaces(kinds=SPOKEN, channels=2, samples=3, bins=4))
def test_there_and_back_is_the_same_workspace(content):
    for explicit in (False, True):
        back = round_trip(content, explicit=explicit)
        pyhf.schema.validate(back, "workspace.json")
        assert back["channels"] == content["channels"]
        assert sorted(back["observations"], key=str) == sorted(content["observations"], key=str)


def configured():
    """Settings of every sort in the measurement, and a shapesys."""
    content = two_channels()
    content["channels"][0]["samples"][1]["modifiers"] += [
        modifier("free", "shapefactor"),
        modifier("own", "shapesys", [4.0, 3.0, 2.0]),
    ]
    content["measurements"][0]["config"]["parameters"] += [
        {"name": "mu", "inits": [1.5], "bounds": [[-2.0, 7.0]]},
        {"name": "tilt", "inits": [0.3], "fixed": True},
        {"name": "stat_cr", "fixed": True},
        {"name": "free", "bounds": [[0.1, 3.0]] * 3},
    ]
    return content


@pytest.mark.parametrize("explicit", [False, True])
def test_settings_of_the_measurement_come_back(explicit):
    content = configured()
    same_density(content, round_trip(content, explicit=explicit))


def test_an_empty_bin_of_a_staterror_is_held_as_pyhf_holds_it():
    content = everything()
    content["channels"][0]["samples"][0]["modifiers"].pop(2)  # a shapesys without uncertainty, see below
    content["channels"][0]["samples"][1]["modifiers"][0]["data"]["lo"] = 0.9  # pyhf has no number for 0
    same_density(content, round_trip(content))
    points = {p["name"]: p for p in to_hs3(content_of(content))["parameter_points"][0]["parameters"]}
    assert points["gamma_stat_1"]["const"] is True
    assert "const" not in points["gamma_stat_0"]


def theirs(content, point, explicit):
    """pyhs3's log-density at parameters by pyhf's names."""
    pyhs3 = pytest.importorskip(
        "pyhs3", reason="pyhs3 brings pytensor, numba and LLVM, too heavy for the locked environment"
    )
    pytensor = pytest.importorskip("pytensor")
    traversal = pytest.importorskip("pytensor.graph.traversal")
    model = pyhs3.Workspace(**to_hs3(content_of(content), explicit=explicit)).model(
        content["measurements"][0]["name"]
    )
    inputs = list(traversal.explicit_graph_inputs([model.log_prob]))
    compiled = pytensor.function(inputs, model.log_prob, on_unused_input="ignore", mode="FAST_COMPILE")
    known = {**model.data, **point}
    return float(compiled(**{own.name: known[own.name] for own in inputs}))


@pytest.mark.parametrize("shapesys", [False, True])
def test_pyhs3_has_the_same_density(shapesys):
    """Without a constant; with a shapesys it is that of the auxiliary counts' ln Gamma, single precision in pyhs3."""
    content = configured()
    if not shapesys:
        content["channels"][0]["samples"][1]["modifiers"].pop()
    model = pyhf.Workspace(content).model()
    data = pyhf.Workspace(content).data(model)
    rng, apart = np.random.default_rng(5), []
    names = [
        f"gamma_{name[:-1].replace('[', '_')}" if "[" in name else name for name in model.config.par_names
    ]
    for _ in range(3):
        start, held = np.array(model.config.suggested_init()), model.config.suggested_fixed()
        point = np.where(held, start, start + rng.uniform(-0.2, 0.2, start.size))  # pyhs3 keeps constants
        found = theirs(content, dict(zip(names, point, strict=True)), explicit=True)
        apart.append(found - float(model.logpdf(point, data)[0]))
    np.testing.assert_allclose(apart, apart[0], rtol=0, atol=1e-10)
    assert abs(apart[0]) < (1e-4 if shapesys else 1e-10)


def _with(change):
    content = two_channels()
    change(content)
    return content


def _several(content):
    content["channels"][0]["samples"][1]["modifiers"][-1]["name"] = "stat_b"


def _without_uncertainty(content):
    for sample in content["channels"][0]["samples"]:
        sample["modifiers"][-1]["data"][1] = 0.0


def _clash(content):
    content["channels"][0]["samples"][0]["modifiers"].append(modifier("gamma_stat_sr_0", "normfactor"))


def _auxdata(content):
    content["measurements"][0]["config"]["parameters"].append({"name": "norm", "auxdata": [0.5]})


def _width(content):
    content["measurements"][0]["config"]["parameters"].append({"name": "stat_sr", "sigmas": [0.1] * 3})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_several, r"channel 'sr': HS3 cannot say it: it has several staterror, \['stat_b', 'stat_sr'\]"),
        (
            _without_uncertainty,
            "staterror 'stat_sr' of channel 'sr': HS3 cannot say it: bin 1 has yield without",
        ),
        (_clash, "parameter 'gamma_stat_sr_0': HS3 cannot say it"),
        (_auxdata, r"parameter 'norm': HS3 cannot say it: its auxiliary measurement is \(0.5,\), not 0"),
        (
            _width,
            "parameter 'stat_sr': HS3 cannot say it: the measurement changes the constraint of a staterror",
        ),
    ],
)
def test_what_hs3_has_no_words_for_is_named(change, message):
    with pytest.raises(CannotSayError, match=message):
        to_hs3(content_of(_with(change)))
    if change in (_several, _without_uncertainty):
        explicit = _with(change)
        same_density(explicit, round_trip(explicit, explicit=True))


def test_a_shapesys_bin_without_uncertainty_is_named():
    with pytest.raises(CannotSayError, match=r"shapesys 'shape' of channel 'c', sample 's': .* bin 1 has no"):
        to_hs3(content_of(everything()))


def _mended(path, value):
    found = to_hs3(content_of(configured()), explicit=path == ("distributions", -1, "sigma"))
    place = found
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return found


MODIFIERS = ("distributions", 0, "samples", 1, "modifiers")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ((*MODIFIERS, 0, "interpolation"), "code0", "modifier 'tilt': interpolation code0; read is code4p"),
        ((*MODIFIERS, 1, "constraint"), "Poisson", "constraint Poisson; that of pyhf's normsys is Gauss"),
        ((*MODIFIERS, 1, "type"), "lumisys", "modifier 'norm': type 'lumisys'; read are those of pyhf"),
        (("distributions", 0, "type"), "product_dist", "'sr' is a product_dist, Barlow-Beeston lite"),
        (("distributions", 0, "barlow_beeston_method"), "full", "Barlow-Beeston full"),
        (("distributions", -1, "type"), "poisson_dist", "'constraint_lumi' of type poisson_dist"),
        (
            ("distributions", -1, "mean"),
            "mu",
            "parameter 'mu' has an auxiliary distribution; pyhf has one for",
        ),
        (("distributions", -1, "mean"), "norm", "'norm' has a second constraint, an auxiliary distribution"),
        (
            ("distributions", -1, "sigma"),
            0.5,
            "constraint of width 0.5 around 1, and the errors of its samples",
        ),
        (
            ("analyses", 0, "parameters_of_interest"),
            ["mu", "norm"],
            r"interest \['mu', 'norm'\]; pyhf has one",
        ),
        (("functions",), [{"name": "f", "type": "sum"}], "function 'f': a pyhf workspace has no functions"),
        (("data", 0, "type"), "unbinned", "data 'observed_sr' are unbinned"),
        (
            ("likelihoods",),
            [{"name": "likelihood"}],
            "KeyError 'distributions': it is not built as the standard",
        ),
        (
            ("parameter_points", 0, "parameters", 7, "const"),
            True,
            "some of its bins are constant; pyhf holds",
        ),
    ],
)
def test_what_pyhf_has_no_words_for_is_named(path, value, message):
    with pytest.raises(InputError, match=message):
        from_hs3(_mended(path, value))


def test_another_analysis_is_chosen_by_name():
    content = to_hs3(content_of(configured()))
    other = copy.deepcopy(content["analyses"][0])
    content["analyses"].append({**other, "name": "none", "parameters_of_interest": []})
    assert from_hs3(content, "none")["measurements"][0]["config"]["poi"] == ""
    with pytest.raises(InputError, match=r"HS3: analyses: no 'third'; there are \['fit', 'none'\]"):
        from_hs3(content, "third")
    with pytest.raises(InputError, match="no measurement 'other'"):
        content_of(workspace_of(two_channels()["channels"], {"sr": [1.0] * 3, "cr": [1.0] * 3}), "other")


def _without_axis(name, **point):
    """A parameter that a domain does not have, and what the point says of it."""
    found = to_hs3(content_of(configured()))
    axes = found["domains"][0]["axes"]
    axes.remove(next(axis for axis in axes if axis["name"] == name))
    next(own for own in found["parameter_points"][0]["parameters"] if own["name"] == name).update(point)
    return found


def test_a_held_parameter_without_a_domain_stays_held_at_its_value():
    parameters = from_hs3(_without_axis("norm", value=0.7, const=True))["measurements"][0]["config"][
        "parameters"
    ]
    assert {"name": "norm", "inits": [0.7], "fixed": True} in parameters
    with pytest.raises(InputError, match=r"parameter 'norm': value 7 is outside \[-5, 5\]"):
        from_hs3(_without_axis("norm", value=7.0, const=True))


SAMPLE = ("distributions", 0, "samples", 1)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            ("likelihoods", 0, "data"),
            [],
            "'likelihood' has 2 distributions and the data .*; give one of each",
        ),
        (("data",), [], r"data: no 'observed_\w+'; there are \[\]"),
        ((*SAMPLE, "data"), [], r"sample 'b': data \[\]; allowed are contents"),
        ((*SAMPLE, "data", "contents"), [], r"sample 'b': \[\]; allowed are 3 numbers, one for each bin"),
        ((*SAMPLE, "data", "contents"), [1.0, 2.0], r"sample 'b': \[1.0, 2.0\]; allowed are 3 numbers"),
        ((*SAMPLE, "data", "contents", 1), "many", "sample 'b': 'many'; allowed is a finite number"),
        ((*SAMPLE, "data", "contents", 1), "1.5", "sample 'b': '1.5'; allowed is a finite number"),
        (("data", 0, "contents"), [1.0], r"\[3.0, 8.0, 11.0\]; allowed are 1 numbers"),
        (("data", 0, "contents", 0), "x", "data 'observed_sr': 'x'; allowed is a finite number"),
        ((*MODIFIERS, 0, "data", "hi", "contents"), [1.0], r"modifier 'tilt', hi: \[1.0\]; allowed are 3"),
        ((*MODIFIERS, 1, "data", "lo"), "small", "modifier 'norm', lo: 'small'; allowed is a finite number"),
        (
            (*MODIFIERS, -1, "parameters"),
            ["one"],
            "modifier 'own': 1 parameters for 3 bins; give one for each",
        ),
        (("domains", 0, "axes", 0, "min"), "low", "min: 'low'; allowed is a finite number"),
        (("parameter_points", 0, "parameters", 0, "value"), "one", "'one'; allowed is a finite number"),
        (("distributions", -1, "sigma"), -1.0, "sigma -1.0; allowed are finite numbers"),
    ],
)
def test_what_is_no_number_or_of_a_wrong_length_is_named(path, value, message):
    with pytest.raises(InputError, match=message):
        from_hs3(_mended(path, value))
