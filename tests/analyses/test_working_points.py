"""Two choices at once: exact yields of all combinations, the gradient over chunks, the choice of a full scan."""

import itertools
import json

import numpy as np
import pytest
from columnfiles import write_columns
from eventloop import is_tight, loop

from pipeline import config as configuration
from pipeline import optimise
from pipeline.analysis import analysis_of
from pipeline.cluster import InProcess
from pipeline.data import datasets
from pipeline.errors import ConfigError
from pipeline.gradient.loss import centre
from pipeline.gradient.sweeps import forward, value_and_grad
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.schedule import widths_at
from pipeline.templates.fill import EXACT

pytestmark = pytest.mark.simulate
GRID = [{"tight_muon": t, "jet_30": j} for t, j in itertools.product((0.0, 1.0), (0.0, 1.0))]
UNCERTAINTIES = (
    0.3,
    0.01,
)  # muons are badly known where they are many: one choice goes up, the other one down
SYSTEMATICS = [
    {"name": "muon efficiency", "type": "NormPlusShape", "up": "muon_up", "down": "muon_down"},
    {"name": "W+jets", "type": "Normalization", "up": 0.3, "down": -0.3, "samples": ["wjets"]},
]


def load(root, manifest, uncertainties=UNCERTAINTIES):
    """The shipped analysis on the miniature's events, with few systematic uncertainties: 800 events have no shapes."""
    return configuration.load(
        root / "config" / "miniature.yaml",
        [
            "simulate=null",
            f"data.manifest={manifest}",
            "cluster.executor=in_process",
            "analysis.target=pipeline.analyses.working_points:WorkingPoints",
            f"analysis.options={{jets: 12, uncertainties: {list(uncertainties)}}}",
            "widths.tight_muon={initial: 0.5, final: 0.05}",
            "widths.jet_30={initial: 0.5, final: 0.05}",
            f"model.systematics={json.dumps(SYSTEMATICS)}",
            "optimise.epochs=12",
            "optimise.learning_rate=0.15",
            "cluster.objects={}",
        ],
    )


def at(point):
    return {name: np.float64(value) for name, value in point.items()}


@pytest.fixture(scope="module")
def run(request, simulated):
    return load(request.config.rootpath, simulated)


@pytest.fixture(scope="module")
def files(run, tmp_path_factory):
    return write_columns(run, tmp_path_factory.mktemp("columns"))


def is_medium(muon):
    return muon["mediumId"] and muon["pfRelIso04_all"] < 0.25


@pytest.mark.parametrize("point", GRID, ids=str)
def test_exact_yields_equal_an_event_loop(run, files, point):
    work = prepare_work(run, files, datasets.ALL)
    found = forward(InProcess(), work, at(point), EXACT)
    cuts = {"lepton_pt": 30.0, "btag": 0.5, "jet_pt": 30.0 if point["jet_30"] else 25.0}
    expected = loop(run, cuts, identified=is_tight if point["tight_muon"] else is_medium)
    for channel in run.channels:
        for sample in run.data.samples:
            rows = found.yields[channel]
            nominal, up, down = (rows[work.axes.row(sample, v)] for v in ("nominal", "muon_up", "muon_down"))
            np.testing.assert_allclose(nominal, expected[channel][sample], rtol=1e-9)
            np.testing.assert_allclose(up + down, 2 * nominal, rtol=1e-12)
            largest = UNCERTAINTIES[int(point["tight_muon"])] * nominal  # where all leptons are muons
            assert np.all(up - nominal <= largest * (1 + 1e-9))
            assert sample != "ttbar" or (up - nominal).sum() > 0.4 * largest.sum()
    assert sum(array.sum() for array in found.yields.values()) > 0


def test_the_looser_working_point_keeps_what_the_tighter_one_does(run, files):
    work = prepare_work(run, files, datasets.ALL)
    yields = [sum(a.sum() for a in forward(InProcess(), work, at(p), EXACT).yields.values()) for p in GRID]
    assert yields[0] > yields[2]
    assert yields[0] > yields[1] > yields[3]


@pytest.mark.slow
def test_the_gradient_is_that_of_the_whole_and_of_finite_differences(run, files):
    start, widths = at({"tight_muon": 0.4, "jet_30": 0.7}), widths_at(run, 0)
    small = run.model_copy(update={"cluster": run.cluster.model_copy(update={"chunk_events": 64})})
    steps = []
    for settings in (small, run):
        work = prepare_work(settings, files, datasets.TRAIN)
        evaluate = centre(settings, work.axes)
        steps.append(value_and_grad(InProcess(), work, start, widths, evaluate))
    chunked, whole = steps
    np.testing.assert_allclose(chunked.objective, whole.objective, rtol=1e-10)
    for name, gradient in whole.gradient.items():
        np.testing.assert_allclose(chunked.gradient[name], gradient, rtol=1e-10)
        moved = [{**start, name: start[name] + h} for h in (1e-4, -1e-4)]
        up, down = (evaluate(forward(InProcess(), work, p, widths), p)[0] for p in moved)
        np.testing.assert_allclose(gradient, (up - down) / 2e-4, rtol=1e-4)


def test_the_optimiser_chooses_as_the_scan_does(run, files, tmp_path):
    work = prepare_work(run, files, datasets.TRAIN)
    evaluate = centre(run, work.axes)
    scan = [evaluate(forward(InProcess(), work, at(point), EXACT), at(point))[0] for point in GRID]
    state, _ = optimise.run(
        run, InProcess(), work, optimise.initial_state(run, initial_parameters(run)),
        until=run.optimise.epochs, checkpoints=tmp_path, fingerprint="", progress=lambda _: None,
    )  # fmt: skip
    best = GRID[int(np.argmin(scan))]
    assert best == {"tight_muon": 1.0, "jet_30": 0.0}
    for name, value in best.items():
        np.testing.assert_allclose(state.parameters[name], value, atol=0.2)


@pytest.mark.parametrize("sizes", [[0.1], [0.1, -0.1], [0.1, 1.0]], ids=str)
def test_uncertainties_are_checked(request, simulated, sizes):
    with pytest.raises(ConfigError, match=r"analysis\.options\.uncertainties: .* are not two numbers"):
        analysis_of(load(request.config.rootpath, simulated, sizes))
