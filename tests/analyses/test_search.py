"""The shipped search: its regions hold each event once at most; the limit of its first epoch is pyhf's."""

from pathlib import Path

import numpy as np
import pyhf
import pytest
from columnfiles import write_columns
from generated import generated

from pipeline import optimise
from pipeline.cluster import InProcess
from pipeline.data import column_file, datasets, store
from pipeline.data.fingerprint import fingerprint_of
from pipeline.evaluate.by_pyhf.state import minuit, pyhf_with
from pipeline.gradient.sweeps import forward
from pipeline.gradient.work import prepare_work
from pipeline.likelihood.configured.run_workspace import workspace
from pipeline.optimise.parameters import initial_parameters
from pipeline.templates.fill import EXACT

pytestmark = [pytest.mark.simulate, pytest.mark.slow, pytest.mark.usefixtures("compiled_quickly")]
CONFIG = Path(__file__).parents[2] / "config" / "search.yaml"
EVENTS = {
    "ttbar_leptonic": 1000,
    "wjets_weighted": 5000,
    "zprime_ttbar": 500,
    "single_top_t_leptonic": 500,
    "single_top_tW_leptonic": 200,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Settings and column files of a few events, all of which are optimised on."""
    folder = tmp_path_factory.mktemp("search")
    settings = generated(
        CONFIG,
        EVENTS,
        folder,
        ["data.held_out_fraction=0", "optimise.check_every=null", "optimise.values=exact"],
    )
    return settings, write_columns(settings, folder / "columns"), folder


def regions(columns):
    """Which events are in each region at the start, by NumPy."""
    c, pt = columns, np.sort(columns["jet_pt"], axis=1)
    selected = (c["lepton_pt"] > 30) & (pt[:, 3] > 35) & (pt[:, 2] > 32) & (pt[:, 0] > 30)
    met, high = np.hypot(c["met_x"], c["met_y"]) > 30, pt.sum(axis=1) > 300
    tagged = c["btag"] > 0.5
    found = {
        "signal": met & high & tagged,
        "B": met & high & ~tagged,
        "C": met & ~high & tagged,
        "D": met & ~high & ~tagged,
        "CR_top": ~met & tagged & (c["second_btag"] > 0.5),
        "CR_wjets": ~met & ~tagged,
    }
    return {name: selected & passed for name, passed in found.items()}


def test_the_regions_are_those_of_numpy_and_none_shares_an_event(run):
    settings, files, _ = run
    work = prepare_work(settings, files, datasets.ALL)
    templates = forward(InProcess(), work, initial_parameters(settings), EXACT)
    for sample, path in files:
        columns = store.read_columns(path, datasets.TRAIN, column_file.read(path).content)
        inside = regions(columns)
        assert np.all(np.sum(list(inside.values()), axis=0) <= 1)
        row = work.axes.samples.index(sample)
        own = {name: yields[row, 0].sum() for name, yields in templates.yields.items()}
        sums = {name: columns["weight"][passed].sum() for name, passed in inside.items()}
        scale = own["signal"] / sums["signal"]
        assert own == pytest.approx({name: scale * total for name, total in sums.items()}, rel=1e-6), sample


def test_the_limit_of_the_first_epoch_is_pyhfs(run):
    settings, files, folder = run
    work = prepare_work(settings, files, datasets.ALL)
    start = optimise.initial_state(settings, initial_parameters(settings))
    fingerprint = fingerprint_of(settings, files)
    state, records = optimise.run(
        settings, InProcess(), work, start, until=1, checkpoints=folder / "checkpoints",
        fingerprint=fingerprint, progress=lambda record: None,
    )  # fmt: skip
    assert [record.epoch for record in records] == [0]
    assert any(np.any(state.parameters[name] != array) for name, array in start.parameters.items())
    exact, limit = forward(InProcess(), work, start.parameters, EXACT), records[0].objective
    with pyhf_with(minuit()):
        model = pyhf.Workspace(workspace(exact, work.axes, settings)).model()
        background = list(model.config.suggested_init())
        background[model.config.poi_index] = 0.0
        _, expected = pyhf.infer.hypotest(
            float(limit), model.expected_data(background), model, return_expected_set=True
        )
    assert float(expected[2]) == pytest.approx(0.05, rel=1e-4)
