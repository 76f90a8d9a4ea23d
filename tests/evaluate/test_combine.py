"""A datacard of Combine and back; and read by the parser of another program."""

import copy

import numpy as np
import pyhf
import pytest
import uproot
from workspaces import everything, modifier, two_channels, workspace_of

from pipeline.errors import InputError
from pipeline.evaluate.workspaces.exchange.combine import card_of, write_card
from pipeline.evaluate.workspaces.exchange.combine_reading import read_card
from pipeline.evaluate.workspaces.exchange.content import CannotSayError, content_of
from pipeline.likelihood import HistFactory


def spoken():
    """All that Combine has words for, with names that it has not, and a shape that changes a yield."""
    content = two_channels()
    content["channels"][0]["name"] = content["observations"][0]["name"] = "4j SR"
    for number, channel in enumerate(content["channels"]):
        signal, background = channel["samples"]
        background["modifiers"].insert(0, modifier("b-tag NP 1", "normsys", {"hi": 1.05, "lo": 0.93}))
        background["modifiers"].append(modifier("free", "normfactor"))
        size = [1.2, 1.0, 1.1] if number == 0 else [1.1, 0.9, 1.0]
        high = [n * f for n, f in zip(signal["data"], size, strict=True)]
        low = [n / f for n, f in zip(signal["data"], size, strict=True)]
        signal["modifiers"].append(modifier("energy", "histosys", {"hi_data": high, "lo_data": low}))
    content["channels"][1]["samples"][1]["modifiers"].append(
        modifier("energy", "normsys", {"hi": 1.1, "lo": 0.8})
    )
    content["measurements"][0]["config"]["parameters"] += [
        {"name": "mu", "inits": [1.5], "bounds": [[-2.0, 7.0]]},
        {"name": "free", "inits": [0.9], "bounds": [[0.2, 3.0]]},
    ]
    return content


def there_and_back(content, folder):
    write_card(folder / "card.txt", content_of(content))
    return read_card(folder / "card.txt")


def theirs(name):
    """How a parameter is called after the way through a card: statistical ones by their channel."""
    return name.replace("stat_sr", "staterror_4j SR").replace("stat_cr", "staterror_cr")


def test_yields_are_the_same_where_each_parameter_is_nominal_or_at_a_standard_deviation(tmp_path):
    """And nothing else differs: parameters, data, settings; the luminosity is a normsys then."""
    content = spoken()
    spaces = [pyhf.Workspace(content), pyhf.Workspace(there_and_back(content, tmp_path))]
    one, other = (space.model() for space in spaces)
    names = one.config.par_names
    assert sorted(map(theirs, names)) == sorted(other.config.par_names)
    assert other.config.poi_name == "mu"
    place = [other.config.par_names.index(theirs(name)) for name in names]
    start, nominal = np.array(one.config.suggested_init()), np.array(other.config.suggested_init())
    lumi = names.index("lumi")
    assert nominal[place[lumi]] == 0
    kept = [number for number in range(len(names)) if number != lumi]
    np.testing.assert_array_equal(nominal[place][kept], start[kept])
    bounds = np.array(other.config.suggested_bounds())[place]
    np.testing.assert_array_equal(bounds[kept], np.array(one.config.suggested_bounds())[kept])
    np.testing.assert_array_equal(
        *(s.data(m, include_auxdata=False) for s, m in zip(spaces, (one, other), strict=True))
    )
    for number, name in enumerate(names):
        for step in (-0.3, 0.4) if "[" in name or name in ("mu", "free") else (-1.0, 1.0):
            here, there = start.copy(), nominal.copy()
            here[number] += 0.02 * step if name == "lumi" else step
            there[place[number]] += step
            np.testing.assert_allclose(
                one.expected_actualdata(here), other.expected_actualdata(there), rtol=1e-12, err_msg=name
            )


def test_the_density_is_the_same_up_to_interpolation(tmp_path):
    """What is between is interpolated another way; a constant apart it differs the less, the smaller the step."""
    content = spoken()
    spaces = [pyhf.Workspace(content), pyhf.Workspace(there_and_back(content, tmp_path))]
    one, other = (space.model() for space in spaces)
    names = one.config.par_names
    place, lumi = [other.config.par_names.index(theirs(name)) for name in names], names.index("lumi")
    start, nominal = np.array(one.config.suggested_init()), np.array(other.config.suggested_init())
    direction = np.random.default_rng(2).uniform(-1, 1, start.size)
    apart = []
    for size in (0.0, 0.05, 0.1, 1.0):
        here, there = start + size * direction, nominal.copy()
        here[lumi] = 1 + 0.02 * size * direction[lumi]
        there[place] += size * direction
        densities = [
            model.logpdf(point, space.data(model))[0]
            for model, point, space in zip((one, other), (here, there), spaces, strict=True)
        ]
        apart.append(float(densities[0] - densities[1]))
    constant = apart[0]
    assert constant == pytest.approx(
        -np.log(0.02), rel=1e-9
    )  # the luminosity's constraint is of width 0.02, then 1
    assert 0 < abs(apart[1] - constant) < abs(apart[2] - constant) < min(abs(apart[3] - constant), 0.3)


