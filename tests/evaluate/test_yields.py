"""Selected yields against sums of NumPy, those of all events against one pass over them, and what no bin counts."""

import contextlib

import awkward as ak
import contracts
import numpy as np
import pytest
from columnfiles import write_columns
from window import Window

from pipeline import Run
from pipeline import config as configuration
from pipeline.cluster import InProcess
from pipeline.evaluate.evaluation import YieldTables
from pipeline.evaluate.stage import yields
from pipeline.evaluate.yields.outside import outside
from pipeline.evaluate.yields.selected import selected, signals, yields_of
from pipeline.evaluate.yields.whole import nominal_tables, of_all_events
from pipeline.gradient.sweeps import forward
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.templates.fill import EXACT

CUT, LAST = 0.25, 0.8
SETTINGS = {
    "run": "window",
    "data": {
        "luminosity_per_pb": 2,
        "held_out_fraction": 0.3,
        "samples": {"signal": {"cross_section_pb": 50}, "background": {"cross_section_pb": 1000}},
    },
    "channels": {"all": {"edges": [0.4, 0.5, LAST], "bandwidth": {"initial": 0.05, "final": 0.02}}},
    "widths": {"cut": {"initial": 0.1, "final": 0.05}},
    "model": {"poi": "mu", "normfactors": [{"name": "mu", "samples": ["signal"], "nominal": 3}]},
    "objective": {"kind": "asimov_significance"},
    "optimise": {"epochs": 1, "epochs_per_job": 1},
    "cluster": {"executor": "in_process"},
}


def drawn(events=300):
    """One event lies at the last edge exactly."""
    rng = np.random.default_rng(3)
    jets = ak.unflatten(rng.random(3 * events).astype(np.float32), np.full(events, 3))
    x = {"signal": np.sqrt(rng.random(events)), "background": rng.random(events)}
    x["background"][7] = LAST
    return {sample: {"x": own, "jets": jets} for sample, own in x.items()}


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    """Configuration, column files and start of a run on events in memory."""
    folder = tmp_path_factory.mktemp("yields")
    with contextlib.chdir(folder):
        run = Run.of(Window, drawn(), SETTINGS, folder).config
        yield run, write_columns(run, folder), {**initial_parameters(run), "cut": np.asarray(CUT)}


@pytest.fixture
def run(request):
    return configuration.load(request.config.rootpath / "config" / "miniature.yaml")


def random_tables(run, seed):
    rng = np.random.default_rng(seed)
    shape = {channel: 4 + number for number, channel in enumerate(run.channels)}
    return YieldTables(
        yields={
            c: {s: {"nominal": tuple(rng.uniform(1, 9, n))} for s in run.data.samples}
            for c, n in shape.items()
        },
        sumw2={c: {s: tuple(rng.uniform(1, 9, n)) for s in run.data.samples} for c, n in shape.items()},
    )


def test_totals_are_numpys(run):
    tables, poi = random_tables(run, 1), run.model.poi
    (factor,) = (own for own in run.model.normfactors if own.name == poi)
    model = run.model.model_copy(update={"normfactors": (factor.model_copy(update={"nominal": 3.0}),)})
    run = run.model_copy(update={"model": model})
    found = selected(run, tables)
    of_signal = set(factor.samples)
    assert signals(run) == of_signal
    assert 0 < len(of_signal) < len(run.data.samples)
    assert set(found.channels) == set(run.regions)

    def expected(channels, samples):
        factors = {s: 3.0 if s in of_signal else 1.0 for s in samples}
        value = sum(factors[s] * np.sum(tables.yields[c][s]["nominal"]) for c in channels for s in samples)
        variance = sum(factors[s] ** 2 * np.sum(tables.sumw2[c][s]) for c in channels for s in samples)
        return value, np.sqrt(variance)

    for channels, own in [(run.regions, found.total), *(([c], own) for c, own in found.channels.items())]:
        for samples, one in [
            *(([s], own.samples[s]) for s in run.data.samples),
            (of_signal, own.signal),
            (set(run.data.samples) - of_signal, own.background),
        ]:
            np.testing.assert_allclose((one.value, one.error), expected(channels, samples), rtol=1e-12)
        assert own.signal_over_background == own.signal.value / own.background.value


