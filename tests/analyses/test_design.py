"""Instruments in place of cuts: an analysis's own figure of merit, and the shipped designs against other numbers."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import tomography
import uproot
from chunked import assert_chunks_are_the_whole
from columnfiles import write_columns
from generated import generated
from messages import heard

from pipeline import config as configuration
from pipeline import optimise
from pipeline.analyses import calorimeter, ladle_furnace, ladle_muons, planes, scattering
from pipeline.analysis import analysis_of
from pipeline.cluster import InProcess
from pipeline.data import datasets, store
from pipeline.errors import AnalysisError, ConfigError
from pipeline.evaluate.stage import all_points
from pipeline.gradient.loss import centre
from pipeline.gradient.sweeps import forward, value_and_grad
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.schedule import widths_at
from pipeline.templates.fill import EXACT

CHOSEN = {
    "planes": ("z_1", "z_4"),
    "calorimeter": ("front", "others", "window"),
    "ladle_furnace": ("x_1", "z_2", "share_5"),
    "tracker": ("radius_0", "radius_2", "radius_4"),
}
EVENTS = {
    "planes": {"tracks": 3000},
    "calorimeter": {"photons": 3000},
    "ladle_furnace": {"ladles": 32},
    "tracker": {"tracks": 300},
}


def made(request, tmp_path, name, *overrides, events=None):
    """A shipped configuration on few events, in double precision: the run, its column files."""
    path = request.config.rootpath / "config" / f"{name}.yaml"
    run = generated(path, events or EVENTS[name], tmp_path, ["cluster.precision=float64", *overrides])
    return run, write_columns(run, tmp_path)


def optimised(run, files, tmp_path):
    """Parameters after all epochs, and the exact number there on the training events."""
    work = prepare_work(run, files, datasets.TRAIN)
    state, _ = optimise.run(
        run, InProcess(), work, optimise.initial_state(run, initial_parameters(run)),
        until=run.optimise.epochs, checkpoints=tmp_path / "checkpoints", fingerprint="", progress=lambda _: None,
    )  # fmt: skip
    return state.parameters, exact(run, work, state.parameters)


def exact(run, work, parameters):
    return centre(run, work.axes)(forward(InProcess(), work, parameters, EXACT), parameters)[0]


@pytest.mark.parametrize("name", EVENTS)
def test_the_gradient_over_chunks_is_that_of_the_whole(request, tmp_path, name):
    small, large = (4, 32) if name == "ladle_furnace" else (64, 4096)
    assert_chunks_are_the_whole(*made(request, tmp_path, name), small=small, large=large)


@pytest.mark.parametrize("name", EVENTS)
def test_the_gradient_is_that_of_finite_differences(request, tmp_path, name):
    """Through the sums, and, where a parameter has a price, past them."""
    run, files = made(request, tmp_path, name)
    work, widths = prepare_work(run, files, datasets.TRAIN), widths_at(run, 0)
    evaluate = centre(run, work.axes)
    start = initial_parameters(run)
    free = analysis_of(run).parameters
    inside = {n: 0.9 * v + 0.1 * np.mean(free[n].bounds) for n, v in start.items()}  # not at a bound
    gradient = value_and_grad(InProcess(), work, inside, widths, evaluate).gradient
    for parameter in CHOSEN[name]:
        h = 1e-7 * (free[parameter].bounds[1] - free[parameter].bounds[0])
        moved = [{**inside, parameter: inside[parameter] + sign * h} for sign in (+1, -1)]
        up, down = (evaluate(forward(InProcess(), work, p, widths), p)[0] for p in moved)
        np.testing.assert_allclose(gradient[parameter], (up - down) / (2 * h), rtol=1e-3, err_msg=parameter)


def test_half_of_the_planes_end_at_either_end(request, tmp_path):
    run, files = made(request, tmp_path, "planes")
    work = prepare_work(run, files, datasets.TRAIN)
    found, number = optimised(run, files, tmp_path)
    ratio = exact(run, work, initial_parameters(run)) / number
    np.testing.assert_allclose(ratio, math.sqrt(3 * 5 / 7), rtol=1e-3)
    assert sorted(round(float(z), 2) for z in found.values()) == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("radiation_lengths", [1e-4, 7e-3])
def test_planes_that_scatter_end_where_a_grid_says(request, tmp_path, radiation_lengths):
    options = f"analysis.options={{radiation_lengths: {radiation_lengths}}}"
    run, files = made(request, tmp_path, "planes", options)
    found, number = optimised(run, files, tmp_path)
    train = [store.read_columns(file, datasets.TRAIN) for _, file in files]
    width = jnp.asarray(np.sort(np.concatenate([columns["width"] for columns in train]))[::10].astype(float))
    merit = jax.jit(lambda z: 1e6 * jnp.exp(jnp.mean(jnp.log(planes.slope_weights(z, width)[1])) / 2))
    grid = itertools.combinations_with_replacement(np.linspace(0, 1, 6), planes.PLANES)
    best = min(float(merit(jnp.asarray(z))) for z in grid if z[0] < z[-1])
    ours = float(merit(jnp.asarray(sorted(found.values()))))
    assert ours <= 1.01 * best
    np.testing.assert_allclose(ours, number, rtol=0.02)  # a tenth of the tracks


def test_the_fit_knows_its_own_error(request, tmp_path):
    """Pulls of the slope, and the covariance of the positions by brute force."""
    run, files = made(request, tmp_path, "planes", "analysis.options={radiation_lengths: 0.007}")
    work = prepare_work(run, files, datasets.ALL)
    templates = forward(InProcess(), work, initial_parameters(run), EXACT)
    pulls, number = (templates.yields[channel].sum() for channel in ("pulls", "tracks"))
    assert abs(pulls / number - 1) < 5 * math.sqrt(2 / number)
    z, width = np.array([0.0, 0.3, 0.1, 0.9]), 2e-4
    kicks = np.random.default_rng(1).normal(size=(200_000, 4))
    moved = width * kicks @ np.maximum(z[:, None] - z[None], 0.0).T
    noiseless = planes.covariance(jnp.asarray(z), jnp.asarray([width]))[0] - planes.RESOLUTION**2 * np.eye(4)
    np.testing.assert_allclose(np.cov(moved.T), noiseless, rtol=0.02, atol=1e-12)


def calorimeter_in_numpy(columns, front, others, window):
    """Sums of the response and its square by energy, with hard windows."""
    depth = np.concatenate([[0.0], front + others * np.arange(5)])
    contained = scipy.special.gammainc(columns["alpha"][:, None], columns["beta"][:, None] * depth)
    deposit = columns["energy"][:, None] * np.diff(contained, axis=1)
    root = np.sqrt(np.maximum(deposit, 1e-3))
    late = np.abs(columns["time"]) * 50.0 / root >= window
    particles = 2.0 * (np.exp(-depth[:-1] / 8) - np.exp(-depth[1:] / 8)) * 2 * window / 1000
    measured = np.where(late, 0.0, deposit + root * columns["light"] / 10)
    background = np.sqrt(0.1 * particles) * columns["background"]
    response = (measured + background).sum(axis=1) / columns["energy"]
    return [columns["of_energy"].T @ response**power for power in (0, 1, 2)]


def test_exact_calorimeter_is_numpy_and_its_optimum_that_of_a_grid(request, tmp_path):
    run, files = made(request, tmp_path, "calorimeter")
    work = prepare_work(run, files, datasets.TRAIN)
    columns = {
        name: np.concatenate([store.read_columns(file, datasets.TRAIN)[name] for _, file in files])
        for name in ("alpha", "beta", "energy", "of_energy", *calorimeter.KINDS)
    }
    start = initial_parameters(run)
    templates = forward(InProcess(), work, start, EXACT)
    scale = templates.yields["showers"].sum() / len(columns["alpha"])
    powers = calorimeter_in_numpy(columns, **start)
    for channel, expected in zip(("showers", "responses", "squares"), powers, strict=True):
        np.testing.assert_allclose(templates.yields[channel][0, 0], scale * expected, rtol=1e-9)

    def merit(front, others, window):
        number, first, second = calorimeter_in_numpy(columns, front, others, window)
        mean = first / number
        return 100 * np.mean(np.sqrt(second / number - mean**2) / mean) + 0.05 * (front + 4 * others)

    _, ours = optimised(run, files, tmp_path)
    axes = (np.arange(3.0, 7.1, 0.5), np.arange(3.5, 6.6, 0.5), np.arange(100.0, 260.0, 20.0))
    best = min(merit(*point) for point in itertools.product(*axes))
    assert ours <= 1.01 * best
    assert merit(**start) > 1.1 * best


def test_a_deeper_calorimeter_leaks_less():
    """Without background and cost: the resolution improves with every layer's thickness."""
    branches = calorimeter.showers("photons", 20_000, np.random.default_rng(3))
    resolutions = []
    for thickness in (1.0, 2.0, 3.0, 4.0, 6.0):
        depth = calorimeter.borders(thickness, thickness)
        contained = scipy.special.gammainc(
            branches["alpha"][:, None], branches["beta"][:, None] * np.asarray(depth)
        )
        response = contained[:, -1]
        of_energy = [response[branches["which"] == energy] for energy in range(5)]
        resolutions.append([values.std() / values.mean() for values in of_energy])
    assert np.all(np.diff(resolutions, axis=0) < 0)


