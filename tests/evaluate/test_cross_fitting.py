"""Cross-fitting: what is judged never saw its judge, all events are in the sum, and nothing else changes a bit."""

import json

import numpy as np
import pytest
import rootfiles
from columnfiles import write_columns
from hypothesis import given
from hypothesis import strategies as st

from pipeline import cluster, config, optimise
from pipeline.analysis import EVENT_NUMBER
from pipeline.cluster import InProcess
from pipeline.data import column_file, datasets, event_random
from pipeline.data.datasets import ALL, TRAIN
from pipeline.data.fingerprint import fingerprint_of, of_optimisation
from pipeline.errors import ConfigError, InputError
from pipeline.evaluate.at_point import objectives_of
from pipeline.evaluate.cross_fitting import cross_fitted, paired, works_of_folds
from pipeline.evaluate.histograms import histograms, histograms_of
from pipeline.gradient.chunks import cut
from pipeline.gradient.sweeps import forward
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.templates.fill import EXACT

EVENTS, LUMINOSITY, CROSS_SECTION = 300, 2.0, {"signal": 20.0, "background": 90.0}
SAMPLES = [f"data.samples.{name}={{cross_section_pb: {own}}}" for name, own in CROSS_SECTION.items()]
SETTINGS = [*SAMPLES, f"data.luminosity_per_pb={LUMINOSITY}"]
STEP, MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1


def fold_of(number, folds):
    """The fold of an event, from 1, by the published hash in whole numbers of Python's own."""
    z = (number + STEP) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return (z ^ (z >> 31)) * folds // 2**64 + 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of a tiny run, an analysis and its configuration."""
    place = tmp_path_factory.mktemp("tiny")
    rootfiles.write_run(place, events=EVENTS)
    return place


def tiny(folder, *overrides):
    """The tiny run in two folds."""
    return config.load(folder / "tiny.yaml", [*SETTINGS, "data.folds=2", *overrides])


def trained(run, files, executor, fold, checkpoints, until=None):
    """The parameters of one optimisation at an epoch, the last one where none is given."""
    work = prepare_work(run, files, datasets.training(run, fold))
    state, _ = optimise.run(
        run, executor, work, optimise.initial_state(run, initial_parameters(run)),
        until=until or run.optimise.epochs, checkpoints=checkpoints,
        fingerprint=of_optimisation(fingerprint_of(run, files), fold), progress=lambda record: None,
    )  # fmt: skip
    return state.result


def all_trained(run, files, executor, folder):
    return [
        trained(run, files, executor, fold, folder / f"fold_{fold}") for fold in datasets.optimisations(run)
    ]


@pytest.fixture(scope="module")
def results(folder, tmp_path_factory):
    """The run in two folds: configuration, column files, parameters of both optimisations, evaluation."""
    run = tiny(folder, "evaluate.bootstrap=5")
    files = write_columns(run, tmp_path_factory.mktemp("columns"))
    found = all_trained(run, files, InProcess(), tmp_path_factory.mktemp("states"))
    return run, files, found, cross_fitted(run, InProcess(), files, initial_parameters(run), found)


def bits(parameters):
    return [{name: np.asarray(value).tobytes() for name, value in own.items()} for own in parameters]


def test_two_folds_are_two_runs_by_hand(folder, results, tmp_path):
    """Each optimisation is a run without folds on files of the other events; templates are NumPy's."""
    by_hand = []
    for fold in (1, 2):
        place = tmp_path / f"without_{fold}"
        place.mkdir()
        rootfiles.write_run(place, events=EVENTS)
        manifest = json.loads((place / "manifest.json").read_text())
        for sample, seed in (("signal", 0), ("background", 1)):
            given = rootfiles.arrays(EVENTS, seed)
            others = np.array([fold_of(int(n), 2) != fold for n in given["number"]])
            rootfiles.write(place / f"{sample}.root", **{name: a[others] for name, a in given.items()})
            manifest[sample]["nominal"]["files"][0]["nevts"] = int(others.sum())
        (place / "manifest.json").write_text(json.dumps(manifest))
        run = config.load(place / "tiny.yaml", [*SETTINGS, "data.held_out_fraction=0"])
        by_hand.append(
            trained(run, write_columns(run, place / "columns"), InProcess(), None, place / "states")
        )
    _, _, found, made = results
    assert bits(found) == bits(by_hand)
    assert found[0]["cut"] != found[1]["cut"]
    assert_numpys_templates(made.evaluation.at("optimised", "cross_fitted"), [own["cut"] for own in found])
    assert_numpys_templates(made.evaluation.at("initial", "cross_fitted"), [0.5, 0.5])


