"""What an optimisation prunes: decided where it starts, kept in its states, the same bits after a restart."""

import numpy as np
import pytest
import rootfiles
from columnfiles import write_columns
from messages import heard

from pipeline import config
from pipeline.cluster import InProcess
from pipeline.data import datasets
from pipeline.gradient.loss import judge
from pipeline.gradient.work import prepare_work
from pipeline.optimise import checkpoints
from pipeline.optimise.epochs import each_epoch
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.pruning import decision_at
from pipeline.optimise.update import initial_state

pytestmark = pytest.mark.usefixtures("compiled_quickly")
EPOCHS = 4


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    """A run whose variation is worth 9 % of the yield at its start, less where the cut goes; its threshold is 5 %."""
    folder = tmp_path_factory.mktemp("pruned")
    path = rootfiles.write_run(
        folder,
        model={
            "poi": "mu",
            "normfactors": [{"name": "mu", "samples": ["signal"]}],
            "systematics": [
                {"name": "scale", "type": "NormPlusShape", "up": "x_up", "samples": ["background"]},
                {"name": "rate", "type": "Normalization", "up": 0.2, "down": -0.2, "samples": ["background"]},
            ],
            "pruning": {"normalisation": 0.05, "shape": 1e-9},
        },
        objective={"kind": "inferno"},
        optimise={"epochs": EPOCHS, "learning_rate": 0.2},
    )
    run = config.load(path)
    work = prepare_work(run, write_columns(run, folder), datasets.TRAIN)
    return run, work, judge(run, work.axes)


def epochs(pruned, state, until=EPOCHS):
    run, work, judged = pruned
    return list(each_epoch(run, InProcess(), work, state, until=until, judged=judged))


def test_a_restart_goes_on_with_the_decision_of_the_start(pruned, tmp_path):
    run, work, judged = pruned
    start = initial_state(run, initial_parameters(run))
    with heard() as lines:
        whole = epochs(pruned, start)
    assert "note: model.pruning leaves out 1 of 3 parts of systematics" in lines
    parts = whole[0][1].pruned
    assert [(part.systematic, part.part) for part in parts] == [("scale", "shape")]
    assert not any(record.pruned for _, record in whole[1:])
    last = whole[-1][0]
    now = decision_at(run, InProcess(), work, last.parameters, judged)
    assert now.gone == ("scale",)  # and yet its normalisation stays, for all epochs
    assert last.pruned.norms.sum() == 0

    state, _ = whole[1]
    checkpoints.save(tmp_path / "state.npz", state, {"kind": "epoch"})
    loaded, _ = checkpoints.load(tmp_path / "state.npz", start, {"kind": "epoch"})
    again = epochs(pruned, loaded)
    assert [record.objective for _, record in again] == [record.objective for _, record in whole[2:]]
    assert again[-1][0].parameters["cut"].tobytes() == last.parameters["cut"].tobytes()
    np.testing.assert_array_equal(again[-1][0].pruned.norms, last.pruned.norms)
    at_the_end = last._replace(epoch=0, start=start.start)
    forgetful, held = (
        epochs(pruned, own, 1) for own in (at_the_end._replace(pruned=start.pruned), at_the_end)
    )
    assert forgetful[0][1].objective < held[0][1].objective  # the decision is what makes the difference
