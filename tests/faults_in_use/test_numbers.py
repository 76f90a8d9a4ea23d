"""Columns keep their numbers, exact cuts are NumPy's, and the bootstrap resamples events."""

import json
import shutil
from pathlib import Path

import awkward as ak
import jax.numpy as jnp
import numpy as np
import pytest
import uproot
import yaml
from columnfiles import columns_of, source_files, write_columns
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import heard
from rootfiles import write_run

from pipeline import analysis as contract
from pipeline import config
from pipeline.cluster import InProcess
from pipeline.columns.one_file import read_events
from pipeline.columns.padding import UnsuitableArray, mask, noise, normal, pad
from pipeline.data import store
from pipeline.data.datasets import TRAIN
from pipeline.data.jobs import SourceFile
from pipeline.errors import InputError
from pipeline.gradient.chunks import cut
from pipeline.gradient.loss import centre
from pipeline.gradient.sweeps import forward
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.schedule import widths_at
from pipeline.relax import Exact
from pipeline.templates.fill import EXACT

pytestmark = pytest.mark.usefixtures("compiled_quickly")

BRANCHES = ("double", "single", "whole", "flag", "w", "jets")
ANALYSIS = f"""
import awkward as ak
import jax.numpy as jnp
import numpy as np
from pipeline.analysis import Analysis, FlatTree, Free
from pipeline.columns import mask, pad
from pipeline.containers import Observation


class Ties(Analysis):
    reads = FlatTree(tree="events", branches={BRANCHES}, event="number")
    parameters = {{"cut": Free(0.3, bounds=(0.0, 1.0)), "least": Free(3.0, bounds=(0.0, 10.0))}}
    seen = {{}}

    def columns(self, events, dataset):
        return {{"weight": events.w, **{{name: events[name] for name in {BRANCHES[:4]}}}}}

    def observe(self, p, c, relax):
        for name, array in c.arrays.items():
            self.seen[type(relax).__name__, name] = array.dtype.name
        passes = {{
            "double": relax.greater(c.double, p.cut),
            "single": relax.greater(c.single, p.cut),
            "whole": relax.greater(c.whole, p.least),
            "window": relax.between(c.double, p.cut, 0.7, width="cut"),
            "below": relax.less(c.single, p.cut),
            "large": relax.greater(c.whole, 2**53, width="least"),
            "flag": relax.not_(c.flag),
        }}
        return {{
            **{{n: Observation(weight=c.weight * passed) for n, passed in passes.items()}},
            **{{f"bins_{{n}}": Observation(weight=c.weight, value=c.arrays[n]) for n in {BRANCHES[:3]}}},
            "free": Observation(weight=c.weight, value=c.double),
        }}
"""
EDGES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
BINNED = {"edges": EDGES, "bandwidth": {"initial": 0.05, "final": 0.05}}
COUNTED = ("double", "single", "whole", "window", "below", "large", "flag")


def branches(**changes):
    """900 events with one decimal: 100 each of 0.1 to 0.9."""
    value = np.repeat(np.arange(1, 10) / 10, 100)
    arrays = {
        "number": np.arange(900),
        "double": value,
        "single": value.astype(np.float32),
        "whole": np.repeat(np.arange(1, 10), 100),
        "flag": np.arange(900) % 3 == 0,
        "w": np.ones(900),
        "jets": ak.unflatten(np.arange(900.0), np.full(900, 1)),
    }
    return {**arrays, **changes}


def write(path, arrays):
    with uproot.recreate(path) as file:
        types = {n: "var * float64" if n == "jets" else a.dtype for n, a in arrays.items()}
        file.mktree("events", types)
        file["events"].extend(arrays)