def assert_numpys_templates(row, cuts):
    for sample, seed in (("signal", 0), ("background", 1)):
        given = rootfiles.arrays(EVENTS, seed)
        fold = np.array([fold_of(int(n), len(cuts)) for n in given["number"]])
        weight = given["w"].astype(np.float64) * CROSS_SECTION[sample] * LUMINOSITY / EVENTS
        cut = np.array(cuts)[fold - 1]
        for variation, x in (("nominal", given["x"]), ("x_up", np.float32(1.1) * given["x"])):
            expected = weight[x > cut].sum()
            assert row.templates.yields["all"][sample][variation] == pytest.approx((expected,), rel=1e-12)
        variance = (weight[given["x"] > cut] ** 2).sum()
        assert row.templates.sumw2["all"][sample] == pytest.approx((variance,), rel=1e-12)
    assert row.events == 2 * EVENTS


def test_training_values_are_means_and_are_never_called_held_out(results):
    run, files, found, made = results
    start = initial_parameters(run)
    assert [(row.point, row.fold) for row in made.evaluation.rows] == [
        (point, fold) for fold in ("train", "cross_fitted") for point in ("initial", "optimised")
    ]
    assert set(made.workspaces) == {("initial", "cross_fitted"), ("optimised", "cross_fitted")}
    for point, parameters in (("initial", [start, start]), ("optimised", found)):
        values = []
        for fold, own in zip((1, 2), parameters, strict=True):
            work = prepare_work(run, files, datasets.training(run, fold))
            judged = objectives_of(run, work.axes).own
            values.append(judged.judge(forward(InProcess(), work, own, EXACT), own).objective)
            told = made.evaluation.folds[fold - 1]
            assert told.training[point].exact == pytest.approx(values[-1], rel=1e-12)
            assert (told.inside + told.outside, told.outside) == (2 * EVENTS, work.events)
        assert made.evaluation.at(point, "train").exact == pytest.approx(np.mean(values), rel=1e-12)
    mean = np.mean([own["cut"] for own in found])
    assert made.evaluation.points["optimised"].parameters["cut"] == pytest.approx(mean)


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=50),
    st.integers(2, 20),
)
def test_every_event_is_in_exactly_one_fold(numbers, folds):
    masks = datasets.divided(np.array(numbers), 0.0, folds)
    assert np.all(sum(mask.astype(int) for mask in masks.values()) == 1)
    for name, mask in masks.items():
        own = [fold_of(number & MASK, folds) for number, chosen in zip(numbers, mask, strict=True) if chosen]
        assert all(name == f"fold_{fold}" for fold in own)


def test_the_largest_hash_is_in_the_last_fold(monkeypatch):
    """In float64 it is 1."""
    monkeypatch.setattr(event_random, "uniform", lambda numbers: np.ones(len(numbers)))
    assert list(datasets.divided(np.arange(2), 0.0, 3)["fold_3"]) == [True, True]


@pytest.mark.parametrize("packed", ["data.max_events_per_job=37", "data.max_events_per_job=200000"])
def test_folds_do_not_depend_on_files_and_chunks(tmp_path, packed):
    rootfiles.write_run(tmp_path, files=3, events=100)
    run = config.load(tmp_path / "tiny.yaml", ["data.folds=3", packed])
    found = {}
    for _, path in write_columns(run, tmp_path / "columns"):
        content = column_file.read(path)
        for part in datasets.parts(run):
            for source, columns in column_file.read_sources(
                path, range(len(content.sources)), [part], content.content
            ):
                for number in columns[EVENT_NUMBER].tolist():
                    assert found.setdefault((source.file, number), part) == part
    assert found == {
        (str(tmp_path / name), number): f"fold_{fold_of(number, 3)}"
        for name in (f"{s}{i}.root" for s in ("signal", "background") for i in ("", 1, 2))
        for number in range(100)
    }


