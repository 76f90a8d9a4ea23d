"""The shipped analyses of published problems: gradients over chunks, learning, what exact cuts say."""

import numpy as np
import pytest
from chunked import assert_chunks_are_the_whole
from columnfiles import write_columns
from generated import generated
from messages import heard

from pipeline import optimise, report
from pipeline.cluster import InProcess
from pipeline.data import datasets, store
from pipeline.data.run_files import provenances
from pipeline.errors import FitError
from pipeline.evaluate.at_point import objectives_of, verdict, work_of_all_models
from pipeline.evaluate.stage import all_points
from pipeline.gradient.loss import centre
from pipeline.gradient.sweeps import forward
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.schedule import widths_at

CLOUDS = ("signal", "background", "background__up", "background__down")
RUNS = {
    "inferno": ("inferno", ("signal", "background"), "[12, 5]", []),
    "inferno, derivatives": ("inferno", ("signal", "background"), "[12]", ["optimise.shifts=derivatives"]),
    "inferno, one output": ("inferno_summary", ("signal", "background"), "[12]", []),
    "inferno, one output, derivatives": (
        *("inferno_summary", ("signal", "background"), "[12]"),
        ["optimise.shifts=derivatives"],
    ),
    "neos": ("neos", CLOUDS, "[12, 5]", []),
    "neos, poi_uncertainty": ("neos", CLOUDS, "[12]", ["objective.kind=poi_uncertainty"]),
    "neos, cross-entropy": (
        *("neos", CLOUDS, "[12]"),
        ["channels.loss={in_fit: false}", "objective={kind: cross_entropy, channel: loss}"],
    ),
    "neos, cross-entropy with the variations": (
        *("neos", CLOUDS, "[12]"),
        [
            "channels.loss={in_fit: false, variations: true}",
            "objective={kind: cross_entropy, channel: loss}",
        ],
    ),
}


@pytest.fixture(params=RUNS)
def run(request, tmp_path):
    """A shipped configuration with a small network on few events."""
    name, samples, hidden, overrides = RUNS[request.param]
    path = request.config.rootpath / "config" / f"{name}.yaml"
    network = [f"analysis.options={{hidden: {hidden}}}", "data.held_out_fraction=0.5"]
    events = {sample: 400 + 100 * number for number, sample in enumerate(samples)}
    return generated(path, events, tmp_path, [*network, *overrides])


def test_the_gradient_over_chunks_is_that_of_the_whole(run, tmp_path):
    assert_chunks_are_the_whole(run, write_columns(run, tmp_path))


@pytest.mark.slow
@pytest.mark.long
def test_neos_learns_to_exclude(request, tmp_path):
    """A few epochs on few events: held-out hard bins exclude more, and pyhf agrees."""
    path = request.config.rootpath / "config" / "neos.yaml"
    short = ["analysis.options={hidden: [12]}", "optimise.learning_rate=0.02", "data.held_out_fraction=0.5"]
    run = generated(path, dict.fromkeys(CLOUDS, 4000), tmp_path, short)
    files = write_columns(run, tmp_path)
    work = prepare_work(run, files, datasets.TRAIN)
    start = initial_parameters(run)
    state, _ = optimise.run(
        run, InProcess(), work, optimise.initial_state(run, start),
        until=6, checkpoints=tmp_path / "checkpoints", fingerprint="", progress=lambda _: None,
    )  # fmt: skip
    held_out = work_of_all_models(run, files, datasets.HELD_OUT)
    objectives = objectives_of(run, held_out.axes)
    before, after = (verdict(run, InProcess(), held_out, p, objectives) for p in (start, state.parameters))
    assert after.exact < before.exact - 1  # ln CLs
    np.testing.assert_allclose(after.pyhf, after.exact, rtol=1e-4)
    np.testing.assert_allclose(after.also["uncertainty"].pyhf, after.also["uncertainty"].exact, rtol=0.1)


@pytest.mark.parametrize("varied", [False, True])
def test_a_cross_entropy_counts_the_variations_where_it_should(request, tmp_path, varied):
    """The sum of a channel outside the fit, by NumPy from the outputs of the network."""
    path = request.config.rootpath / "config" / "neos.yaml"
    loss = f"channels.loss={{in_fit: false, variations: {str(varied).lower()}}}"
    objective = "objective={kind: cross_entropy, channel: loss}"
    short = ["analysis.options={hidden: [12]}", "data.held_out_fraction=0", "cluster.precision=float64"]
    run = generated(path, dict.fromkeys(CLOUDS, 300), tmp_path, [loss, objective, *short])
    files = write_columns(run, tmp_path)
    work, start = prepare_work(run, files, datasets.TRAIN), initial_parameters(run)
    templates = forward(InProcess(), work, start, widths_at(run, 0))
    found = centre(run, work.axes)(templates, start)[0]
    expected = 0.0
    for sample, file in files:
        if sample in CLOUDS[:2] or varied:
            columns = store.read_columns(file, datasets.TRAIN)
            hidden = np.stack([columns["x"], columns["y"]], axis=1) @ start["weights_0"]
            logit = (np.maximum(hidden, 0) @ start["weights_1"])[:, 0]  # biases start at 0
            expected += np.mean(np.logaddexp(0, logit) - (sample == "signal") * logit)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.long
def test_a_start_without_a_number_does_not_end_the_run(request, tmp_path):
    """A network that has learnt nothing may put every event into one bin, which cannot tell two yields apart."""
    path = request.config.rootpath / "config" / "inferno.yaml"
    free = "{name: s, samples: [signal], nominal: 50, bounds: [0, 200]}, {name: b, samples: [background]}"
    short = ["analysis.options={hidden: [12]}", "data.held_out_fraction=0.5", f"model.normfactors=[{free}]"]
    run = generated(path, dict.fromkeys(CLOUDS[:2], 2000), tmp_path, short)
    files = write_columns(run, tmp_path)
    learnt = initial_parameters(run)
    state, records = optimise.run(
        run, InProcess(), prepare_work(run, files, datasets.TRAIN), optimise.initial_state(run, learnt),
        until=1, checkpoints=tmp_path / "checkpoints", fingerprint="", progress=lambda _: None,
    )  # fmt: skip
    one_bin = {**learnt, "biases_1": np.where(np.arange(10) == 3, 1e3, 0.0)}
    points = {"initial": one_bin, "optimised": state.parameters}
    with heard() as lines:
        found = all_points(run, InProcess(), files, points).evaluation
    numbers = {(row.point, row.fold): row.exact for row in found.rows}
    assert numbers["initial", "held_out"] is None
    assert numbers["optimised", "held_out"] > 0
    assert sum("no number, exact: objective poi_uncertainty" in line for line in lines) == 2
    page = tmp_path / "report.html"
    report.write(run, records, found, provenances(files), page=page, figures=tmp_path / "figures")
    assert "<b>none → " in page.read_text()
    assert "No number at the initial parameters, held-out events, exact: objective" in page.read_text()
    with pytest.raises(FitError, match=r"did not converge|nothing determines"):
        all_points(run, InProcess(), files, {"optimised": one_bin})
