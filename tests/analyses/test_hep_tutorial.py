"""The two-cut analysis on real CMS simulation reaches the optimum known from a scan of hard cuts."""

import numpy as np
import pytest
from columnfiles import write_columns

from pipeline import cluster, config, optimise
from pipeline.cluster import InProcess
from pipeline.data import datasets
from pipeline.evaluate.by_pyhf.fit import pyhf_fit
from pipeline.gradient.sweeps import forward
from pipeline.gradient.work import prepare_work
from pipeline.likelihood.configured.run_workspace import workspace
from pipeline.optimise.parameters import initial_parameters
from pipeline.templates.fill import EXACT


@pytest.fixture(scope="module")
def run(shared_data, request, tmp_path_factory):
    """Configuration and column files."""
    folder = tmp_path_factory.mktemp("hep_tutorial")
    settings = config.load(
        request.config.rootpath / "config" / "hep_tutorial.yaml", ["cluster.executor=in_process"]
    )
    files = write_columns(settings, folder)
    return settings, files, prepare_work(settings, files, datasets.TRAIN)


def z_asimov(signal, background):
    return np.sqrt(2 * ((signal + background) * np.log1p(signal / background) - signal))


def counts(work, btag, ht):
    parameters = {"btag": np.float64(btag), "ht": np.float64(ht)}
    found = forward(InProcess(), work, parameters, EXACT).yields["selected"][:, 0, 0]
    by_sample = dict(zip(work.axes.samples, found, strict=True))
    signal = by_sample.pop("ww")
    return signal, sum(by_sample.values())


@pytest.mark.parametrize(
    ("btag", "ht", "signal", "background", "z"),
    [(6.0, 1500.0, 194.0, 333.5, 9.786), (-0.75, 270.0, 180.9, 142.1, 12.988)],
    ids=["no cut", "optimum of the scan"],
)
def test_hard_cuts_reproduce_the_known_yields(run, btag, ht, signal, background, z):
    s, b = counts(run[2], btag, ht)
    np.testing.assert_allclose([s, b], [signal, background], atol=0.05)
    np.testing.assert_allclose(z_asimov(s, b), z, atol=5e-4)


@pytest.mark.parametrize("start", [(5.0, 1000.0), (-0.9, 500.0), (0.0, 60.0)], ids=str)
def test_the_optimiser_reaches_the_optimum(run, tmp_path, start):
    settings, files, _ = run
    settings = settings.model_copy(update={"parameters": dict(zip(("btag", "ht"), start, strict=True))})
    assert settings.optimise.epochs <= 200
    work = prepare_work(settings, files, datasets.TRAIN)
    with cluster.executor(settings.cluster, 1, tmp_path) as executor:
        state, _ = optimise.run(
            settings, executor, work, optimise.initial_state(settings, initial_parameters(settings)),
            until=settings.optimise.epochs, checkpoints=tmp_path, fingerprint="", progress=lambda record: None,
        )  # fmt: skip
    assert z_asimov(*counts(work, **state.parameters)) >= 12.96


def test_pyhf_agrees_with_the_counting_formula(run):
    settings, _, work = run
    templates = forward(InProcess(), work, {"btag": np.float64(-0.75), "ht": np.float64(270.0)}, EXACT)
    fit = pyhf_fit(settings, workspace(templates, work.axes, settings))
    np.testing.assert_allclose(fit.objective, 12.9879, atol=1e-3)
    np.testing.assert_allclose(fit.bestfit[0], 1.0, atol=1e-3)
