"""Made-up H->tautau: its densities, its 86 uncertainties, hard bins against NumPy, its gradient over chunks."""

import jax
import numpy as np
import pytest
from chunked import assert_chunks_are_the_whole
from columnfiles import write_columns
from generated import generated
from scipy import stats

from pipeline import config
from pipeline.analyses import tautau_events, tautau_systematics
from pipeline.analyses.tautau import Tautau
from pipeline.analyses.tautau_events import CLASSES, FEATURES
from pipeline.analysis import Shift
from pipeline.cluster import InProcess
from pipeline.containers import Columns, Parameters
from pipeline.data import datasets, store
from pipeline.gradient.sweeps import forward
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.relax import Exact
from pipeline.templates.fill import EXACT

KEPT = (
    "tau_scale_1prong_pt1",
    "met_unclustered",
    "fakes_mt_0j",
)  # of the uncertainties, where all would take long
EVENTS = 400
ALL = {name: EVENTS for name in CLASSES}


@pytest.fixture(scope="module")
def run(request, tmp_path_factory):
    """The shipped configuration on few events, with few of its uncertainties."""
    path = request.config.rootpath / "config/tautau.yaml"
    own = {s.name: s for s in config.load(path).model.systematics}
    few = [own[name].model_dump(exclude_unset=True, mode="json") for name in KEPT]
    coarse = [f"channels.{name}.edges=[0, 0.4, 1]" for name in CLASSES]
    hidden = "analysis.options={hidden: [8]}"
    return generated(
        path, ALL, tmp_path_factory.mktemp("tautau"), [f"model.systematics={few}", *coarse, hidden]
    )


@pytest.fixture(scope="module")
def files(run, tmp_path_factory):
    return write_columns(run, tmp_path_factory.mktemp("columns"))


@pytest.mark.parametrize("sample", CLASSES)
def test_densities_are_those_of_the_events(sample):
    """By SciPy's normal distribution; and the logarithms of the events are distributed like it."""
    made = tautau_events.events(sample, 20_000, np.random.default_rng(1))
    place = CLASSES.index(sample)
    for jets in (0, 1, 2):
        there = [name for name, feature in FEATURES.items() if feature.jets <= jets]
        absent = [name for name in FEATURES if name not in there]
        chosen = made["jets"] == jets
        assert not any(made[name][chosen].any() for name in absent)
        logs = np.log(np.stack([made[name][chosen] for name in there], axis=1).astype(float))
        means = [
            np.log(tautau_events.MEDIANS[n][place]) + FEATURES[n].per_jet * (jets - FEATURES[n].jets)
            for n in there
        ]
        widths = np.array([tautau_events.WIDTHS[name][place] for name in there])
        keep = [list(FEATURES).index(name) for name in there]
        correlations = tautau_events.CORRELATIONS[np.ix_(keep, keep)]
        law = stats.multivariate_normal(means, correlations * np.outer(widths, widths))
        found = tautau_events.log_densities({name: array[chosen] for name, array in made.items()})[:, place]
        expected = law.logpdf(logs) + np.log(tautau_events.JETS[sample][jets])
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
        assert abs(np.mean(chosen) - tautau_events.JETS[sample][jets]) < 0.02
        error = 5 / np.sqrt(chosen.sum())
        np.testing.assert_allclose((logs.mean(axis=0) - means) / widths, 0, atol=error)
        np.testing.assert_allclose(np.corrcoef(logs.T), correlations, atol=error)


def test_no_density_is_without_its_class():
    with pytest.raises(ValueError, match="'higgs' is none of ggH, qqH"):
        tautau_events.events("higgs", 1, np.random.default_rng(1))


