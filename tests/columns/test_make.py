"""ROOT files become the columns an independent reading gives, or an error that says what is wrong."""

import itertools
import random
import re

import awkward as ak
import numpy as np
import pytest
import rootfiles
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import analysis as contract
from pipeline.analyses.agc_ttbar import AgcTtbar
from pipeline.analyses.hep_tutorial import HepTutorial
from pipeline.columns import mask, normal, pad
from pipeline.columns.one_file import read_events
from pipeline.columns.padding import TooManyObjects
from pipeline.data.datasets import HELD_OUT, TRAIN, is_held_out
from pipeline.data.jobs import SourceFile
from pipeline.errors import AnalysisError, ConfigError, InputError

JAGGED = st.lists(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=4), max_size=6
)
AGC_FILE = "agc/cms_open_data_2015_wjets_200_events.root"
WW_FILE = "hep_tutorial/ww.root"
REAL = {"nanoaod": (AgcTtbar(), AGC_FILE), "flat": (HepTutorial(), WW_FILE)}
real = pytest.mark.parametrize("kind", REAL)


def source(path, sample="a"):
    return SourceFile(sample, str(path))


def both(path, analysis, **settings):
    return read_events(source(path), analysis, held_out_fraction=0.4, **settings)


def assert_same(found, expected):
    assert [list(columns) for columns in found.values()] == [list(columns) for columns in expected.values()]
    for fold in expected:
        for name, array in expected[fold].items():
            np.testing.assert_array_equal(found[fold][name], array, strict=True)


@pytest.fixture
def tiny(tmp_path):
    """The analysis of the tiny files, and a function that makes others of it."""

    def make(name="tiny.py", options="{}", **bodies):
        return contract.load(rootfiles.write_analysis(tmp_path, name, **bodies), options)

    return make


def refused(path, analysis, *parts):
    """The message, which names the sample and holds the parts in order."""
    with pytest.raises(InputError) as caught:
        both(path, analysis)
    text = str(caught.value)
    assert re.search(".*".join(map(re.escape, ("sample 'a'", *map(str, parts)))), text, re.DOTALL), text
    return text


@given(jagged=JAGGED, fill=st.sampled_from([0.0, -1.0]))
def test_pad_and_mask_equal_plain_python(jagged, fill):
    array = ak.Array(ak.contents.ListOffsetArray(*_offsets(jagged)))
    padded = [[*objects, *[fill] * (4 - len(objects))] for objects in jagged]
    held = [[1.0] * len(objects) + [0.0] * (4 - len(objects)) for objects in jagged]
    shape = (len(jagged), 4)
    np.testing.assert_array_equal(pad(array, 4, fill=fill), np.float32(padded).reshape(shape), strict=True)
    np.testing.assert_array_equal(mask(array, 4), np.float32(held).reshape(shape), strict=True)
    longest = max(map(len, jagged), default=0)
    if longest > 1:
        with pytest.raises(TooManyObjects, match=f"has {longest} objects, more than the 1"):
            pad(array, 1)


def _offsets(jagged):
    offsets = np.cumsum([0, *map(len, jagged)])
    flat = np.array(list(itertools.chain.from_iterable(jagged)), dtype=np.float32)
    return ak.index.Index64(offsets), ak.contents.NumpyArray(flat)


def test_real_nanoaod_equals_uproot_alone(shared_data):
    """The shipped selection written once more with uproot; without the muon identification, which this file lacks."""
    path = shared_data / AGC_FILE
    events = uproot.open(path)["Events"].arrays(list({*AgcTtbar().reads.branches, "event"}))
    electron = (events.Electron_pt > 20) & (abs(events.Electron_eta) < 2.1) & (events.Electron_cutBased == 4)
    electron = events.Electron_pt[electron & (events.Electron_sip3d < 4)]
    assert not ak.any(events.Muon_tightId)
    draws = normal(events.event, events.Jet_pt, "pt_res_up")
    varied = events.Jet_pt * np.maximum(
        1.03, 1 + 0.05 * draws
    )  # what a variation of the pt may lift above the cut
    good = (varied > 20) & (abs(events.Jet_eta) < 2.4) & (events.Jet_jetId == 6)
    selected = (ak.num(electron) >= 1) & (ak.sum(good, axis=1) >= 4)
    held_out = is_held_out(ak.to_numpy(events.event), 0.4)
    folds, provenance = both(path, AgcTtbar())
    assert sum(provenance.entries_kept.values()) == int(ak.sum(selected)) > 0
    for fold, chosen in ((TRAIN, ~held_out), (HELD_OUT, held_out)):
        assert provenance.entries_read[fold] == int(chosen.sum())
        found = folds[fold]
        lists = {"lepton_pt": electron[selected & chosen]}
        for name in ("pt", "eta", "phi", "mass"):
            lists[f"jet_{name}"] = events[f"Jet_{name}"][good][selected & chosen]
        lists["jet_btag"] = events.Jet_btagCSVV2[good][selected & chosen]
        lists["jet_resolution"] = ak.values_astype(draws, np.float32)[good][selected & chosen]
        for name, expected in lists.items():
            unpadded = [row[: len(e)].tolist() for row, e in zip(found[name], expected, strict=True)]
            assert unpadded == expected.to_list(), name
        assert found["jet"].sum(axis=1).tolist() == ak.num(lists["jet_pt"]).to_list()
        assert found["weight"].tolist() == [1.0] * int(ak.sum(selected & chosen))