@pytest.mark.dask
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_no_bit(results, folder, tmp_path, workers):
    run, files, found, made = results
    many = run.cluster.model_copy(update={"executor": "local"})
    with cluster.executor(many, workers, tmp_path / "run", None) as executor:
        assert bits(all_trained(run, files, executor, tmp_path)) == bits(found)
        again = cross_fitted(run, executor, files, initial_parameters(run), found)
    assert again.evaluation.as_json() == made.evaluation.as_json()
    assert again.workspaces == made.workspaces


def test_a_restart_changes_no_bit(results, tmp_path):
    run, files, found, _ = results
    for fold, expected in zip((1, 2), found, strict=True):
        trained(run, files, InProcess(), fold, tmp_path / f"{fold}", until=1)
        assert bits([trained(run, files, InProcess(), fold, tmp_path / f"{fold}")]) == bits([expected])


def test_the_state_of_one_fold_is_none_of_another(results, tmp_path):
    run, files, found, _ = results
    fingerprint = fingerprint_of(run, files)
    state = optimise.initial_state(run, found[0])._replace(epoch=1)
    optimise.save(tmp_path / "block.npz", state, of_optimisation(fingerprint, 1), [], 1)
    optimise.load(tmp_path / "block.npz", run, found[0], of_optimisation(fingerprint, 1), 1)
    with pytest.raises(InputError, match="belongs to another configuration, analysis or data set"):
        optimise.load(tmp_path / "block.npz", run, found[0], of_optimisation(fingerprint, 2), 1)


BINNED = 'return {"all": Observation(weight=c.weight * relax.greater(c.x, p.cut), value=c.x)}'
EDGES = [
    "channels.all={edges: [0.0, 0.3, 0.7, 1.0], free_edges: {smallest: 0.05}}",
    "channels.all.bandwidth={initial: 0.1, final: 0.1}",
]


def test_bins_are_added_one_by_one_whatever_their_edges(folder, tmp_path):
    target = rootfiles.write_analysis(tmp_path, "binned.py", observe=BINNED)
    run = tiny(folder, f"analysis.target={target}", *EDGES)
    files, start = write_columns(run, tmp_path / "columns"), initial_parameters(run)
    (free,) = (name for name, array in start.items() if np.ndim(array))
    shift = np.array([0.0, 0.4, -0.3])
    found = [start, {**start, free: start[free] + shift}]
    made = cross_fitted(run, InProcess(), files, start, found).evaluation
    edges = [np.array(own.optimised.edges["all"]) for own in made.folds]
    assert np.abs(edges[0] - edges[1])[1:-1].min() > 0.01
    np.testing.assert_allclose(made.points["optimised"].edges["all"], np.mean(edges, axis=0))
    row, expected = made.at("optimised", "cross_fitted"), {}
    for sample, seed in (("signal", 0), ("background", 1)):
        given = rootfiles.arrays(EVENTS, seed)
        weight = given["w"].astype(np.float64) * CROSS_SECTION[sample] * LUMINOSITY / EVENTS
        fold = np.array([fold_of(int(n), 2) for n in given["number"]])
        expected[sample] = sum(
            np.histogram(given["x"][chosen], own, weights=weight[chosen])[0]
            for number, own in enumerate(edges, start=1)
            for chosen in [(fold == number) & (given["x"] > 0.5)]
        )
        np.testing.assert_allclose(
            row.templates.yields["all"][sample]["nominal"], expected[sample], rtol=1e-12
        )
    shown = histograms_of(run, InProcess(), paired(works_of_folds(run, files), found))["all_signal"]
    np.testing.assert_allclose(shown["contents"][1:-1], expected["signal"], rtol=1e-12)
    np.testing.assert_allclose(shown["edges"], np.mean(edges, axis=0))


