"""The textbook examples: exact yields, gradients over chunks, and the optimum by gradients is that of a scan."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from chunked import assert_chunks_are_the_whole
from columnfiles import write_columns
from generated import generated
from scipy import stats

from pipeline import optimise
from pipeline.analyses import counting
from pipeline.cluster import InProcess
from pipeline.data import datasets, store
from pipeline.errors import ConfigError
from pipeline.evaluate.scan import scan
from pipeline.gradient.sweeps import forward
from pipeline.gradient.work import prepare_work
from pipeline.objective import counting_significance
from pipeline.optimise.parameters import edges_at, initial_parameters
from pipeline.templates.fill import EXACT

RUNS = {
    **{law: ("counting", [f"analysis.options.uncertainty={law}"]) for law in counting.LAWS},
    "one_cut": ("one_cut", []),
    "held_cut": ("held_cut", []),
    "bin_edges": ("bin_edges", []),
    "bin_edges_shifted": ("bin_edges_shifted", []),
}
CUTS = {"one_cut": (0.1, np.linspace(0, 4, 41)), "held_cut": (0.5, np.linspace(20, 70, 101))}
EDGES = ("bin_edges", "bin_edges_shifted")
EDGE_STEP = 0.2
EVENTS = {"bin_edges": 20_000, "bin_edges_shifted": 20_000, "one_cut": 100_000, "held_cut": 100_000}


@pytest.fixture(scope="module")
def made(request, tmp_path_factory):
    """Configuration and column files by the name of the run, made once each."""
    found = {}

    def make(name, events=1000):
        if (name, events) not in found:
            config, overrides = RUNS[name]
            path = request.config.rootpath / "config" / f"{config}.yaml"
            folder = tmp_path_factory.mktemp(name)
            run = generated(path, {"signal": events, "background": events + 500}, folder, overrides)
            found[name, events] = run, write_columns(run, folder)
        return found[name, events]

    return make


def optimised(run, work, folder):
    """Parameters after the configured updates."""
    start = initial_parameters(run)
    state, _ = optimise.run(
        run, InProcess(), work, optimise.initial_state(run, start),
        until=run.optimise.epochs, checkpoints=folder, fingerprint="", progress=lambda _: None,
    )  # fmt: skip
    return state.parameters


def scanned(run, work, over):
    """The scan's results, of exact cuts."""
    return scan(run, InProcess(), work, initial_parameters(run), over)


@pytest.mark.parametrize("name", RUNS)
def test_the_gradient_over_chunks_is_that_of_the_whole(name, made):
    assert_chunks_are_the_whole(*made(name))


@pytest.mark.parametrize("law", counting.LAWS)
def test_the_bin_holds_what_the_formulas_say(law, made):
    run, files = made(law)
    work = prepare_work(run, files, datasets.HELD_OUT)
    found = forward(InProcess(), work, {"phi": np.float64(3.0)}, EXACT).yields["bin"][..., 0]
    sigma = {"steep": 1.4, "quadratic": 1.36, "steeper": 2.8}[law]
    rows = [("signal", "nominal"), ("background", "nominal")]
    rows += [("background", "background_up"), ("background", "background_down")]
    yields = [found[work.axes.row(*row)] for row in rows]
    np.testing.assert_allclose(yields, [18, 39, 39 + sigma, 39 - sigma], rtol=1e-12)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("law", counting.LAWS)
def test_the_best_trade_off_is_the_scan_s(law, made, tmp_path):
    """Near the optimum of the formula, whose background is constrained by counting; not at the best s/b, phi = 10."""
    run, files = made(law)
    work = prepare_work(run, files, datasets.TRAIN)
    step = 0.1
    best = scanned(run, work, {"phi": np.linspace(0, 10, 101).tolist()})["best"]["exact"]
    found = float(optimised(run, work, tmp_path)["phi"])
    assert abs(found - best["values"]["phi"]) <= step
    phi = jnp.linspace(0, 10, 1001)
    z = counting_significance(*counting.yields(phi, law))
    assert abs(found - phi[jnp.argmax(z)]) < 0.3