def test_exact_tomography_is_numpy_muon_by_muon(request, tmp_path):
    run, files = made(request, tmp_path, "ladle_furnace", "data.held_out_fraction=0", events={"ladles": 2})
    work = prepare_work(run, files, datasets.TRAIN)
    rng = np.random.default_rng(4)
    heights = [*rng.uniform(1.4, 1.8, 4), *rng.uniform(0, 0.4, 4)]
    point = {
        **{f"x_{i}": v for i, v in enumerate(rng.uniform(0.3, 0.7, 8))},
        **{f"y_{i}": v for i, v in enumerate(rng.uniform(0.3, 0.7, 8))},
        **{f"z_{i}": v for i, v in enumerate(heights)},
        **{f"share_{i}": v for i, v in enumerate(rng.uniform(-0.3, 0.3, 8))},
    }
    areas = 6 * np.exp([point[f"share_{i}"] for i in range(8)])
    areas /= np.exp([point[f"share_{i}"] for i in range(8)]).sum()
    templates = forward(InProcess(), work, {n: np.float64(v) for n, v in point.items()}, EXACT)
    columns = store.read_columns(files[0][1], datasets.TRAIN)
    for ladle in range(2):
        names = (*ladle_muons.LINES, *ladle_muons.NOISE)
        tracks = {name: columns[name][ladle].astype(np.float64) for name in names}
        panels = [np.array([point[f"{axis}_{i}"] for i in range(8)]) for axis in "xyz"]
        expected = tomography.height(tracks, *panels, np.sqrt(areas) / 2)
        found = templates.yields["predictions"][0, 0, ladle]
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.long
def test_tomography_from_the_corner(request, tmp_path):
    """A few updates of few ladles, from panels at the corner: hard panels, of the same cost, see ten times better."""
    short = ["optimise.epochs=12", "optimise.learning_rate=0.08"]
    run, files = made(request, tmp_path, "ladle_furnace", *short, events={"ladles": 48})
    work = prepare_work(run, files, datasets.TRAIN)
    before = exact(run, work, initial_parameters(run))
    found, after = optimised(run, files, tmp_path)
    assert before > 0.03
    assert after < 0.1 * before
    analysis = analysis_of(run)
    areas = analysis.areas(ladle_furnace.Parameters({n: jnp.asarray(v) for n, v in found.items()}))
    np.testing.assert_allclose(areas.sum(), 6.0, rtol=1e-9)


