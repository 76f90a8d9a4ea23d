"""An epoch without a finite objective: the run stops there and says why, or halves the step and goes on."""

import subprocess

import numpy as np
import pytest
from columnfiles import write_columns
from rootfiles import write_analysis, write_run

from pipeline import config, optimise
from pipeline.cluster import InProcess
from pipeline.containers import Templates
from pipeline.data import datasets, store
from pipeline.errors import FitError, OutputError
from pipeline.gradient.suspects import suspects
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.templates.axes import Axes

# No number above 0.55; the objective grows towards it.
OBSERVE = """
import jax.numpy as jnp
c = c.replace(weight=c.weight * jnp.where(p.cut > 0.55, jnp.nan, 1.0) / (0.7 - p.cut) ** 4)
"""


@pytest.fixture
def run(tmp_path):
    """Configuration and work whose parameter soon runs into the wall."""
    target = write_analysis(tmp_path, "wall.py", observe=OBSERVE)
    path = write_run(
        tmp_path,
        analysis={"target": target},
        optimise={"epochs": 8, "epochs_per_job": 8, "learning_rate": 0.04},
    )

    def make(*overrides):
        found = config.load(path, list(overrides))
        return found, prepare_work(found, write_columns(found, tmp_path / "columns"), datasets.TRAIN)

    return make


def epochs(found, work, folder, until=None):
    state = optimise.initial_state(found, initial_parameters(found))
    return optimise.run(
        found, InProcess(), work, state, until=until or found.optimise.epochs, checkpoints=folder, fingerprint="",
        progress=lambda record: None,
    )  # fmt: skip


def test_the_run_stops_at_that_epoch_and_keeps_the_state_before_it(run, tmp_path):
    found, work = run()
    saved = tmp_path / "checkpoints"
    with pytest.raises(FitError) as caught:
        epochs(found, work, saved)
    message = str(caught.value)
    last = sorted(saved.glob("*.npz"))[-1]
    assert (
        f"epoch {int(last.stem[-6:])}: template 'all' (sample 'background', variation 'nominal', bin 0)"
        in message
    )
    assert "the weight is not finite" in message
    assert "optimise.halvings tries again with half the step" in message
    assert str(last) in message


@pytest.mark.slow
def test_halved_steps_go_on_and_are_the_same_after_a_restart(run, tmp_path):
    found, work = run("optimise.halvings=30")
    state, records = epochs(found, work, tmp_path / "a")
    assert state.epoch == 8
    assert any(record.halvings for record in records)
    assert all(record.parameters["cut"] <= 0.55 for record in records)
    epochs(found, work, tmp_path / "b", until=3)
    again, records_again = epochs(found, work, tmp_path / "b")
    assert again.parameters["cut"] == state.parameters["cut"]
    assert [r.objective for r in records_again] == [r.objective for r in records]


def test_the_emptiest_bin_and_an_excessive_variation_are_named():
    axes = Axes(samples=("signal", "background"), variations=("nominal", "JES up"))
    yields = np.ones((2, 2, 3))
    yields[:, :, 1] = 1e-4
    found = suspects(Templates({"SR": yields}, {"SR": yields[:, 0]}), axes)
    assert found == "the emptiest bin is bin 1 of channel 'SR' with 0.0002 events"
    yields[1, 1, 2] = 9.0
    found = suspects(Templates({"SR": yields}, {"SR": yields[:, 0]}), axes)
    assert "variation 'JES up' of sample 'background' changes bin 2 of channel 'SR' by 4 times" in found


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system takes root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_stops_the_run_and_leaves_whole_files_only(run, small_disk):
    found, work = run("optimise.epochs=60", "optimise.learning_rate=0.0001", "optimise.keep_every=1")
    with pytest.raises(OutputError, match=r"cannot write .*epoch_0000.*No space left on device"):
        epochs(found, work, small_disk / "checkpoints")
    written = sorted((small_disk / "checkpoints").glob("*.npz"))
    assert 2 < len(written) < 60
    assert [path.name for path in written] == [f"epoch_{n + 1:06d}.npz" for n in range(len(written))]
    for path in written:
        store.read_state(path)


def test_a_read_only_folder_is_named(run, small_disk):
    found, work = run()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(OutputError, match=r"cannot write .*Read-only file system"):
        epochs(found, work, small_disk / "checkpoints")