def test_a_run_s_own_kind_of_workspace_comes_back_number_by_number(tmp_path):
    """A normsys and a histosys of one name with the nominal yield, as cabinetry and this project write them."""
    background = modifier("tilt", "histosys", {"hi_data": [12.0, 18.0], "lo_data": [9.0, 21.0]})
    samples = [
        {"name": "s", "data": [1.0, 2.0], "modifiers": [modifier("mu", "normfactor")]},
        {
            "name": "b",
            "data": [10.0, 20.0],
            "modifiers": [modifier("tilt", "normsys", {"hi": 1.2, "lo": 0.9}), background],
        },
    ]
    for sample in samples:
        sample["modifiers"].append(modifier("staterror_c", "staterror", [0.5, 0.25]))
    content = workspace_of([{"name": "c", "samples": samples}], {"c": [11.0, 22.0]})
    back = there_and_back(content, tmp_path)
    for expected, found in zip(
        content["channels"][0]["samples"], back["channels"][0]["samples"], strict=True
    ):
        assert (expected["name"], expected["data"]) == (found["name"], found["data"])
        for mine, theirs in zip(expected["modifiers"], found["modifiers"], strict=True):
            assert (mine["name"], mine["type"]) == (theirs["name"], theirs["type"])
            if mine["data"] is not None:
                numbers = [
                    [*m["data"].values()] if isinstance(m["data"], dict) else m["data"]
                    for m in (mine, theirs)
                ]
                np.testing.assert_allclose(*numbers, rtol=1e-14)
    assert content["observations"] == back["observations"]
    assert back["measurements"][0]["config"] == {"poi": "mu", "parameters": []}


def test_a_card_is_not_written_over_its_histograms(tmp_path):
    with pytest.raises(
        InputError, match=r"card.root is the place of the histograms; give the datacard another"
    ):
        write_card(tmp_path / "card.root", content_of(spoken()))


def test_another_parser_reads_the_card(tmp_path):
    parser = pytest.importorskip(
        "rabbit.datacard_parser", reason="rabbit-fit brings TensorFlow, too heavy for the locked environment"
    )
    content = spoken()
    write_card(tmp_path / "card.txt", content_of(content))
    found = parser.DatacardParser().parse_file(str(tmp_path / "card.txt"))
    assert found.bins == ["4j_SR", "cr"]
    assert found.observations == {"4j_SR": 104.0, "cr": 250.0}
    assert found.process_indices == {"s": 0, "b": 1}
    effects = {entry["name"]: (entry["type"], entry["effects"]) for entry in found.systematics}
    assert effects["b_tag_NP_1"] == ("lnN", {("4j_SR", "b"): "0.93/1.05", ("cr", "b"): "0.93/1.05"})
    assert effects["tilt"][0] == "shape"
    assert effects["energy"] == (
        "shape?",
        {("4j_SR", "s"): "1", ("cr", "s"): "1", ("cr", "b"): "0.8/1.1"},
    )
    assert effects["lumi"][1][("cr", "s")] == "0.98/1.02"
    assert ["free", "cr", "b", "0.9", "[0.2,3.0]"] in found.rate_params
    with uproot.open(found.shapes[0]["file"]) as file:
        np.testing.assert_allclose(file["cr/s"].errors(), [0.08, 0.08, 0.16])


def _changed(change):
    content = spoken()
    change(content)
    return content


def _held(content):
    content["measurements"][0]["config"]["parameters"].append({"name": "tilt", "fixed": True})


def _half_signal(content):
    content["channels"][0]["samples"][0]["modifiers"].pop(0)


def _kappa(content):
    content["channels"][0]["samples"][1]["modifiers"][0]["data"]["lo"] = 0.0


def _alike(content):
    content["channels"][0]["samples"][1]["modifiers"].append(modifier("b tag NP 1", "normfactor"))


def _reserved(content):
    content["channels"][0]["samples"][1]["modifiers"].append(modifier("rate", "normfactor"))