@pytest.fixture
def promotion():
    """Types mix as they do in NumPy and in the sweeps."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def columns_of(arrays):
    return Columns({name: jax.numpy.asarray(array) for name, array in arrays.items()})


def test_86_uncertainties_have_an_effect_and_nothing_is_changed_by_none(request, promotion):
    """The model names each once; shifts of size 0 change nothing; factors stay near 1."""
    model = config.load(request.config.rootpath / "config/tautau.yaml").model
    shapes = [s for s in model.systematics if s.type == "NormPlusShape"]
    known = tautau_systematics.variations()
    assert [s.up for s in shapes] == list(known)
    assert len(known) == 86
    largest = dict.fromkeys(known, 0.0)
    for place, sample in enumerate(CLASSES):
        made = tautau_events.events(sample, 300, np.random.default_rng(place))
        c = columns_of({"weight": np.ones(300), "label": np.full(300, place), **made})
        factors = tautau_systematics.factors(Parameters({}), c, Exact())
        for name in [s.up for s in shapes if s.samples is None or sample in s.samples]:
            if isinstance(variation := known[name], Shift):
                same, moved = (variation.change(c, size) for size in (0.0, 1.0))
                assert all(np.allclose(a, c.arrays[n], rtol=1e-6) for n, a in same.items())
                moved.pop("met")  # the rest of the event, which may be small beside a jet
                changes = [np.abs(a - c.arrays[n]) / np.maximum(c.arrays[n], 1e-9) for n, a in moved.items()]
            else:
                changes = [np.abs(factors[variation.entry] - 1)]
            largest[name] = max(largest[name], *(float(change.max()) for change in changes))
    assert all(1e-3 < change < 0.5 for change in largest.values()), largest


def test_hard_bins_are_those_of_numpy(run, files, promotion):
    """Class by argmax of the outputs, bin by the softmax, of the nominal events, a shift and a factor."""
    work, start = prepare_work(run, files, datasets.HELD_OUT), initial_parameters(run)
    found = forward(InProcess(), work, start, EXACT).yields
    for sample, variation in (("ztt", "nominal"), ("ztt", KEPT[0]), ("ztt", KEPT[1]), ("jet_fakes", KEPT[2])):
        path = next(path for name, path in files if name == sample)
        c = columns_of(store.read_columns(path, datasets.HELD_OUT))
        weights, known = np.ones(len(c.label)), tautau_systematics.variations()
        if variation in tautau_systematics.SHIFTS:
            c = c.replace(**known[variation].change(c, 1.0))
        elif variation != "nominal":
            weights = np.asarray(known[variation].factor(Parameters({}), c, Exact())[variation])
        probabilities = softmax(start, c)
        largest = probabilities.argmax(axis=1)
        for place, name in enumerate(CLASSES):
            own = largest == place
            counts, _ = np.histogram(probabilities[own, place], [0, 0.4, 1], weights=weights[own])
            expected = counts * tautau_events.YIELDS[sample] / len(weights)
            np.testing.assert_allclose(
                found[name][work.axes.row(sample, variation)],
                expected,
                rtol=1e-5,
                atol=1.01 * tautau_events.YIELDS[sample] / len(weights),  # of an event that rounding moves
            )


def softmax(p, c):
    """The network in NumPy."""
    inputs = []
    for name, feature in FEATURES.items():
        centre = np.mean(np.log(tautau_events.MEDIANS[name]))
        values = np.asarray(c.arrays[name], dtype=float)
        there = values > 0 if feature.jets else np.ones(len(values), dtype=bool)
        inputs.append(np.where(there, (np.log(np.where(there, values, 1)) - centre) / 0.5, 0))
    inputs += [np.asarray(c.jets) > 0, np.asarray(c.jets) > 1]
    hidden = np.maximum(np.stack(inputs, axis=1).astype(float) @ p["weights_0"] + p["biases_0"], 0)
    outputs = np.exp(hidden @ p["weights_1"] + p["biases_1"])
    return outputs / outputs.sum(axis=1, keepdims=True)


@pytest.mark.slow
@pytest.mark.long
def test_the_gradient_over_chunks_is_that_of_the_whole(run, files):
    assert_chunks_are_the_whole(run, files, small=64)


def test_a_network_trained_before_is_what_it_starts_from(tmp_path):
    first = Tautau(hidden=[4]).init(jax.random.key(3))
    np.savez(tmp_path / "start.npz", **{name: np.asarray(array) for name, array in first.items()})
    again = Tautau(hidden=[4], start=tmp_path / "start.npz").init(jax.random.key(4))
    assert {name: array.shape for name, array in again.items()} == {n: a.shape for n, a in first.items()}
    for name, array in first.items():
        np.testing.assert_array_equal(again[name], array)