@pytest.mark.parametrize("folds", [2, 3, 7])
def test_with_the_same_parameters_it_is_the_sum_over_all_events(folder, tmp_path, folds):
    run = tiny(folder, f"data.folds={folds}", "model.pseudodata={background: 1.0, signal: 0.5}")
    files, start = write_columns(run, tmp_path), initial_parameters(run)
    made = cross_fitted(run, InProcess(), files, start, [start] * folds)
    whole = prepare_work(run, files, ALL)
    expected = forward(InProcess(), whole, start, EXACT)
    row = made.evaluation.at("optimised", "cross_fitted")
    for sample in run.data.samples:
        for variation in ("nominal", "x_up"):
            np.testing.assert_allclose(
                row.templates.yields["all"][sample][variation],
                expected.yields["all"][whole.axes.row(sample, variation)],
                rtol=1e-13,
            )
    assert row.exact == made.evaluation.at("initial", "cross_fitted").exact
    assert row.exact == pytest.approx(
        objectives_of(run, whole.axes).own.judge(expected, start).objective, rel=1e-12
    )
    assert {f"{point}_pseudodata" for point, name in made.workspaces if name == "pseudodata"} == {
        "initial_pseudodata", "optimised_pseudodata",
    }  # fmt: skip
    in_pieces = histograms_of(run, InProcess(), paired(works_of_folds(run, files), [start] * folds))
    for name, histogram in histograms(run, InProcess(), whole, start).items():
        np.testing.assert_allclose(in_pieces[name]["contents"], histogram["contents"], rtol=1e-13)


def test_absolute_weights_are_those_of_all_events(tmp_path):
    """A sample without a cross-section: the folds together are its own weights, whatever is in each."""
    rootfiles.write_run(tmp_path)
    run = config.load(tmp_path / "tiny.yaml", ["data.folds=3"])
    works = works_of_folds(run, write_columns(run, tmp_path / "columns"))
    assert {group.scale for work in works for group in work.groups} == {1.0}


FEW_KEPT = """
kept = events[events.x > 0.5]
return {"weight": kept.w, "x": kept.x}
"""


def test_a_bootstrap_of_events_without_numbers_takes_no_two_for_one(tmp_path):
    """Their places among those kept are numbers in all folds."""
    rootfiles.write_run(tmp_path)
    target = rootfiles.write_analysis(tmp_path, "few.py", columns=FEW_KEPT)
    run = config.load(tmp_path / "tiny.yaml", ["data.folds=3", f"analysis.target={target}"])
    works = works_of_folds(run, write_columns(run, tmp_path / "columns"))
    keys = [
        key
        for work in works
        for group in work.groups
        for chunk in cut(group, work.problem.layout)
        for key in np.unique(chunk[EVENT_NUMBER]).tolist()
    ]
    assert len(set(keys)) == len(keys) == sum(work.events for work in works)


NETWORK = """
import jax
import jax.numpy as jnp
from pipeline.analysis import Analysis, FlatTree
from pipeline.columns import pad
from pipeline.containers import Observation


class Memorising(Analysis):
    parameters = {}
    reads = FlatTree(tree="events", branches=("features",), event="number")

    def columns(self, events, dataset):
        return {"weight": 0 * events.features[:, 0] + 1.0, "features": pad(events.features, 12)}

    def init(self, key):
        first, second = jax.random.split(key)
        return {
            "first": jax.random.normal(first, (12, 24)) / 12**0.5,
            "bias": jnp.zeros(24),
            "second": jax.random.normal(second, (24,)) / 24**0.5,
        }

    def observe(self, p, c, relax):
        hidden = jnp.tanh(jnp.matmul(c.features, p.first) + p.bias[None, :])
        return {"all": Observation(weight=c.weight, value=jax.nn.sigmoid(jnp.matmul(hidden, p.second)))}
"""