def test_a_channel_that_is_not_in_the_fit_is_not_in_the_total(run):
    aside = {**run.channels, "4j2b": run.channels["4j2b"].model_copy(update={"in_fit": False})}
    found = selected(run.model_copy(update={"channels": aside}), random_tables(run, 2))
    assert [*found.channels] == ["4j1b"]
    assert found.total == found.channels["4j1b"]


def test_without_a_model_there_is_no_signal(run):
    bare = run.model_copy(update={"model": type(run.model)()})
    found = selected(bare, random_tables(run, 3)).total
    assert (found.signal, found.signal_over_background) == (None, None)
    values = [own.value for own in found.samples.values()]
    np.testing.assert_allclose(found.background.value, np.sum(values), rtol=1e-12)


def test_every_row_has_yields_and_all_events_too(run):
    tables = [random_tables(run, seed) for seed in range(5)]
    keys = [(p, f) for f in ("train", "held_out") for p in ("initial", "optimised")]
    rows = [contracts.row(*key, templates=own) for key, own in zip(keys, tables, strict=False)]
    found = yields_of(run, contracts.evaluation(rows).changed(whole={"optimised": tables[4]}))
    assert [*found["initial"]] == ["train", "held_out"]
    assert [*found["optimised"]] == ["train", "held_out", "all"]
    assert found["optimised"]["held_out"] == selected(run, tables[3])
    assert found["optimised"]["all"] == selected(run, tables[4])


def test_those_of_all_events_need_no_pass_of_their_own(window):
    run, columns, at = window
    works = {fold: prepare_work(run, columns, fold) for fold in ("train", "held_out", "all")}
    exact = {fold: forward(InProcess(), work, at, EXACT) for fold, work in works.items()}
    axes = works["train"].axes
    folds = {("initial", fold): exact[fold] for fold in ("train", "held_out")}
    found, once = of_all_events(run, columns, axes, folds)["initial"], nominal_tables(exact["all"], axes)
    one_fold = nominal_tables(exact["train"], axes)
    for sample in run.data.samples:
        here, there = found.yields["all"][sample]["nominal"], once.yields["all"][sample]["nominal"]
        np.testing.assert_allclose(here, there, rtol=1e-12)
        np.testing.assert_allclose(found.sumw2["all"][sample], once.sumw2["all"][sample], rtol=1e-12)
        assert not np.allclose(here, one_fold.yields["all"][sample]["nominal"], rtol=1e-3)
    assert of_all_events(run, columns, axes, {("initial", "train"): exact["train"]}) == {}


def test_what_no_bin_counts_is_numpys(window):
    """An event at the last edge is in the last bin."""
    run, columns, at = window
    found = yields(run, InProcess(), prepare_work(run, columns, "all"), at)
    for sample, own in drawn().items():
        x, factor = own["x"], {"signal": 100, "background": 2000}[sample] / 300
        x = x[x > CUT]
        inside, _ = np.histogram(x, [0.4, 0.5, LAST])
        beyond = found["outside"]["all"][sample]
        np.testing.assert_allclose(beyond["below"], factor * np.sum(x < 0.4), rtol=1e-12)
        np.testing.assert_allclose(beyond["above"], factor * np.sum(x > LAST), rtol=1e-12)
        np.testing.assert_allclose(found["yields"]["all"][sample]["nominal"], factor * inside, rtol=1e-12)
        assert np.sum(x < 0.4) > 0 < np.sum(x > LAST)
        scaled = {"signal": 3, "background": 1}[sample] * factor
        total = found["totals"]["total"]["samples"][sample]
        np.testing.assert_allclose(total["value"], scaled * inside.sum(), rtol=1e-12)
        np.testing.assert_allclose(total["error"], scaled * np.sqrt(inside.sum()), rtol=1e-12)


@pytest.mark.parametrize("changes", [{"overflow": True}, {"edges": (0.0, 0.5, 1.0)}], ids=str)
def test_nothing_is_outside_of_bins_for_everything(window, changes):
    run, columns, at = window
    channel = run.channels["all"].model_copy(update=changes)
    run = run.model_copy(update={"channels": {"all": channel}})
    found = outside(run, InProcess(), prepare_work(run, columns, "all"), at)
    everything = [end for own in found.get("all", {}).values() for end in (own.below, own.above)]
    assert everything == [0.0] * (0 if "overflow" in changes else 4)
