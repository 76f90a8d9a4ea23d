"""What a conversion refuses before it writes anything, by the name of what is wrong."""

import json

import numpy as np
import pytest
from workspaces import modifier, two_channels, workspace_of

from pipeline.errors import InputError, OutputError
from pipeline.evaluate.workspaces.exchange.cabinetry_files import write_cabinetry
from pipeline.evaluate.workspaces.exchange.combine import write_card
from pipeline.evaluate.workspaces.exchange.content import CannotSayError, content_of
from pipeline.evaluate.workspaces.exchange.formats import convert


def refused(folder, content, written, error, message):
    """Convert a workspace that is to be refused, and nothing is written."""
    (folder / "in.json").write_text(json.dumps(content))
    target = folder / ("out" if written == "cabinetry" else "out.txt")
    with pytest.raises(error, match=message):
        convert(folder / "in.json", target, written)
    assert [path.name for path in folder.iterdir()] == ["in.json"]


def observed(data):
    return lambda content: content["observations"][0].update(data=data)


def twice(content):
    content["observations"].append(content["observations"][0])


def unknown(content):
    content["observations"].append({"name": "srr", "data": [1.0]})


def missing(content):
    content["observations"].pop()


def no_poi(content):
    content["measurements"][0]["config"]["poi"] = "muu"


@pytest.mark.parametrize("written", ["pyhf", "hs3", "combine"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (observed([1.0, 2.0]), r"observation 'sr': shape \(2,\), but the channel has 3 bins"),
        (
            observed([1.0, -2.0, 3.0]),
            "observation 'sr': -2 in bin 1; allowed are finite numbers of at least 0",
        ),
        (observed([1.0, np.nan, 3.0]), "in.json is not JSON: "),
        (twice, "observations: name 'sr' appears twice"),
        (unknown, "observations of 'srr', which is no channel; .*'sr'"),
        (missing, "channel 'cr' has no observations; add them"),
        (no_poi, "POI 'muu' has 0 components in the model"),
    ],
)
def test_a_workspace_that_pyhf_would_refuse_is_not_converted(tmp_path, written, change, message):
    content = two_channels()
    change(content)
    refused(tmp_path, content, written, InputError, message)


def renamed(old, new):
    """Rename a sample in all channels."""

    def change(content):
        for channel in content["channels"]:
            for sample in channel["samples"]:
                sample["name"] = new if sample["name"] == old else sample["name"]

    return change


def beside(content):
    nominal = [1.0, 1.0, 1.0]
    content["channels"][0]["samples"].append(
        {
            "name": "b_tiltUp",
            "data": nominal,
            "modifiers": [modifier("norm", "normsys", {"hi": 1.1, "lo": 0.9})],
        }
    )


def empty(content):
    content["channels"][0]["samples"][1]["data"] = [0.0] * 3


def configured(**settings):
    return lambda content: content["measurements"][0]["config"]["parameters"].append(settings)


def lumi_start(content):
    content["measurements"][0]["config"]["parameters"][0]["inits"] = [1.1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            renamed("b", "data_obs"),
            "would be called 'cr/data_obs', as that of the observed events; rename it",
        ),
        (beside, "would be called 'sr/b_tiltUp', as that of"),
        (
            empty,
            "histosys 'tilt' of channel 'sr', sample 'b': Combine cannot say it: the sample has the yield 0",
        ),
        (configured(name="tilt", inits=[0.3]), "parameter 'tilt': .* start value 0.3, not 0.0; remove it"),
        (configured(name="norm", bounds=[[-2.0, 2.0]]), r"parameter 'norm': .* bounds \(-2.0, 2.0\), not"),
        (
            configured(name="stat_sr", inits=[1.0, 1.1, 1.0]),
            "parameter 'stat_sr': .* start value 1.1, not 1.0",
        ),
        (lumi_start, "parameter 'lumi': Combine cannot say it: the measurement gives it a start value"),
    ],
)
def test_what_a_datacard_would_lose_is_refused(tmp_path, change, message):
    content = two_channels()
    change(content)
    refused(tmp_path, content, "combine", CannotSayError, message)


def test_a_histosys_that_changes_nothing_needs_no_yield(tmp_path):
    content = two_channels()
    empty(content)
    content["channels"][0]["samples"][1]["modifiers"][0]["data"] = {
        "hi_data": [0.0] * 3,
        "lo_data": [0.0] * 3,
    }
    write_card(tmp_path / "card.txt", content_of(content))
    assert (tmp_path / "card.root").is_file()


@pytest.mark.parametrize("name", ["card.txt", "card.root"])
def test_card_and_histograms_are_written_both_or_neither(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(OutputError, match=rf"cannot write .*{name}: it is there and no ordinary file"):
        write_card(tmp_path / "card.txt", content_of(two_channels()))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def regions(*named):
    """A workspace of cabinetry's words: regions and their samples."""
    channels = [
        {
            "name": region,
            "samples": [
                {"name": n, "data": [2.0], "modifiers": [modifier(f"mu{number or ''}", "normfactor")]}
                for n in samples
            ],
        }
        for number, (region, samples) in enumerate(named)
    ]
    return workspace_of(channels, {region: [2.0] for region, _ in named})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (regions(("A_b", ["c"]), ("A", ["b_c"])), "would be the file 'A_b_c.npz', as that of region 'A"),
        (regions(("A", ["b", "b_modified"])), "would be the file 'A_b_modified.npz', as that of region 'A'"),
        (regions(("A", ["b.c", "b.d"])), "would be the file 'A_b.npz', as that of region 'A', sample 'b.c'"),
        (regions(("../../A", ["b"])), "region '../../A', sample 'Data': .* rename it, without '/'"),
        (regions(("A", ["b/c"])), "region 'A', sample 'b/c': cabinetry cannot say it"),
        (regions(("A", ["Data", "s"])), "sample 'Data': .* the observed events have that name; rename it"),
    ],
)
def test_names_that_would_be_one_file_of_cabinetry_or_none_are_refused(tmp_path, content, message):
    refused(tmp_path, content, "cabinetry", CannotSayError, message)


def test_bounds_that_cabinetry_would_lose_are_refused(tmp_path):
    content = regions(("A", ["s"]))
    content["channels"][0]["samples"][0]["modifiers"].append(
        modifier("norm", "normsys", {"hi": 1.1, "lo": 0.9})
    )
    configured(name="norm", bounds=[[-2.0, 2.0]])(content)
    refused(
        tmp_path, content, "cabinetry", CannotSayError, r"parameter 'norm': cabinetry .* bounds \(-2.0, 2.0\)"
    )


@pytest.mark.parametrize("below", ["", "/folder"])
def test_a_folder_of_cabinetry_that_cannot_be_is_named(tmp_path, below):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match=r"cannot write .*out"):
        write_cabinetry(tmp_path / f"out{below}", content_of(regions(("A", ["s"]))))
    assert (tmp_path / "out").read_text() == "mine"


def test_no_histograms_of_cabinetry_are_written_without_their_configuration(tmp_path):
    (tmp_path / "config.yml").mkdir()
    with pytest.raises(OutputError, match=r"config.yml: it is there and no ordinary file"):
        write_cabinetry(tmp_path, content_of(regions(("A", ["s"]))))
    assert [path.name for path in tmp_path.iterdir()] == ["config.yml"]