def test_muons_scatter_as_highland_says():
    """Behind a decimetre of liquid steel: angles of the width of the formula, positions of a third of it."""
    number = 20_000
    position = np.tile([[0.5], [0.5], [0.6]], number)
    direction = np.tile([[0.0], [0.0], [-1.0]], number)
    full = np.full(number, 1.3)
    leaving, after = ladle_muons.scattered(position, direction, full, np.random.default_rng(1))
    steps = 10 * scattering.highland(0.01 / ladle_muons.LIQUID, 5.0) ** 2
    steps += 10 * scattering.highland(0.01 / ladle_muons.STEEL, 5.0) ** 2
    np.testing.assert_allclose(after[:2].std(axis=1), math.sqrt(steps), rtol=0.03)
    np.testing.assert_allclose(leaving[2], 0.4, atol=1e-12)
    assert scattering.highland(1.0, 5.0) == 0.0136 / 5
    assert scattering.highland(0.0, 5.0) == 0


def test_weighted_lines_are_those_of_numpy():
    rng = np.random.default_rng(2)
    z, x, weight = rng.uniform(size=(3, 5))
    centre_z, mean, slope, mean_variance, slope_variance = scattering.weighted_line(
        *map(jnp.asarray, (z, x, weight))
    )
    (expected, at_0), covariance = np.polyfit(z, x, 1, w=np.sqrt(weight), cov="unscaled")
    np.testing.assert_allclose([slope, mean - slope * centre_z], [expected, at_0], rtol=1e-10)
    np.testing.assert_allclose(slope_variance, covariance[0, 0], rtol=1e-10)
    np.testing.assert_allclose(mean_variance + slope_variance * centre_z**2, covariance[1, 1], rtol=1e-10)


