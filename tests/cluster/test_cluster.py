"""Workers that come, go, stop or are slow change nothing in the result; what cannot run says why."""

import contextlib
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import dask
import jax
import numpy as np
import pytest
from columnfiles import write_columns
from distributed import Client, LocalCluster
from distributed.security import Security
from hypothesis import given
from hypothesis import strategies as st
from rootfiles import write_run

from pipeline import cluster, config
from pipeline.cluster import InProcess
from pipeline.cluster.assignment import assign
from pipeline.cluster.settings import DASK
from pipeline.cluster.workers import Worker, local, set_up
from pipeline.data import datasets
from pipeline.errors import ClusterError, ConfigError, OutputError
from pipeline.gradient.loss import centre
from pipeline.gradient.resident import Resident
from pipeline.gradient.sweeps import forward, value_and_grad
from pipeline.gradient.work import prepare_work
from pipeline.optimise.epochs import each_epoch
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.schedule import widths_at
from pipeline.optimise.update import initial_state

FILES = 6


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny run of twelve groups: configuration, work, parameters, widths."""
    folder = tmp_path_factory.mktemp("tiny")
    cuts = ["cluster.chunk_events=64", "cluster.group_events=100"]
    found = config.load(write_run(folder, files=FILES), cuts)
    work = prepare_work(found, write_columns(found, folder / "columns"), datasets.TRAIN)
    assert len(work.groups) == 2 * FILES
    return found, work, initial_parameters(found), widths_at(found, 0)


def settings(run, **changes):
    return run[0].cluster.model_copy(update={"executor": "local", "wait_minutes": 1.0, **changes})


def bits(step):
    return step.objective, {name: np.asarray(g).tobytes() for name, g in step.gradient.items()}


@pytest.fixture(scope="module")
def expected(run):
    """Objective and gradient, computed in this process."""
    return bits(value_and_grad(InProcess(), *run[1:], centre(run[0], run[1].axes)))


def slowly(resident, group, work, seconds):
    """Something that takes its time and depends on the group."""
    time.sleep(seconds)
    return group.sample, group.events, os.getpid()


def processes(executor):
    """Process numbers of the workers."""
    return sorted(executor._client.run(os.getpid).values())


# ---- who takes what --------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=60), st.integers(1, 8))
def test_events_are_dealt_out_evenly(sizes, count):
    workers = [f"tcp://{i}" for i in range(count)]
    owners = assign(sizes, workers, {})
    assert sorted(owners) == list(range(len(sizes)))
    loads = [sum(s for g, s in enumerate(sizes) if owners[g] == w) for w in workers]
    assert max(loads) <= sum(sizes) / count + max(sizes)
    assert assign(sizes, list(reversed(workers)), owners) == owners


@given(st.lists(st.integers(1, 1000), min_size=8, max_size=60), st.integers(2, 6), st.randoms())
def test_a_lost_worker_moves_its_own_groups_only(sizes, count, random):
    workers = [f"tcp://{i}" for i in range(count)]
    before = assign(sizes, workers, {})
    gone = random.choice(workers)
    after = assign(sizes, [w for w in workers if w != gone], before)
    for group, owner in before.items():
        assert after[group] == owner or owner == gone


@given(st.integers(2, 6), st.integers(4, 20))
def test_a_new_worker_gets_its_share_and_moves_nothing_else(count, each):
    workers = [f"tcp://{i}" for i in range(count)]
    sizes = [10] * (each * count)
    before = assign(sizes, workers, {})
    after = assign(sizes, [*workers, "tcp://new"], before)
    moved = {group for group in before if after[group] != before[group]}
    assert {after[group] for group in moved} == {"tcp://new"}
    assert abs(len(moved) - len(sizes) / (count + 1)) <= count + 1


# ---- the same bits ---------------------------------------------------------------------------------------


@pytest.mark.dask
@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers_gives_the_same_bits(run, expected, tmp_path, workers):
    with cluster.executor(settings(run), workers, tmp_path) as executor:
        assert executor.workers == workers
        assert bits(value_and_grad(executor, *run[1:], centre(run[0], run[1].axes))) == expected


def after_twenty_epochs(run, executor, work):
    """Bits of the parameters."""
    config = run[0].model_copy(update={"optimise": run[0].optimise.model_copy(update={"epochs": 20})})
    *_, (state, _) = each_epoch(config, executor, work, initial_state(config, run[2]), until=20)
    assert all(np.any(state.parameters[name] != value) for name, value in run[2].items())
    return {name: np.asarray(value).tobytes() for name, value in state.parameters.items()}


@pytest.mark.dask
def test_twenty_epochs_have_the_same_bits_whatever_adds_up_what_in_which_order(run, tmp_path):
    """Groups in another order, column files given in another one, two workers."""
    expected = after_twenty_epochs(run, InProcess(), run[1])
    paths = dict.fromkeys((file.sample, Path(file.path)) for group in run[1].groups for file in group.files)
    for work in (
        run[1]._replace(groups=tuple(reversed(run[1].groups))),
        prepare_work(run[0], list(reversed(paths)), datasets.TRAIN),
    ):
        assert after_twenty_epochs(run, InProcess(), work) == expected
    with cluster.executor(settings(run), 2, tmp_path) as executor:
        assert after_twenty_epochs(run, executor, run[1]) == expected


@pytest.mark.dask
def test_workers_killed_in_mid_sweep_are_replaced_and_change_nothing(run, expected, tmp_path):
    rng = np.random.default_rng(6)
    at_the_centre = centre(run[0], run[1].axes)
    with cluster.executor(settings(run), 2, tmp_path) as executor:
        for _ in range(2):
            victim = int(rng.choice(processes(executor)))
            timer = threading.Timer(float(rng.uniform(0.1, 0.5)), os.kill, (victim, signal.SIGKILL))
            timer.start()
            results = executor.sweep(slowly, run[1], 0.1)
            timer.join()
            assert [r[:2] for r in results] == [(g.sample, g.events) for g in run[1].groups]
            assert bits(value_and_grad(executor, *run[1:], at_the_centre)) == expected
            executor._client.wait_for_workers(2, timeout=240)
            assert victim not in processes(executor)


class Dying(Worker):
    """The first worker that is set up is killed by it."""

    def __init__(self, mark):
        super().__init__(0.0, None, mark.parent)
        self.mark = mark

    def setup(self, worker):
        with contextlib.suppress(FileExistsError):
            self.mark.touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
        super().setup(worker)


@pytest.mark.slow
@pytest.mark.dask
def test_a_worker_killed_while_it_is_set_up_is_replaced(run, tmp_path):
    with dask.config.set(DASK), local(settings(run), 2) as made, Client(made) as client:
        client.wait_for_workers(2, timeout=240)
        set_up(client, Dying(tmp_path / "killed"))
        client.wait_for_workers(2, timeout=240)
        assert (tmp_path / "killed").exists()
        assert set(client.run(lambda: jax.config.values["jax_enable_x64"]).values()) == {True}


@pytest.mark.slow
@pytest.mark.dask
def test_a_lost_nanny_is_replaced(run, expected, tmp_path):
    """A nanny lives in this process, so losing it is: it stops, and its worker with it."""
    with cluster.executor(settings(run), 2, tmp_path) as executor:
        made = executor._client.cluster
        made.sync(made.workers[0].close)
        executor._client.wait_for_workers(2, timeout=240)
        assert bits(value_and_grad(executor, *run[1:], centre(run[0], run[1].axes))) == expected


@pytest.mark.slow
@pytest.mark.dask
def test_a_worker_that_joins_in_mid_epoch_takes_part_and_changes_nothing(run, expected, tmp_path):
    at_the_centre = centre(run[0], run[1].axes)
    with cluster.executor(settings(run), 1, tmp_path) as executor:
        made = executor._client.cluster

        def growing(templates, parameters):
            made.adapt(minimum=2, maximum=2)
            executor._client.wait_for_workers(2, timeout=240)
            return at_the_centre(templates, parameters)

        assert bits(value_and_grad(executor, *run[1:], growing)) == expected
        assert {pid for *_, pid in executor.sweep(slowly, run[1], 0.0)} == set(processes(executor))
        assert executor.workers == 2


@pytest.mark.slow
@pytest.mark.dask
def test_a_slow_worker_changes_nothing(run, expected, tmp_path):
    at_the_centre = centre(run[0], run[1].axes)
    with cluster.executor(settings(run), 2, tmp_path) as executor:
        slow = processes(executor)[0]
        os.kill(slow, signal.SIGSTOP)
        threading.Timer(3.0, os.kill, (slow, signal.SIGCONT)).start()
        assert bits(value_and_grad(executor, *run[1:], at_the_centre)) == expected


# ---- events that do not fit in memory --------------------------------------------------------------------


@pytest.mark.parametrize("budget", [0.0, 200_000.0])
def test_streamed_events_give_the_same_bits(run, expected, tmp_path, budget):
    resident = Resident(budget, tmp_path)
    executor = InProcess(resident)
    at_the_centre = centre(run[0], run[1].axes)
    for _ in range(2):
        assert bits(value_and_grad(executor, *run[1:], at_the_centre)) == expected
    assert resident.used <= budget
    assert (budget == 0) == (resident.used == 0)
    assert not list(tmp_path.iterdir())  # the scratch files have no name


def test_a_scratch_folder_without_space_is_named(run):
    executor = InProcess(Resident(0.0, Path("/proc")))
    with pytest.raises(OutputError, match=r"to the scratch folder /proc: .*set cluster\.scratch"):
        forward(executor, *run[1:])


# ---- what cannot run says why ----------------------------------------------------------------------------


@pytest.mark.dask
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # Dask leaves its socket open then
def test_a_scheduler_port_that_is_taken_is_named(run, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(ClusterError, match=f"no scheduler can be started at port {port}"),
            cluster.executor(settings(run, port=port), 1, tmp_path),
        ):
            pass
    gc.collect()


@pytest.mark.slow
def test_no_scheduler_at_an_address(run, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    with (
        pytest.raises(ClusterError, match="no scheduler answers"),
        cluster.executor(settings(run, executor="address", address=address), 1, tmp_path),
    ):
        pass


@pytest.mark.dask
def test_no_worker_at_a_scheduler(run, tmp_path):
    with LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as empty:
        lonely = settings(run, executor="address", address=empty.scheduler_address, wait_minutes=0.02)
        with cluster.executor(lonely, 1, tmp_path) as executor:
            with pytest.raises(ClusterError, match="no worker has come to the scheduler in time"):
                _ = executor.workers
            with pytest.raises(ClusterError, match="no worker has come to the scheduler in time"):
                executor.sweep(slowly, run[1], 0.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"executor": "slurm_allocation"}, "runs inside a Slurm job step"),
        ({"scratch": "/nowhere"}, "cluster.scratch /nowhere is no folder"),
        ({"device": "gpu"}, "cluster.device is 'gpu' but there is none"),
        ({"device": "gpu", "executor": "in_process"}, "cluster.device is 'gpu' but JAX finds none"),
    ],
)
def test_what_is_not_there_is_named(run, tmp_path, monkeypatch, changes, message):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("SLURM_NTASKS", raising=False)
    with pytest.raises(ConfigError, match=message), cluster.executor(settings(run, **changes), 1, tmp_path):
        pass


@pytest.mark.dask
def test_one_worker_for_each_gpu(run, monkeypatch):
    """The variables that give a worker its device; there is no device here."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    with local(settings(run, device="gpu"), 7) as made:
        assert sorted(w["options"]["env"]["CUDA_VISIBLE_DEVICES"] for w in made.worker_spec.values()) == [
            "3",
            "5",
        ]
        variables = made.worker_spec[0]["options"]["env"]
        assert "deterministic" not in variables.get("XLA_FLAGS", "")  # sums know no order anyway
        assert "JAX_PLATFORMS" not in variables
        assert variables["NPROC"] == "1"