def run_of(folder, *overrides, analysis=ANALYSIS, **samples):
    """A run of files of branches, and its column files."""
    (folder / "ties.py").write_text(analysis)
    for name, arrays in samples.items():
        if isinstance(arrays, str):
            shutil.copy(arrays, folder / f"{name}.root")
        else:
            write(folder / f"{name}.root", arrays)
    files = {n: {"nominal": {"files": [{"path": f"{folder}/{n}.root", "nevts": 900}]}} for n in samples}
    (folder / "manifest.json").write_text(json.dumps(files))
    content = {
        "run": "ties",
        "analysis": {"target": f"{folder}/ties.py:Ties"},
        "data": {"manifest": str(folder / "manifest.json"), "luminosity_per_pb": 1, "held_out_fraction": 0.0}
        | {"samples": {name: {} for name in samples}},
        "channels": {n: {} for n in COUNTED}
        | {f"bins_{n}": BINNED for n in ("double", "single")}
        | {"bins_whole": {**BINNED, "edges": list(range(1, 11))}}
        | {"free": {**BINNED, "free_edges": {"smallest": 0.01}}},
        "widths": {"cut": {"initial": 0.1, "final": 0.1}, "least": {"initial": 1.0, "final": 1.0}},
        "model": {"poi": "mu", "normfactors": [{"name": "mu", "samples": ["signal"]}]},
        "objective": {"kind": "asimov_significance"},
        "optimise": {"epochs": 1},
        "cluster": {"executor": "in_process"},
    }
    (folder / "ties.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    run = config.load(folder / "ties.yaml", overrides)
    return run, write_columns(run, folder / "columns")


def templates(run, files, *, widths=EXACT, replica=None, **parameters):
    work = prepare_work(run, files, TRAIN)
    at = {**initial_parameters(run), **parameters}
    return forward(InProcess(), work, at, widths, replica=replica)


@pytest.fixture(scope="module")
def ties(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("ties"), signal=branches())


def counts(found, channel):
    return found.yields[channel][0, 0]


def test_a23_values_on_thresholds_and_edges_are_as_in_numpy(ties):
    """600 of 900 above 0.3, 100 in each bin; of doubles and of a true float32 branch."""
    arrays = branches()
    for edge in EDGES:
        found = templates(*ties, cut=np.float64(edge), least=np.float64(10 * edge))
        for name in ("double", "single"):
            assert counts(found, name) == np.sum(arrays[name] > edge)
        assert counts(found, "below") == np.sum(arrays["single"] < edge)
        assert counts(found, "whole") == np.sum(arrays["whole"] > 10 * edge)
        assert counts(found, "window") == np.sum((arrays["double"] > edge) & (arrays["double"] < 0.7))
    found = templates(*ties)
    assert [counts(found, name) for name in ("double", "single", "whole")] == [600, 600, 600]
    assert counts(found, "bins_double").tolist() == [100] * 9
    assert counts(found, "bins_single").tolist() == np.histogram(arrays["single"], EDGES)[0].tolist()
    assert counts(found, "bins_whole").tolist() == [100] * 9


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a23_and_a13_types_that_an_analysis_sees(ties, precision):
    """Exact: the columns' own, whatever the precision. Relaxed: numbers in it, whole ones and booleans as they are."""
    run, files = ties
    section = run.cluster.model_copy(update={"precision": precision})
    run = run.model_copy(update={"cluster": section})
    seen = prepare_work(run, files, TRAIN).problem.analysis.seen
    exact = templates(run, files)
    relaxed = templates(run, files, widths=widths_at(run, 0))
    assert [counts(exact, name) for name in ("double", "single", "whole")] == [600, 600, 600]
    assert counts(exact, "bins_double").tolist() == [100] * 9
    assert counts(relaxed, "double") == pytest.approx(600, rel=0.2)
    own = {"double": "float64", "single": "float32", "whole": "int64", "flag": "bool", "weight": "float64"}
    assert {name: seen["Exact", name] for name in own} == own
    own |= dict.fromkeys(("double", "single", "weight"), precision)
    assert {name: seen["Relaxed", name] for name in own} == own
    assert ("Exact", "event_number") not in seen


VALUES = {
    np.float32: st.sampled_from(
        [*EDGES, 0.0, -0.1, *(np.nextafter(np.float32(e), np.float32(1)) for e in EDGES)]
    ),
    np.float64: st.sampled_from(
        [*EDGES, 0.0, *(np.nextafter(e, 1) for e in EDGES), *np.float32(EDGES).tolist()]
    ),
    np.int64: st.sampled_from([0, 1, -1, 2**24 + 1, 2**53, 2**53 + 1, 2**63 - 1]),
    np.uint64: st.sampled_from([0, 1, 2**53 + 1, 2**63, 2**64 - 1]),
    np.int8: st.integers(-128, 127),
}


@settings(max_examples=30)
@given(data=st.data(), dtype=st.sampled_from(list(VALUES)))
def test_a23_exact_operations_are_numpys_on_ties(data, dtype):
    values = np.array(data.draw(st.lists(VALUES[dtype], min_size=12, max_size=12)), dtype=dtype)
    cut = data.draw(VALUES[dtype])
    cut = int(cut) if np.dtype(dtype).kind in "iu" else float(cut)
    relax = Exact()
    assert relax.greater(values, cut).tolist() == (values > cut).tolist()
    assert relax.less(values, cut).tolist() == (values < cut).tolist()
    assert relax.between(values, cut, cut + 1).tolist() == ((values > cut) & (values < cut + 1)).tolist()
    if np.dtype(dtype).kind == "f":
        assert relax.greater(values, jnp.asarray(cut)).tolist() == (values > cut).tolist()
        assert relax.histogram(values, np.array(EDGES)).tolist() == np.histogram(values, EDGES)[0].tolist()
    else:
        assert relax.greater(values, np.float64(0.5)).tolist() == (values > 0.5).tolist()


def test_a13_whole_numbers_keep_their_type_to_the_last_digit(tmp_path):
    """100 identifiers from 2^24 on stay 100; above 2^53 and in uint64 too."""
    identifiers = {
        "whole": np.uint64(2**63) + np.arange(900, dtype=np.uint64),
        "double": (2**24 + np.arange(900)).astype(np.int32),
    }
    run, files = run_of(tmp_path, signal=branches(**identifiers))
    kept = store.read_columns(files[0][1], TRAIN)
    for name, array in identifiers.items():
        np.testing.assert_array_equal(kept[name], array, strict=True)
    work = prepare_work(run, files, TRAIN)
    (chunk, *_) = cut(work.groups[0], work.problem.layout)
    assert len(np.unique(chunk["whole"][chunk["weight"] > 0])) == 900
    assert counts(templates(run, files), "large") == 900
    assert counts(templates(run, files), "double") == 900


KINDS = {
    "events.w + 1j": "complex128",
    "events.w.to_numpy().astype('M8[s]')": "datetime64",
    "events.w.to_numpy().astype('m8[s]')": "timedelta64",
    "[str(w) for w in events.w]": "",
    "np.array(list(map(str, events.w)), dtype=object)": "object",
    "np.asarray(events.w).astype(np.longdouble)": "float128",
    "np.ma.array(np.asarray(events.w), mask=np.asarray(events.flag))": "",
}


@pytest.mark.parametrize("column", KINDS)
@pytest.mark.parametrize("name", ["x", "weight"])
def test_a24_columns_that_are_no_numbers_are_refused(column, name, tmp_path):
    write(tmp_path / "a.root", branches())
    body = f'made = {{"weight": events.w, "x": events.w}}\n        return {{**made, "{name}": {column}}}'
    (tmp_path / "odd.py").write_text(
        ANALYSIS.replace(
            "def columns(self, events, dataset):", f"def columns(self, events, dataset):\n        {body}"
        )
    )
    analysis = contract.load(f"{tmp_path}/odd.py:Ties")
    file = SourceFile("signal", f"{tmp_path}/a.root")
    with pytest.raises(
        InputError, match=rf"'signal'.*column '{name}' is no rectangular array of numbers.*{KINDS[column]}"
    ):
        read_events(file, analysis, held_out_fraction=0.0)


SIZES = {"signal": 1.0, "a": 2e-44, "b": 1e-46, "c": 1e-140, "d": 1e100}


def test_a22_tiny_weights_are_kept(tmp_path):
    run, files = run_of(tmp_path, **{n: branches(w=np.full(900, size)) for n, size in SIZES.items()})
    assert [store.read_columns(path, TRAIN)["weight"][0] for _, path in files] == list(SIZES.values())
    for widths in (EXACT, widths_at(run, 0)):
        found = templates(run, files, widths=widths)
        for channel in ("double", "bins_single"):
            (one, *_), size = found.yields[channel], np.array(list(SIZES.values()))[:, None]
            np.testing.assert_allclose(found.yields[channel][:, 0], size * one, rtol=1e-12)
            np.testing.assert_allclose(found.sumw2[channel], size**2 * found.sumw2[channel][:1], rtol=1e-12)
            assert np.all(found.sumw2[channel].sum(axis=1) > 0)


def test_a22_weights_beyond_the_precision_are_refused(tmp_path):
    run, files = run_of(tmp_path, "cluster.precision=float32", signal=branches(w=np.full(900, 1e-46)))
    with pytest.raises(InputError, match=r"'signal': the largest weight is 1e-46.*float32; use float64, or"):
        prepare_work(run, files, TRAIN)


def test_a22_squares_of_small_weights_survive_single_precision(ties, tmp_path):
    run, files = run_of(tmp_path, "cluster.precision=float32", signal=branches(w=np.full(900, 1e-25)))
    found = templates(run, files, widths=widths_at(run, 0))
    one = templates(*ties, widths=widths_at(run, 0))
    np.testing.assert_allclose(found.sumw2["double"], 1e-50 * one.sumw2["double"], rtol=1e-5)


def test_a22_values_too_small_for_their_type_are_said_to_be_0(tmp_path):
    """XLA takes them for 0 without a word."""
    tiny = np.where(np.arange(900) < 7, np.float32(1e-40), np.float32(0.5))
    run, _ = run_of(tmp_path, signal=branches(single=tiny))
    (file,) = source_files(run)
    with heard() as said:
        folds, _ = columns_of(run, file)
    assert said == ["note: 7 values of column 'single' are too small for their type and were set to 0"]
    assert np.sum(folds[TRAIN]["single"] == 0) == 7


RANDOM = np.random.default_rng(3)
WEIGHTED = {n: branches(w=RANDOM.uniform(0.2, 1.8, 900)) for n in ("signal", "background")}


@pytest.fixture(scope="module")
def weighted(tmp_path_factory):
    mc = ("model.mc_statistics=true", "objective.kind=poi_uncertainty", "channels={double: {}, below: {}}")
    return run_of(tmp_path_factory.mktemp("weighted"), *mc, **WEIGHTED)


def test_a4_replicas_are_of_the_same_model(weighted):
    """sumw2 of a replica is sum n w^2, so its mean is that of the events, and the objective's is the nominal one."""
    run, files = weighted
    work = prepare_work(run, files, TRAIN)
    start = initial_parameters(run)
    objective = centre(run, work.axes)
    nominal = forward(InProcess(), work, start, EXACT)
    replicas = [forward(InProcess(), work, start, EXACT, replica=n) for n in range(100)]
    for kind in ("yields", "sumw2"):
        found = np.array([getattr(r, kind)["double"] for r in replicas])
        error = found.std(axis=0) / np.sqrt(len(replicas))
        assert np.all(np.abs(found.mean(axis=0) - getattr(nominal, kind)["double"]) < 4 * error + 1e-12)
    values = np.array([objective(replica, start)[0] for replica in replicas[:30]])
    error = values.std() / np.sqrt(len(values))
    assert abs(values.mean() - objective(nominal, start)[0]) < 4 * error
    assert error < 0.01 * values.mean()


def test_a4_replicas_do_not_depend_on_chunks_or_groups(weighted):
    run, files = weighted
    expected = templates(run, files, replica=5)
    for changes in ({"chunk_events": 64}, {"chunk_events": 100, "group_events": 1}):
        cluster = run.cluster.model_copy(update=changes)
        found = templates(run.model_copy(update={"cluster": cluster}), files, replica=5)
        for channel in ("double", "below"):
            np.testing.assert_allclose(found.yields[channel], expected.yields[channel], rtol=1e-13)
            np.testing.assert_allclose(found.sumw2[channel], expected.sumw2[channel], rtol=1e-13)


def keys(run, files):
    work = prepare_work(run, files, TRAIN)
    return {
        group.sample: np.concatenate(
            [chunk["event_number"][chunk["weight"] != 0] for chunk in cut(group, work.problem.layout)]
        )
        for group in work.groups
    }


KEPT = ANALYSIS.replace(
    "        return {", "        events = events[events.double > 0.55]\n        return {", 1
)
NUMBERED = KEPT.replace('{"weight"', '{"event_number": events.event_number, "weight"', 1)


@pytest.mark.parametrize(("text", "shared"), [(ANALYSIS, 900), (NUMBERED, 400), (KEPT, 0)])
def test_a4_copies_of_a_file_share_the_number_of_an_event(text, shared, weighted, tmp_path):
    """Under another name, and by another selection that returns event_number; of a row's place nothing is known."""
    original = keys(*weighted)
    assert len(set(original["signal"]) | set(original["background"])) == 1800
    path = next(file.path for file in source_files(weighted[0]) if file.sample == "signal")
    copy = keys(*run_of(tmp_path, analysis=text, signal=path))["signal"]
    assert len(set(copy)) == (900 if text == ANALYSIS else 400)
    assert len(set(copy) & set(original["signal"])) == shared


def jagged(*objects, **fields):
    array = ak.values_astype(ak.Array(list(objects)), np.float32)
    return ak.zip({**{"pt": array}, **fields}) if fields else array


def test_a13_pad_and_mask_keep_the_type_of_their_array():
    for kind in (np.float32, np.float64, np.int8, np.int64, np.uint64, bool):
        array = ak.values_astype(ak.Array([[1, 0], [], [1]]), kind)
        assert pad(array, 2).dtype == mask(array, 2).dtype == kind
        assert mask(array, 2).tolist() == [[1, 1], [0, 0], [1, 0]]
    assert pad(ak.Array([[2**53 + 1], []]), 1, fill=-1).tolist() == [[2**53 + 1], [-1]]
    assert pad(ak.mask(jagged([1, 2]), [True]), 2).tolist() == [[1, 2]]  # nothing is missing


UNSUITABLE = {
    "objects None": (ak.mask(jagged([1, 2]), [[True, False]]), "is masked: 1 objects are None.*ak.drop_none"),
    "events None": (ak.mask(jagged([1, 2], []), [True, False]), "is masked: 1 events are None.*ak.fill_none"),
    "two levels": (ak.Array([[[1.0], []], []]), "2 jagged levels.*ak.firsts"),
    "flat": (ak.Array([1.0, 2.0]), "array is flat.*as it is"),
    "flat NumPy": (np.ones(3), "array is flat"),
    "records": (ak.combinations(jagged([1, 2, 3]), 2), "records of 0, 1.*ak.unzip"),
    "mixed depths": (ak.concatenate([jagged([1.0]), ak.Array([5.0])]), "mixes kinds"),
    "mixed objects": (ak.Array([["a", 1]]), "takes .events..objects. numbers, not"),
    "texts": (ak.Array([["a"]]), "takes .events..objects. numbers, not"),
    "complex": (ak.Array([[1j]]), "takes .events..objects. numbers, not .*complex128"),
    "a number": (3.0, "takes .events..objects. numbers, not a float"),
    "None": (None, "takes .events..objects. numbers, not a NoneType"),
}


@pytest.mark.parametrize("function", [pad, mask])
@pytest.mark.parametrize("kind", UNSUITABLE)
def test_b_pad_of_arrays_that_it_does_not_take(kind, function):
    array, message = UNSUITABLE[kind]
    with pytest.raises(UnsuitableArray, match=f"^{function.__name__}: .*{message}"):
        function(array, 3)


@pytest.mark.parametrize("fill", [0.5, float("nan"), 2**70, "a", None, [1]])
def test_b_pad_with_a_fill_that_its_type_does_not_hold(fill):
    with pytest.raises(UnsuitableArray, match="is none of the numbers that int64 holds"):
        pad(ak.Array([[1], []]), 2, fill=fill)
    with pytest.raises(UnsuitableArray, match="is none of the numbers that float32 holds"):
        pad(jagged([1]), 2, fill=1e-60)


@pytest.mark.parametrize("objects", [0, -1, True])
def test_b_pad_to_no_number_of_objects(objects):
    with pytest.raises(UnsuitableArray, match="is no number of objects"):
        pad(jagged([1]), objects)


@pytest.mark.parametrize(
    "numbers", [np.ones(2), ak.Array([[1], [2]]), ak.Array([1, None]), ["a", "b"], np.arange(3)]
)
def test_b_random_numbers_of_what_are_no_event_numbers(numbers):
    with pytest.raises(UnsuitableArray, match=r"^normal: .*event numbers"):
        normal(numbers, jagged([1], [2]), "stream")
    if len(numbers) == 2:
        with pytest.raises(UnsuitableArray, match=r"^noise: event numbers are one whole number"):
            noise(numbers, 3)


def test_b_the_message_names_the_line(tmp_path):
    write(tmp_path / "a.root", branches())
    text = ANALYSIS.replace('{"weight"', '{"flat": pad(events.double, 3), "weight"', 1)
    (tmp_path / "flat.py").write_text(text)
    line = next(n for n, code in enumerate(text.splitlines(), 1) if "pad(events" in code)
    file = SourceFile("signal", f"{tmp_path}/a.root")
    with pytest.raises(
        InputError, match=rf"'signal': .*flat.* that is line {line} of flat.py, in columns\(\) of Ties"
    ):
        read_events(file, contract.load(f"{tmp_path}/flat.py:Ties"), held_out_fraction=0.0)


WEIGHTS = {
    "another column": ("c.replace(weight=c.other)", 1.1),
    "a constant": ("c.replace(weight=jnp.ones_like(c.weight))", None),
}


@pytest.mark.parametrize("of", WEIGHTS)
@pytest.mark.parametrize("length", [10, 64, 2048])
@pytest.mark.parametrize("absolute", [True, False])
def test_a_weight_from_another_column_is_normalised_and_counts_no_filling(of, length, absolute, tmp_path):
    """Whatever a variation takes for its weight: the sample's factor acts on it, and chunks are filled with nothing."""
    change, factor = WEIGHTS[of]
    path = write_run(tmp_path, cluster={"executor": "in_process", "chunk_events": length})
    text = (tmp_path / "tiny.py").read_text()
    text = text.replace('"x": events.x,', '"x": events.x, "other": 1.1 * events.w,')
    text = text.replace('Transform(lambda c: {"x": 1.1 * c.x})', f"Transform(lambda c: {change})")
    (tmp_path / "tiny.py").write_text("import jax.numpy as jnp\n" + text)
    overrides = [] if absolute else ["data.samples.signal.cross_section_pb=3.0"]
    run = config.load(path, overrides)
    work = prepare_work(run, write_columns(run, tmp_path / "columns"), TRAIN)
    found = forward(InProcess(), work, initial_parameters(run), EXACT).yields["all"][0, :, 0]
    group = work.groups[0]
    part = store.read_columns(Path(group.files[0].path), TRAIN)
    passing = part["x"] > 0.5
    expected = group.scale * np.sum(part["other"][passing] if factor else np.ones(passing.sum()))
    np.testing.assert_allclose(found[1], expected, rtol=1e-6)
    np.testing.assert_allclose(found[0], group.scale * np.sum(part["weight"][passing]), rtol=1e-6)