def write_features(path, shift, events, seed):
    """Twelve normal features, of which one tells signal from background, a little."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(events, 12)).astype(np.float32)
    features[:, 0] += shift
    import awkward as ak  # noqa: PLC0415
    import uproot  # noqa: PLC0415

    with uproot.recreate(path) as file:
        content = {"number": np.arange(events), "features": ak.from_regular(ak.from_numpy(features))}
        file.mktree("events", {"number": np.dtype(np.int64), "features": "var * float32"})
        file["events"].extend(content)


def network_run(folder, events, seed, *overrides):
    """A run of the network on files of so many events."""
    folder.mkdir()
    rootfiles.write_run(folder, events=events)
    (folder / "network.py").write_text(NETWORK)
    for sample, shift in (("signal", 0.7), ("background", 0.0)):
        write_features(folder / f"{sample}.root", shift, events, seed + (sample == "signal"))
    return config.load(
        folder / "tiny.yaml",
        [
            "data.samples.signal={cross_section_pb: 40}",
            "data.samples.background={cross_section_pb: 400}",
            f"analysis.target={folder}/network.py:Memorising",
            "channels.all={edges: [0, 0.2, 0.4, 0.6, 0.8, 1.0], bandwidth: {initial: 0.1, final: 0.05}}",
            "widths={}",
            "model.systematics=[]",
            "model.mc_statistics=false",
            "objective={kind: poi_uncertainty}",
            *overrides,
        ],
    )


@pytest.mark.slow
@pytest.mark.long
def test_an_overtrained_network_is_worth_on_fresh_events_what_cross_fitting_says(tmp_path):
    training = ["optimise.epochs=60", "optimise.epochs_per_job=60", "optimise.learning_rate=0.03"]
    run = network_run(tmp_path / "few", 200, 1, "data.folds=3", "evaluate.bootstrap=40", *training)
    files = write_columns(run, tmp_path / "few" / "columns")
    start = initial_parameters(run)
    found = all_trained(run, files, InProcess(), tmp_path / "states")
    evaluation = cross_fitted(run, InProcess(), files, start, found).evaluation
    error = np.std(evaluation.bootstrap.values["optimised"], ddof=1)
    unseen = network_run(tmp_path / "many", 20_000, 100, "data.held_out_fraction=0", *training)
    work = prepare_work(unseen, write_columns(unseen, tmp_path / "many" / "columns"), TRAIN)
    inside = np.array([own.inside for own in evaluation.folds]) / (2 * 200)
    fresh = [forward(InProcess(), work, own, EXACT) for own in found]
    mixed = type(fresh[0])(
        {"all": sum(share * own.yields["all"] for share, own in zip(inside, fresh, strict=True))},
        {"all": fresh[0].sumw2["all"]},
    )
    truth = objectives_of(unseen, work.axes).own.judge(mixed, start).objective
    judged, seen = (evaluation.at("optimised", fold).exact for fold in ("cross_fitted", "train"))
    print(f"fresh {truth:.3f}, cross-fitted {judged:.3f} +- {error:.3f}, training {seen:.3f}")
    assert abs(judged - truth) < 3 * error
    assert truth - seen > 5 * error


def test_folds_and_a_held_out_share_exclude_each_other(folder):
    assert tiny(folder).data.held_out_fraction == 0
    assert config.load(folder / "tiny.yaml").data.held_out_fraction == 0.5
    with pytest.raises(
        ConfigError, match=r"folds: 2 and held_out_fraction: 0\.5 exclude each other.*set it to 0"
    ):
        tiny(folder, "data.held_out_fraction=0.5")
    assert tiny(folder, "data.held_out_fraction=0").data.folds == 2


def test_what_is_no_fold_is_refused_with_those_there_are(folder):
    run, plain = tiny(folder), config.load(folder / "tiny.yaml")
    with pytest.raises(ConfigError, match="no fold 'train'; choose from all, fold_1, fold_2"):
        datasets.chosen(run, TRAIN)
    with pytest.raises(
        ConfigError, match="--fold 3: run 'tiny' has the folds 1 to 2: one for each; name one of"
    ):
        datasets.training(run, 3)
    with pytest.raises(ConfigError, match="--fold is missing: run 'tiny' has the folds 1 to 2"):
        datasets.training(run, None)
    with pytest.raises(ConfigError, match=r"--fold 1: run 'tiny' has no data\.folds.*leave the option out"):
        datasets.training(plain, 1)


def test_a_fold_without_events_names_the_key(folder, tmp_path):
    run = tiny(folder, "data.folds=100")
    files = write_columns(run, tmp_path)
    filled = {fold_of(number, 100) for number in range(EVENTS)}
    empty = next(fold for fold in range(1, 101) if fold not in filled)
    with pytest.raises(InputError, match=rf"no event in fold 'fold_{empty}'; see data\.folds"):
        prepare_work(run, files, f"fold_{empty}")