# ---- a scheduler that runs already, with certificates ----------------------------------------------------


@pytest.fixture
def certificates(tmp_path):
    """Certificate authority, certificate and key, as files."""
    made = Security.temporary()
    paths = {
        "ca_file": tmp_path / "ca.pem",
        "certificate": tmp_path / "cert.pem",
        "key": tmp_path / "key.pem",
    }
    for path, field in zip(paths.values(), ("tls_ca_file", "tls_client_cert", "tls_client_key"), strict=True):
        path.write_text(getattr(made, field))
    return paths


@pytest.mark.dask
def test_a_running_scheduler_with_tls(run, expected, tmp_path, certificates):
    files = {
        "--tls-ca-file": certificates["ca_file"],
        "--tls-cert": certificates["certificate"],
        "--tls-key": certificates["key"],
    }
    flags = [str(part) for pair in files.items() for part in pair]
    place = tmp_path / "scheduler.json"
    here = os.pathsep.join(map(str, Path(__file__).parents[1:3]))  # the tests, and this very package
    environment = {**os.environ, "PYTHONPATH": here}
    scheduler = [
        "distributed.cli.dask_scheduler",
        "--scheduler-file",
        str(place),
        "--no-dashboard",
        "--port",
        "0",
    ]
    scheduler += ["--host", "127.0.0.1", "--protocol", "tls"]
    worker = [
        "distributed.cli.dask_worker",
        "--scheduler-file",
        str(place),
        "--nthreads",
        "1",
        "--no-dashboard",
    ]
    worker += ["--host", "127.0.0.1"]
    started = []
    try:
        for program in (scheduler, worker):
            command = [sys.executable, "-m", *program, *flags]
            started.append(
                subprocess.Popen(
                    command,
                    cwd=tmp_path,
                    env=environment,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
            for _ in range(300):
                if place.exists():
                    break
                time.sleep(0.1)
        address = json.loads(place.read_text())["address"]
        tls = config.Cluster(tls={k: str(p) for k, p in certificates.items()}).tls
        chosen = settings(run, executor="address", address=address, tls=tls)
        with cluster.executor(chosen, 1, tmp_path) as executor:
            found = value_and_grad(executor, *run[1:], centre(run[0], run[1].axes))
            assert bits(found) == expected
        unsafe = settings(run, executor="address", address=address)
        with pytest.raises(ClusterError, match="no scheduler answers"), cluster.executor(unsafe, 1, tmp_path):
            pass
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()
