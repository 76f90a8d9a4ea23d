"""INFERNO's problem: its floor, its templates against NumPy, its gradient over chunks; learning pays."""

import jax
import numpy as np
import pytest
from columnfiles import write_columns
from generated import generated

from pipeline import optimise
from pipeline.analyses import inferno
from pipeline.analysis import analysis_of
from pipeline.cluster import InProcess
from pipeline.containers import Columns
from pipeline.data import datasets, store
from pipeline.evaluate.at_point import objectives_of, verdict, work_of_all_models
from pipeline.gradient.sweeps import forward
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.schedule import widths_at
from pipeline.templates.fill import EXACT, Recipe, fill

EVENTS = 3000
SIZES = {"signal": EVENTS, "background": EVENTS}


@pytest.fixture(scope="module")
def run(request, tmp_path_factory):
    """The shipped configuration on few events, its files made."""
    path = request.config.rootpath / "config" / "inferno.yaml"
    fast = ["data.held_out_fraction=0.5", "analysis.options={hidden: [12]}", "optimise.learning_rate=0.05"]
    return generated(path, SIZES, tmp_path_factory.mktemp("inferno"), fast)


@pytest.fixture(scope="module")
def files(run, tmp_path_factory):
    return write_columns(run, tmp_path_factory.mktemp("columns"))


def test_the_floor_of_the_paper():
    """The Fisher matrix of the densities themselves, by Monte Carlo: no analysis can know more."""
    published = [14.71, 15.52, 15.65, 15.62, 16.89]
    np.testing.assert_allclose(inferno.floor(400_000, seed=1), published, rtol=0.01)


def test_hard_bins_are_those_of_numpy(run, files):
    work = work_of_all_models(run, files, datasets.HELD_OUT)
    start = initial_parameters(run)
    found = forward(InProcess(), work, start, EXACT).yields["bins"]
    for name, scale in (("signal", 1.0), ("background", 1000.0)):
        events = read(files, name)
        number = len(events["x0"])
        for variation, change in {
            "nominal": {},
            "r_up": {"x0": events["x0"] + np.float32(0.2)},
            "lambda_prior_down": {"x2": events["x2"] * np.float32(3.0 / 2.0)},
        }.items():
            if name == "signal" and variation != "nominal":
                assert not found[work.axes.row(name, variation)].any()
                continue
            counts = np.bincount(bins_of({**events, **change}, start), minlength=10)
            np.testing.assert_allclose(
                found[work.axes.row(name, variation)],
                counts * scale / number,
                rtol=1e-6,
                atol=1.01 * scale / number,
            )


def read(files, sample):
    """Held-out columns of a sample."""
    path = next(path for name, path in files if name == sample)
    return store.read_columns(path, datasets.HELD_OUT)


def bins_of(events, p):
    """Argmax of the network's outputs, in NumPy."""
    values = np.stack([events[n] for n in ("x0", "x1", "x2")], axis=1).astype(np.float32)
    hidden = np.maximum(values @ p["weights_0"].astype(np.float32) + p["biases_0"].astype(np.float32), 0)
    return np.argmax(hidden @ p["weights_1"].astype(np.float32) + p["biases_1"].astype(np.float32), axis=1)


def test_derivatives_are_those_of_the_templates(run, files):
    """The row of a shift is the nominal one plus the slope of the templates in its size."""
    work = prepare_work(run, files, datasets.TRAIN)
    found, start = analysis_of(run), initial_parameters(run)
    events = {n: np.asarray(a, dtype=np.float64) for n, a in read(files, "background").items()}
    columns = columns_of(events)
    names = ("r_up", "r_down", "lambda_up")
    recipe = Recipe(found, work.problem.binnings, names, linear=True)
    nominal, up, down, rate_up = fill(recipe, start, columns, widths_at(run, 0)).yields["bins"]
    np.testing.assert_allclose(up + down, 2 * nominal, rtol=1e-12)
    h = 1e-4
    for row, shift in ((up, "r"), (rate_up, "lambda")):
        moved = [
            fill(
                recipe._replace(variations=()),
                start,
                columns.replace(**found.variations()[f"{shift}_up"].change(columns, s * h)),
                widths_at(run, 0),
            )
            for s in (1.0, -1.0)
        ]
        slope = (moved[0].yields["bins"][0] - moved[1].yields["bins"][0]) / (2 * h)
        np.testing.assert_allclose(row - nominal, slope, rtol=1e-4, atol=1e-5 * float(nominal.max()))
    hard = [
        fill(recipe._replace(linear=flag), start, columns, EXACT).yields["bins"] for flag in (True, False)
    ]
    np.testing.assert_array_equal(*hard)


def columns_of(events):
    """Columns of all events."""
    return Columns({name: jax.numpy.asarray(array) for name, array in events.items()})


@pytest.mark.slow
@pytest.mark.long
def test_learning_pays_and_every_model_judges(run, files, tmp_path):
    """A few epochs; the benchmark without constraints has no number of pyhf's, those with have."""
    short = run.model_copy(update={"optimise": run.optimise.model_copy(update={"epochs": 12})})
    work = prepare_work(short, files, datasets.TRAIN)
    start = initial_parameters(short)
    state, _ = optimise.run(
        short, InProcess(), work, optimise.initial_state(short, start),
        until=12, checkpoints=tmp_path, fingerprint="", progress=lambda _: None,
    )  # fmt: skip
    held_out = work_of_all_models(short, files, datasets.HELD_OUT)
    objectives = objectives_of(short, held_out.axes)
    before, after = (verdict(short, InProcess(), held_out, p, objectives) for p in (start, state.parameters))
    assert after.relaxed < 0.95 * before.relaxed
    assert after.pyhf is None
    assert after.workspace is None
    numbers = after.also
    assert numbers["benchmark_2"].exact == after.exact
    exact = [numbers[f"benchmark_{n}"].exact for n in range(5)]
    assert exact[0] < exact[1] < exact[2]
    assert exact[0] < exact[3] < exact[4]
    assert [numbers[f"benchmark_{n}"].pyhf is None for n in range(5)] == [False, True, True, False, False]