@pytest.mark.parametrize("step", [1, 7, 64, 199, 200, 10_000])
def test_steps_of_any_size_give_the_same(step, tmp_path, tiny):
    path = rootfiles.write(tmp_path / "a.root")
    assert_same(both(path, tiny(), step_events=step)[0], both(path, tiny())[0])


@real
def test_steps_give_the_same_on_real_files(kind, shared_data):
    analysis, path = REAL[kind]
    folds, provenance = both(shared_data / path, analysis, step_events={"flat": 1999, "nanoaod": 77}[kind])
    expected, whole = both(shared_data / path, analysis)
    assert_same(folds, expected)
    assert provenance == whole


def test_folds_follow_the_event_number_alone(tmp_path, tiny):
    """Not the file, its order or its neighbours."""
    content = rootfiles.arrays(300)
    shuffled = np.random.default_rng(5).permutation(300)
    whole = both(rootfiles.write(tmp_path / "whole.root", **content), tiny())[0]
    parts = []
    for number, chosen in enumerate((shuffled[:120], shuffled[120:])):
        path = rootfiles.write(tmp_path / f"{number}.root", **{n: a[chosen] for n, a in content.items()})
        parts.append(both(path, tiny())[0])
    for fold in (TRAIN, HELD_OUT):
        together = sorted(x for part in parts for x in part[fold]["x"])
        assert together == sorted(whole[fold]["x"])
    assert sum(len(whole[fold]["x"]) for fold in (TRAIN, HELD_OUT)) == 300


@settings(max_examples=30)
@given(
    start=st.integers(0, 2**62),
    fraction=st.floats(0.02, 0.98),
    stride=st.sampled_from([1, 2, 64, 1000, 2**20]),
)
def test_the_held_out_share_is_right_whatever_the_numbers(start, fraction, stride):
    numbers = start + stride * np.arange(20_000)
    held_out = is_held_out(numbers, fraction)
    sigma = np.sqrt(fraction * (1 - fraction) / len(numbers))
    assert abs(held_out.mean() - fraction) < 6 * sigma
    assert not np.any(held_out & ~is_held_out(numbers, min(1.0, fraction + 0.01)))


def test_nothing_held_out(tmp_path, tiny):
    folds, provenance = read_events(
        source(rootfiles.write(tmp_path / "a.root")), tiny(), held_out_fraction=0.0
    )
    assert provenance.entries_read == {TRAIN: 200, HELD_OUT: 0}
    assert folds[HELD_OUT]["jet"].shape == (0, 3)


def test_an_analysis_never_sees_no_events(tmp_path, tiny):
    """One event, so one fold is empty: code such as `ak.max(...)` that needs an event still works."""
    picky = tiny("picky.py", columns="assert len(events) > 0")
    folds, _ = both(rootfiles.write(tmp_path / "a.root", events=1), picky)
    assert sorted(len(columns["weight"]) for columns in folds.values()) == [0, 1]