def test_a_ladle_is_a_row_of_muons_in_a_root_file(request, tmp_path):
    made(request, tmp_path, "ladle_furnace", events={"ladles": 8})
    with uproot.open(tmp_path / "ladles_0.root") as file:
        assert file["Events"]["noise_y7"].array(library="np").shape == (8, ladle_muons.MUONS)


def test_a_run_without_a_model_says_so_and_has_no_pyhf(request, tmp_path):
    run, files = made(request, tmp_path, "calorimeter")
    start = initial_parameters(run)
    with heard() as lines:
        found = all_points(run, InProcess(), files, {"initial": start, "optimised": start})
    assert not found.workspaces
    assert {row.pyhf for row in found.evaluation.rows} == {None}
    assert found.evaluation.objective.label == "mean resolution and cost"
    assert any("the run has no model" in line for line in lines)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "objective.kind=poi_uncertainty",
            "kind 'poi_uncertainty' and penalties need a model; add the section",
        ),
        (
            "objective={kind: merit, penalties: [{kind: mc_statistics}]}",
            "kind .merit. and penalties need a model",
        ),
        ("model={poi: mu}", "poi 'mu' is not one of the normfactors"),
        ("objective={kind: merit, mu: 1}", "mu means nothing to 'merit'"),
    ],
)
def test_what_makes_no_sense_without_a_model(request, override, message):
    with pytest.raises(ConfigError, match=message):
        configuration.load(request.config.rootpath / "config" / "calorimeter.yaml", [override])


def test_an_analysis_without_a_figure_of_merit_is_named(request, tmp_path):
    path = request.config.rootpath / "config" / "one_cut.yaml"
    overrides = ["channels={selected: {in_fit: false}}", "model={}", "objective={kind: merit}"]
    run = generated(path, {"signal": 50, "background": 50}, tmp_path, overrides)
    work = prepare_work(run, write_columns(run, tmp_path), datasets.TRAIN)
    start = initial_parameters(run)
    with pytest.raises(AnalysisError, match=r"OneCut defines no method merit\(p, sums\)"):
        exact(run, work, start)