def _empty(content):
    content["channels"][0]["samples"][0]["modifiers"][-1]["data"]["lo_data"] = [0.0] * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_held, "parameter 'tilt': Combine cannot say it: the measurement holds it"),
        (
            _half_signal,
            "sample 's': Combine cannot say it: the POI 'mu' scales it, but not in channel '4j SR'",
        ),
        (_kappa, "normsys 'b-tag NP 1' of channel '4j SR', sample 'b': .* a factor of 0 is no kappa"),
        (_alike, "it would be spelt 'b_tag_NP_1', as another one is"),
        (_reserved, "parameter 'rate': Combine cannot say it: 'rate' is a word of its own; rename it"),
        (_empty, "histosys 'energy' of channel '4j SR', sample 's': .* a varied template has no yield"),
    ],
)
def test_what_combine_has_no_words_for_is_named(change, message):
    with pytest.raises(CannotSayError, match=message):
        card_of(content_of(_changed(change)), "card.root")


@pytest.mark.parametrize("kind", ["shapefactor", "shapesys"])
def test_modifiers_that_combine_has_not_are_named(kind):
    content = copy.deepcopy(everything())
    for sample in content["channels"][0]["samples"]:
        sample["modifiers"] = [m for m in sample["modifiers"] if m["type"] in (kind, "normfactor")]
    content["measurements"][0]["config"]["parameters"] = []
    with pytest.raises(CannotSayError, match=f"{kind} '.*': Combine cannot say it: it has no such modifier"):
        card_of(content_of(content), "card.root")


COUNTING = """imax 1
jmax 1
kmax *
bin b1
observation 12
bin b1 b1
process sig bkg   # names
process 0 1
rate 2.5 10
lumi lnN 1.1 1.1
one lnN - 0.8/1.3
one group = lumi
scale rateParam * bkg 1 [0.5,2]
"""


def test_a_card_without_histograms_is_a_counting_experiment(tmp_path):
    (tmp_path / "card.txt").write_text(COUNTING)
    found = read_card(tmp_path / "card.txt")
    signal, background = found["channels"][0]["samples"]
    assert (signal["data"], background["data"], found["observations"][0]["data"]) == ([2.5], [10.0], [12.0])
    norms = {m["name"]: m["data"] for m in background["modifiers"]}
    assert norms == {"scale": None, "lumi": {"hi": 1.1, "lo": 1 / 1.1}, "one": {"hi": 1.3, "lo": 0.8}}
    config = found["measurements"][0]["config"]
    assert config["poi"] == "r"
    assert {"name": "r", "bounds": [[0.0, 20.0]]} in config["parameters"]
    assert HistFactory.from_workspace(found).parameter_names == ("scale", "r", "lumi", "one")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "lumi lnN 1.1 1.1",
            "lumi gmN 4 0.3 0.3",
            "'lumi gmN 4 0.3': read are shape, shapeN, shape.?, lnN, rateParam",
        ),
        ("one lnN - 0.8/1.3", "one lnN -", "'one' has 1 effects, not 2"),
        ("one lnN - 0.8/1.3", "one lnN - 0/1.3", "lnN 'one': kappa 0/1.3; allowed is a number above 0"),
        ("rate 2.5 10", "rates 2.5 10", "it needs two lines `bin` and two `process`"),
        ("bkg 1 [0.5,2]", "bkg (@0*2) x", "rateParam 'scale': .* read are numbers only"),
        ("one group = lumi", "nuisance edit freeze lumi", "'nuisance edit freeze lumi': read are"),
    ],
)
def test_lines_that_pyhf_has_no_words_for_are_named(tmp_path, old, new, message):
    assert old in COUNTING
    (tmp_path / "card.txt").write_text(COUNTING.replace(old, new))
    with pytest.raises(InputError, match=message):
        read_card(tmp_path / "card.txt")


def test_histograms_that_are_not_there_or_contradict_the_card_are_named(tmp_path):
    write_card(tmp_path / "card.txt", content_of(spoken()))
    text = (tmp_path / "card.txt").read_text()
    for old, new, message in (
        ("autoMCStats 0 1 1", "autoMCStats 1000 1 1", "autoMCStats 1000 of channel '4j_SR': bin 0 has fewer"),
        ("$CHANNEL/$PROCESS $C", "$PROCESS $C", "no histogram 's' in card.root|no histogram 'data_obs'"),
        ("rate 22.0", "rate 25.0", "rate 25 of 's' in '4j_SR', but its histogram has 22"),
        ("card.root", "other.root", "other.root cannot be read"),
    ):
        assert old in text
        (tmp_path / "card.txt").write_text(text.replace(old, new))
        with pytest.raises(InputError, match=message):
            read_card(tmp_path / "card.txt")