def damages(data):
    """A file cut at many places and overwritten at others."""
    cuts = [0, 1, 60, 300, *(len(data) * percent // 100 for percent in (2, 10, 50, 90, 99)), len(data) - 1]
    yield from (data[:cut] for cut in cuts)
    yield b"no ROOT file, but text\n" * 50
    rng = random.Random(3)
    for _ in range(40):
        place, length = rng.randrange(len(data)), rng.choice([1, 30, 3000])
        yield data[:place] + rng.randbytes(length) + data[place + length :]


@real
def test_damaged_files(kind, shared_data, tmp_path):
    """Every cut file is an error that names it; an overwritten one is too, or nothing that is read was hit."""
    analysis, original = REAL[kind]
    path = tmp_path / "damaged.root"
    expected = both(shared_data / original, analysis)[0]
    refusals = 0
    for number, content in enumerate(damages((shared_data / original).read_bytes())):
        path.write_bytes(content)
        try:
            found = both(path, analysis)[0]
        except InputError as error:
            refusals += 1
            message = str(error)
        else:
            assert number > 10, f"cut {number} was not noticed"
            assert_same(found, expected)
            continue
        assert "sample 'a'" in message
        assert str(path) in message
    assert refusals > 11


def test_cut_between_the_baskets_and_their_index(tmp_path, tiny):
    """The header promises what is not there: cut behind the tree, where every basket can still be read."""
    path = rootfiles.write(tmp_path / "a.root")
    path.write_bytes(path.read_bytes()[:-1])
    size = path.stat().st_size
    refused(path, tiny(), path, "truncated", f"{size} of {size + 1} bytes", "take it out of the manifest")


def test_missing_file_and_folder(tmp_path, tiny):
    refused(
        tmp_path / "no.root",
        tiny(),
        "no.root does not exist here or beside the manifest; correct the manifest",
    )
    refused(tmp_path, tiny(), tmp_path, "is no file")


@pytest.mark.parametrize("url", ["root://127.0.0.1:9//a.root", "http://127.0.0.1:9/a.root"])
def test_remote_file_that_cannot_be_read(url, tiny):
    with pytest.raises((InputError, ConfigError), match=r"sample 'a': \w+://127.0.0.1:9/.* cannot be read"):
        both(url, tiny())


def test_missing_tree(tmp_path, tiny):
    path = rootfiles.write(tmp_path / "a.root", tree="event")
    refused(path, tiny(), "tree 'events'", path, "no tree 'events'", "nearest: 'event'")
    with uproot.recreate(tmp_path / "b.root") as file:
        file["events"] = np.histogram([1.0])
    refused(tmp_path / "b.root", tiny(), "'events' is a TH1D there", "it holds no tree at all")
    with uproot.recreate(tmp_path / "c.root"):
        pass
    refused(tmp_path / "c.root", tiny(), "no tree 'events' there", "it holds no tree at all")


@pytest.mark.parametrize(("branch", "near"), [("w", "allowed: "), ("jets", "njets"), ("number", "allowed: ")])
def test_missing_branch(branch, near, tmp_path, tiny):
    changes = {branch: None} | ({"njets_": np.arange(200)} if branch == "jets" else {})
    path = rootfiles.write(tmp_path / "a.root", **changes)
    refused(path, tiny(), f"branch {branch!r} not in tree 'events' of {path}", near)


def test_missing_nanoaod_branch_and_zero_entries(tmp_path):
    with uproot.recreate(tmp_path / "a.root") as file:
        file["Events"] = {"event": np.arange(3), "Electron_pT": ak.Array([[1.0], [], [2.0]])}
    refused(tmp_path / "a.root", AgcTtbar(), "branch 'Electron_pt' not in tree 'Events'", "'Electron_pT'")
    path = rootfiles.write(tmp_path / "b.root", events=0)
    refused(path, contract.load(rootfiles.write_analysis(tmp_path, "t.py")), path, "zero entries", "manifest")


def test_nanoaod_without_counters(tmp_path):
    """What uproot writes from separate jagged branches: `nJet_pt`, where NanoAOD has one `nJet`."""
    path = tmp_path / "a.root"
    types = {name: "var * float32" for name in AgcTtbar().reads.branches}
    with uproot.recreate(path) as file:
        file.mktree("Events", {"event": "int64", **types})
        jagged = ak.Array([np.ones(2, dtype=np.float32)])
        file["Events"].extend({"event": np.arange(1), **dict.fromkeys(types, jagged)})
    refused(path, AgcTtbar(), "branch 'Electron_pt' needs 'nElectron' in tree 'Events'", path, "FlatTree")


def test_event_numbers_that_are_none(tmp_path, tiny):
    path = rootfiles.write(tmp_path / "a.root", number=np.linspace(0, 1, 200))
    refused(path, tiny(), "branch 'number'", path, "float64", "one integer per event")
    path = rootfiles.write(tmp_path / "b.root", number=np.ones((200, 2), dtype=int))
    refused(path, tiny(), "branch 'number'", path, "2 * int64", "one integer per event")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("branch", "column"), [("w", "weight"), ("x", "x")])
def test_values_that_are_not_finite(value, branch, column, tmp_path, tiny):
    array = rootfiles.arrays()[branch]
    array[[3, 77]] = value
    path = rootfiles.write(tmp_path / "a.root", **{branch: array})
    with pytest.raises(
        InputError, match=rf"'{column}' of {path} holds 2 values .*first: {value}, in .* event 3"
    ):
        read_events(source(path), tiny(), held_out_fraction=0.0)


def test_values_beyond_float32_are_kept(tmp_path, tiny):
    path = rootfiles.write(tmp_path / "a.root", x=np.full(200, 1e300))
    assert {float(x) for columns in both(path, tiny())[0].values() for x in columns["x"]} == {1e300}


SHAPES = {
    'return {"weight": events.w, "x": events.x[:-1]}': (
        "column 'x' has shape",
        "[events] or [events, objects]",
    ),
    'return {"weight": events.w, "x": np.ones((len(events), 2, 2))}': ("column 'x' has shape", "allowed"),
    'return {"weight": events.w, "x": np.ones((len(events), 0))}': ("column 'x' has shape", ", 0)"),
    'return {"weight": events.w, "x": 1.0}': ("column 'x' ",),
    'return {"weight": pad(events.jets, 3)}': ("column 'weight' has shape", "allowed: [events]"),
    'return {"weight": events.w, "jet": events.jets}': ("column 'jet' is no rectangular", "use pad("),
    'return {"weight": events.w, "x": ak.max(events.jets, axis=1)}': ("column 'x' is no", "ak.fill_none"),
    'return {"weight": events.w, "x": ["b"] * len(events)}': (
        "column 'x' is no rectangular array of numbers",
    ),
    'return {"x": events.x}': ("columns() of Tiny returns the columns ['x']", "with a 'weight'"),
    "return None": ("columns() of Tiny returns a NoneType",),
    "return [events.w]": ("columns() of Tiny returns a list",),
    'return {"weight": events.w, "j": pad(events.jets, 3)[:, : 1 + int(events.number[0] > 0)]}': (
        "columns() returns",
        "must not depend on the events",
    ),
    'return {"weight": events.w, "jet": pad(events.jets, 2)}': (
        "an event has 3 objects",
        "the 2 of pad(",
        "Tiny",
    ),
}


@pytest.mark.parametrize("body", SHAPES)
def test_wrong_columns(body, tmp_path, tiny):
    path = rootfiles.write(tmp_path / "a.root")
    refused(path, tiny("wrong.py", head="import awkward as ak", columns=body), *SHAPES[body])


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        ("events.no_such_branch", "AttributeError", "no field named 'no_such_branch'"),
        ("1 / 0", "ZeroDivisionError", "division by zero"),
        ("[][3]", "IndexError", "list index out of range"),
        ("raise ValueError('mine')", "ValueError", "mine"),
        ("open('/nowhere')", "FileNotFoundError", r"\[Errno 2\] No such file or directory: '/nowhere'"),
        ("raise RuntimeError", "RuntimeError", "no message"),
    ],
)
def test_exceptions_of_the_analysis_are_its_own(body, kind, said, tmp_path, tiny):
    """They are no damaged file: what they are, in which method, sample and file, and the line."""
    path = rootfiles.write(tmp_path / "a.root")
    with pytest.raises(AnalysisError) as caught:
        both(path, tiny("raising.py", columns=body))
    expected = (
        rf"{kind} in Tiny.columns\(events, 'a'\) on \d+ events of {path}: {said}; {tmp_path}/raising.py"
    )
    assert re.fullmatch(rf"{expected}, line 17: {re.escape(body)}", str(caught.value))
    assert "Traceback (most recent call last)" in caught.value.details


def test_paths_with_a_colon(tmp_path, tiny):
    (tmp_path / "run:1").mkdir()
    plain = rootfiles.write(tmp_path / "a.root")
    odd = tmp_path / "run:1" / "a.root"
    odd.write_bytes(plain.read_bytes())
    assert_same(both(odd, tiny())[0], both(plain, tiny())[0])