@pytest.mark.parametrize("name", CUTS)
def test_exact_cuts_count_as_numpy_does(name, made):
    run, files = made(name)
    work = prepare_work(run, files, datasets.HELD_OUT)
    cut = 43.0 if name == "held_cut" else 1.3
    found = forward(InProcess(), work, {"cut": np.float64(cut)}, EXACT).yields["selected"][:, 0, 0]
    for sample, path in files:
        x = store.read_columns(path, datasets.HELD_OUT)["x"]
        expected = run.data.samples[sample].cross_section_pb * np.mean(x > cut)
        np.testing.assert_allclose(found[work.axes.samples.index(sample)], expected, rtol=1e-9)


def densities_optimum(name):
    """The cut with the largest Z_A of infinitely many events."""
    signal, background = {
        "one_cut": (stats.norm(2, 0.5), stats.exponnorm(10, loc=0, scale=0.1)),
        "held_cut": (stats.norm(50, 5), stats.norm(40, 10)),
    }[name]
    expected = {"one_cut": (100, 1000), "held_cut": (300, 8000)}[name]
    cuts = np.linspace(*{"one_cut": (0, 4), "held_cut": (20, 70)}[name], 10_001)
    s, b = (jnp.asarray(n * of.sf(cuts)) for n, of in zip(expected, (signal, background), strict=True))
    return cuts[jnp.argmax(counting_significance(s, b))]


@pytest.mark.parametrize("name", CUTS)
def test_the_best_cut_is_the_scan_s_within_fifty_updates(name, made, tmp_path):
    run, files = made(name, EVENTS[name])
    assert run.optimise.epochs < 50
    work = prepare_work(run, files, datasets.TRAIN)
    step, cuts = CUTS[name]
    best = scanned(run, work, {"cut": cuts.tolist()})["best"]["exact"]
    found = float(optimised(run, work, tmp_path)["cut"])
    assert abs(found - best["values"]["cut"]) <= step
    assert abs(found - densities_optimum(name)) <= step


def test_exact_bins_are_numpy_s_histograms(made):
    run, files = made("bin_edges_shifted")
    work = prepare_work(run, files, datasets.HELD_OUT)
    found = forward(InProcess(), work, initial_parameters(run), EXACT).yields["x"]
    for sample, path in files:
        x = store.read_columns(path, datasets.HELD_OUT)["x"].astype(float)
        scale = run.data.samples[sample].cross_section_pb / len(x)
        shifts = (
            {"nominal": 0.0, "shift_up": 0.4, "shift_down": -0.4}
            if sample == "background"
            else {"nominal": 0}
        )
        for variation, by in shifts.items():
            expected = scale * np.histogram(x + by, [0, 1, 2, 8])[0]
            np.testing.assert_allclose(found[work.axes.row(sample, variation)], expected, atol=1.01 * scale)


@pytest.mark.long
@pytest.mark.slow
def test_the_best_edges_are_the_scan_s_and_the_uncertainty_moves_them(made, tmp_path):
    """Both inner edges within the step of the scan; the shift makes the first a border of a control region."""
    first = {}
    for name in EDGES:
        run, files = made(name, EVENTS[name])
        work = prepare_work(run, files, datasets.TRAIN)
        inner = itertools.combinations(np.arange(EDGE_STEP, 4, EDGE_STEP), 2)
        over = {"edges_x": [[0.0, float(a), float(b), 8.0] for a, b in inner]}
        best = scanned(run, work, over)["best"]["exact"]["values"]["edges_x"]
        parameters = optimised(run, work, tmp_path / name)
        found = edges_at(run, parameters)["x"]
        np.testing.assert_allclose(found, best, rtol=0, atol=EDGE_STEP)
        first[name] = found[1]
    assert first["bin_edges"] - first["bin_edges_shifted"] > 4 * EDGE_STEP


def test_an_unknown_law_is_named():
    with pytest.raises(ConfigError, match=r"analysis\.options\.uncertainty: 'step'; nearest: 'steep'"):
        counting.Counting(uncertainty="step")
