"""Mean dijet mass against the shift of the jet pt: the notebook's gradient and minimum, by NumPy and over chunks."""

import awkward as ak
import jax.numpy as jnp
import numpy as np
import pytest
import uproot
from columnfiles import write_columns
from jax.test_util import check_grads

from pipeline import config as configuration
from pipeline import optimise
from pipeline.cluster import InProcess
from pipeline.config.quantities import Mean
from pipeline.data import datasets
from pipeline.errors import ConfigError
from pipeline.evaluate.at_point import objectives_of, verdict
from pipeline.gradient.loss import centre
from pipeline.gradient.sweeps import value_and_grad
from pipeline.gradient.work import prepare_work
from pipeline.objective import Inputs, value_of
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.schedule import widths_at

GRADIENT = {"published, single precision": (-77.54979, 2e-6), "double precision": (-77.549905, 1e-8)}
STEPS = {0: -2.0, 10: -0.8747784, 20: -0.8769495, 30: -0.87695086}  # published: epoch -> alpha
MINIMUM, MEAN = -0.876951213, 74.5991852  # in double precision


def load(root, *overrides):
    return configuration.load(
        root / "config" / "dijet_mass.yaml", ["cluster.executor=in_process", *overrides]
    )


@pytest.fixture(scope="module")
def run(request, shared_data):
    """The shipped configuration."""
    return load(
        request.config.rootpath, f"data.manifest={request.config.rootpath / 'config' / 'dijet_mass.json'}"
    )


@pytest.fixture(scope="module")
def files(run, tmp_path_factory):
    return write_columns(run, tmp_path_factory.mktemp("columns"))


@pytest.fixture(scope="module")
def mean_mass(shared_data):
    """Alpha -> the mean mass of the two first jets, in NumPy."""
    with uproot.open(shared_data / "agc" / "cms_open_data_2015_wjets_200_events.root") as file:
        names = [f"Jet_{name}" for name in ("pt", "eta", "phi", "mass")]
        events = file["Events"].arrays(names)
    two = events[ak.num(events.Jet_pt) >= 2]
    pt, eta, phi, mass = (ak.to_numpy(two[name][:, :2]).astype(np.float64) for name in names)

    def at(alpha):
        moved = pt + 25 * alpha
        momentum = np.stack([moved * np.cos(phi), moved * np.sin(phi), moved * np.sinh(eta)])
        energy = np.sqrt(np.sum(momentum**2, axis=0) + mass**2)
        return np.sqrt(energy.sum(axis=1) ** 2 - np.sum(momentum.sum(axis=2) ** 2, axis=0)).mean()

    return at


def step_of(run, files, alpha, chunk_events=2048):
    """Mean and gradient over chunks of that size."""
    changed = run.cluster.model_copy(update={"chunk_events": chunk_events})
    settings = run.model_copy(update={"cluster": changed, "parameters": {"alpha": alpha}})
    work = prepare_work(settings, files, datasets.TRAIN)
    return value_and_grad(
        *(InProcess(), work, initial_parameters(settings)),
        *(widths_at(settings, 0), centre(settings, work.axes)),
    )


@pytest.mark.parametrize("source", GRADIENT)
def test_the_gradient_is_the_published_one(run, files, source):
    value, tolerance = GRADIENT[source]
    np.testing.assert_allclose(step_of(run, files, -2.0).gradient["alpha"], value, rtol=tolerance)


@pytest.mark.parametrize("alpha", [-4.0, -2.0, MINIMUM, 0.0, 3.0])
def test_chunks_numpy_and_finite_differences_agree(run, files, mean_mass, alpha):
    chunked, whole = (step_of(run, files, alpha, chunk_events=n) for n in (16, 2048))
    np.testing.assert_allclose(chunked.objective, whole.objective, rtol=1e-10)
    np.testing.assert_allclose(chunked.gradient["alpha"], whole.gradient["alpha"], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(whole.objective, mean_mass(alpha), rtol=1e-10)
    slope = (mean_mass(alpha + 1e-5) - mean_mass(alpha - 1e-5)) / 2e-5
    np.testing.assert_allclose(whole.gradient["alpha"], slope, rtol=1e-5, atol=1e-5)


def test_the_epochs_are_the_notebook_s_steps(run, files, mean_mass, tmp_path):
    work = prepare_work(run, files, datasets.TRAIN)
    state, records = optimise.run(
        run, InProcess(), work, optimise.initial_state(run, initial_parameters(run)),
        until=run.optimise.epochs, checkpoints=tmp_path, fingerprint="", progress=lambda _: None,
    )  # fmt: skip
    assert run.optimise.epochs == 50
    for epoch, alpha in STEPS.items():
        np.testing.assert_allclose(records[epoch].parameters["alpha"], alpha, rtol=2e-5)
    np.testing.assert_allclose(state.parameters["alpha"], MINIMUM, rtol=1e-9)
    found = verdict(run, InProcess(), work, state.parameters, objectives_of(run, work.axes))
    np.testing.assert_allclose([found.exact, found.relaxed], MEAN, rtol=1e-8)
    np.testing.assert_allclose(mean_mass(MINIMUM), MEAN, rtol=1e-8)
    assert found.pyhf is None
    assert found.workspace is None


def test_a_mean_is_the_ratio_of_its_sums():
    def mean(masses, events):
        sums = {"masses": masses, "events": events}
        return value_of(Mean(channel="masses", events="events"), Inputs(sums=sums))

    found = mean(jnp.asarray([12.0]), jnp.asarray([5.0]))
    assert found.value == 2.4
    assert found.converged
    assert not mean(jnp.zeros(1), jnp.zeros(1)).converged
    check_grads(
        lambda *sums: mean(*map(jnp.asarray, sums)).value,
        (jnp.array([7.0, 5.0]), jnp.array([2.0, 3.0])),
        order=2,
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "objective={kind: mean, channel: masses}",
            "'mean' needs events, the name of a channel with in_fit: false",
        ),
        (
            "objective={kind: mean, events: events}",
            "'mean' needs channel, the name of a channel with in_fit: false",
        ),
        ("objective.events=masses", r"\['events', 'masses'\], those of the objective are \['masses'\]"),
        ("objective.kind=cross_entropy", "events means nothing to 'cross_entropy', which has channel"),
    ],
)
def test_a_mean_needs_both_channels(request, override, message):
    with pytest.raises(ConfigError, match=message):
        load(request.config.rootpath, override)
