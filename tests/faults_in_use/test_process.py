"""Ends of a process, and who else may talk to it: keys, signals, what a last handler says."""

import errno
import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import clones
import dask
import psutil
import pytest
import rootfiles

from pipeline import cluster, config
from pipeline.cli import main
from pipeline.cli.command import thalweg
from pipeline.cluster.security import given_or_made, private_folder, shared, unprotected
from pipeline.errors import ClusterError

# What a user of the same machine would try: plainly, with keys of his own; and with the run's, which shows that the try
# itself is a good one. Imports come first: another user may not read this Python.
INTRUDER = """
import asyncio, json, os, sys
from distributed import Client
from distributed.security import Security

if __name__ == "__main__":
    address, user = sys.argv[1], int(sys.argv[2])
    os.setgroups([]) if os.geteuid() == 0 else None
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    stolen = Security(**json.load(sys.stdin))
    for name, scheme, keys in (("no", "tcp", None), ("own", "tls", Security.temporary()), ("stolen", "tls", stolen)):
        try:
            with Client(address.replace("tls://", scheme + "://"), security=keys, timeout="3s") as client:
                print(os.geteuid(), "with", name, "keys: came in,", *client.run(os.getpid).values())
        except OSError as error:
            print(os.geteuid(), "with", name, "keys: refused")
"""
NOBODY = 65534


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """An executor of one worker of this machine, doing nothing."""
    settings = config.Cluster(executor="local", wait_minutes=2.0)
    with cluster.executor(settings, 1, tmp_path_factory.mktemp("running")) as executor:
        executor._client.wait_for_workers(1, timeout=240)
        yield executor


@pytest.mark.dask
@pytest.mark.parametrize("user", [os.geteuid(), NOBODY])
def test_d_local_refuses_who_has_no_key(running, user):
    if user != os.geteuid() != 0:
        pytest.skip("another user's process takes root to start")
    security, address = running._client.security, running._client.scheduler.address
    fields = ("tls_ca_file", "tls_client_key", "tls_client_cert")
    keys = {"require_encryption": True, **{name: getattr(security, name) for name in fields}}
    found = subprocess.run(
        [sys.executable, "-c", INTRUDER, address, str(user)],
        **{"input": json.dumps(keys), "capture_output": True, "text": True, "check": False, "cwd": "/"},
    )
    worker = next(iter(running._client.run(os.getpid).values()))
    assert found.stdout.splitlines() == [
        f"{user} with no keys: refused",
        f"{user} with own keys: refused",
        f"{user} with stolen keys: came in, {worker}",
    ], found.stderr


@pytest.mark.dask
def test_d_local_listens_with_keys_alone(running):
    """Scheduler, nanny and worker: a port each, on the loopback interface, with TLS; no web pages."""
    scheduler = running._client.cluster.scheduler
    known = {scheduler.address, *scheduler.workers, *(w.nanny for w in scheduler.workers.values())}
    assert all(address.startswith("tls://127.0.0.1:") for address in known)
    me = psutil.Process()
    own = [p for p in (me, *me.children(recursive=True)) if p.is_running()]
    listening = {c.laddr.port for p in own for c in p.net_connections() if c.status == psutil.CONN_LISTEN}
    assert {int(address.rpartition(":")[2]) for address in known} <= listening
    assert len(listening) == len(known), (known, listening)


def test_d_the_folder_of_keys_is_closed(tmp_path):
    folder = tmp_path / "certificates"
    private_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    private_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(ClusterError, match="link is a link"):
        private_folder(tmp_path / "link")
    (tmp_path / "file").touch()
    with pytest.raises(ClusterError, match="file cannot be made a folder for the keys"):
        private_folder(tmp_path / "file")


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file to another user takes root")
def test_d_keys_in_somebody_elses_hands_are_refused(tmp_path):
    os.chown(tmp_path, NOBODY, NOBODY)
    with pytest.raises(ClusterError, match=f"belongs to user {NOBODY} and not to you"):
        private_folder(tmp_path)
    path = tmp_path / ".tls_1_0.json"
    shared(None, path, make=True)
    os.chown(path, NOBODY, NOBODY)
    with pytest.raises(ClusterError, match=f"belongs to user {NOBODY} and not to you"):
        shared(None, path, make=False)


def test_d_shared_keys_are_for_their_owner(tmp_path):
    path = tmp_path / ".tls_1_0.json"
    made = shared(None, path, make=True)
    assert path.stat().st_mode & 0o777 == 0o600
    assert shared(None, path, make=False).tls_client_key == made.tls_client_key
    path.chmod(0o644)
    with pytest.raises(ClusterError, match="others may open it; remove it"):
        shared(None, path, make=False)


def test_d_a_scheduler_without_keys_is_warned_of():
    given = {"executor": "address", "address": "tcp://elsewhere:8786"}
    assert "whoever reaches that port can run code" in unprotected(config.Cluster(**given))
    assert unprotected(config.Cluster(executor="local")) is None
    keys = {"ca_file": "ca.pem", "certificate": "cert.pem", "key": "key.pem"}
    assert unprotected(config.Cluster(**given, tls=keys)) is None
    assert given_or_made(None).require_encryption


@pytest.mark.parametrize("folder", ["/proc", "/dev/null/deep"])
def test_b_a_temporary_folder_without_space_is_named(folder, tmp_path):
    with (
        dask.config.set({"temporary-directory": folder}),
        pytest.raises(
            ClusterError, match=rf"the temporary folder {folder} cannot be written: .*TMPDIR"
        ) as caught,
        cluster.executor(config.Cluster(executor="local"), 1, tmp_path),
    ):
        pass
    assert "port" not in str(caught.value)


# ---- signals -----------------------------------------------------------------------------------------------

SLOW = """
import os, signal, time
from pipeline.cli import signals

signals.GRACE = {grace}
came = signals.Signals()
try:
    with came.watched():
        try:
            {first}
            print("never", flush=True)
        finally:
            {then}
except signals.Ended:
    pass
print(came.sentence, came.code)
"""
# Python drops an exception that comes while an object is thrown away; here the signal comes at that very moment.
THROWN_AWAY = """type("Last", (), {"__del__": lambda self: (signal.raise_signal(2), time.sleep(0))})()
            time.sleep(30)"""
SENT = "os.kill(os.getpid(), 2); time.sleep(30)"


@pytest.mark.parametrize(
    ("first", "then", "grace", "code"),
    [
        (SENT, "pass", 20, 0),
        (THROWN_AWAY, "pass", 20, 0),
        (SENT, "time.sleep(1.1); os.kill(os.getpid(), 15); time.sleep(30)", 20, 130),
        (SENT, "os.kill(os.getpid(), 15); time.sleep(30)", 0.3, 130),
    ],
    ids=["first", "while an object is thrown away", "second, by hand", "shutting down that takes too long"],
)
def test_b_a_signal_always_ends_a_process(first, then, grace, code):
    began = time.perf_counter()
    script = SLOW.format(first=first, then=then, grace=grace)
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert time.perf_counter() - began < 15
    assert found.returncode == code, found.stderr
    text = found.stdout + found.stderr
    assert text.startswith("interrupted by SIGINT; finished files stay, the same command goes on from there")
    assert len(text.splitlines()) == 1


def ended_by(number, folder, *arguments, when, group=False):
    """Standard error and exit code of a command line that gets a signal once its log has a text."""
    log = folder / "log"
    log.unlink(missing_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *map(str, arguments), "--log", str(log)],
        **{"cwd": folder, "stderr": subprocess.PIPE, "text": True, "start_new_session": True},
        env={**os.environ, "PYTHONPATH": str(clones.ROOT)},
    )
    for _ in itertools.takewhile(lambda _: process.poll() is None, range(2400)):
        if log.exists() and when in log.read_text():
            break
        time.sleep(0.05)
    (os.killpg if group else os.kill)(process.pid, number)
    try:
        return process.communicate(timeout=120)[1], process.returncode
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.dask
def test_b_ctrl_c_with_local_workers_is_one_line(tmp_path, monkeypatch):
    """A terminal sends it to every process; the workers' are silent."""
    many = {"epochs": 100000, "epochs_per_job": 100000}
    run = rootfiles.write_run(tmp_path, optimise=many, cluster={"executor": "local", "group_events": 300})
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for sample in ("signal", "background"):
        output = f"results/tiny/columns/{sample}/0000.parquet"
        arguments = ("columns", run, "--sample", sample, "--index", "0", "--output", output)
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        assert ended.value.code == 0
    command = ("optimise", run, "--output", "block.npz", "--workers", "1")
    text, code = ended_by(signal.SIGINT, here, *command, when="epoch     2", group=True)
    assert code == 128 + signal.SIGINT, text
    said = [line for line in text.splitlines() if not line.startswith(("epoch ", "compiling "))]
    assert said[0].startswith("220 events in ")
    assert said[1:] == ["interrupted by SIGINT; finished files stay, the same command goes on from there"], (
        text
    )
    assert not list(tmp_path.rglob("*.tmp"))
    assert len(list(here.glob("results/tiny/checkpoints/epoch_*.npz"))) >= 2  # where the same command goes on


# ---- the last handler --------------------------------------------------------------------------------------


def failing(monkeypatch, capsys, error, *arguments):
    """What is said, and the exit code, when a verb raises."""

    def yields(**values):
        raise error

    monkeypatch.setattr(thalweg.commands["yields"], "callback", yields)
    with pytest.raises(SystemExit) as ended:
        main(["yields", "any.yaml", *arguments])
    return capsys.readouterr().err, ended.value.code


def test_b_a_fault_of_ours_says_so(monkeypatch, capsys, tmp_path):
    log = tmp_path / "log"
    text, code = failing(monkeypatch, capsys, TypeError("odd"), "--log", str(log))
    assert code == 1
    assert text == (
        "error: TypeError: odd; this is a fault of Thalweg and not yours: please report it, with the file "
        f"{log}, which holds the traceback\n"
    )
    assert "Traceback" in log.read_text()
    text, _ = failing(monkeypatch, capsys, TypeError("odd"))
    assert "Traceback" not in text
    assert "with what the same command prints when --debug is added" in text


def test_b_debug_shows_the_traceback_of_every_error(monkeypatch, capsys):
    for error in (TypeError("odd"), ClusterError("no scheduler"), MemoryError()):
        text, code = failing(monkeypatch, capsys, error, "--debug")
        assert code == 1
        assert text.startswith("Traceback (most recent call last):")
        assert text.count("error: ") >= 1


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), "no memory is left; lower cluster.chunk_events"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "the system refused (OSError: [Errno 28] No space",
        ),
        (OSError(errno.EMFILE, "Too many open files"), "check space and permissions, then run again"),
    ],
)
def test_b_what_the_machine_refuses_is_no_fault_of_ours(monkeypatch, capsys, error, says):
    text, code = failing(monkeypatch, capsys, error)
    assert code == 1
    assert says in text
    assert "fault of Thalweg" not in text


def test_b_a_log_on_a_full_disk_is_one_sentence(monkeypatch, capsys, tmp_path):
    """As with a quota: a file may not grow beyond a size, here 0."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        text, code = failing(
            monkeypatch, capsys, ClusterError("no scheduler"), "--log", str(tmp_path / "a.log")
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"error: cannot write {tmp_path}/a.log" in f"{text}{code}"
    assert "Traceback" not in text


def test_b_a_terminal_that_is_gone_ends_no_run(tmp_path):
    """Standard error cannot be written; results are files."""
    (tmp_path / "config").mkdir()
    page = clones.ROOT / "config/README.md"
    (tmp_path / "config/README.md").write_text(page.read_text())
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "pipeline", "schema", "--folder", str(tmp_path / "config")]
        found = subprocess.run(command, stderr=full, cwd=clones.ROOT, check=False)
    assert found.returncode == 0
    assert (tmp_path / "config/schema.json").exists()


# ---- the workflow ------------------------------------------------------------------------------------------


@pytest.mark.workflow
def test_b_the_workflow_runs_from_any_folder(tmp_path):
    """Its own files are found beside the Snakefile, results go here, and no list of studies is read."""
    for name in ("clone", "run", "here"):
        (tmp_path / name).mkdir()
    clone = clones.clone(tmp_path / "clone")
    shutil.rmtree(clone / "workflow/studies")
    run = rootfiles.write_run(tmp_path / "run")
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(clone / "Snakefile"), "--cores", "1"]
    target = "results/tiny/columns/signal/0000.parquet"
    found = subprocess.run(
        [*command, target, "--configfile", str(run)],
        **{"cwd": tmp_path / "here", "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True},
        env={**os.environ, "PYTHONPATH": str(clone)},
        check=False,
    )
    assert found.returncode == 0, found.stdout
    assert "profiles/default" in found.stdout
    assert (tmp_path / "here" / target).exists()


def test_b_an_interrupted_workflow_goes_on_by_the_same_command():
    """Every command makes anew what an interrupt left behind: no IncompleteFilesException."""
    for profile in ("default", "slurm", "htcondor", "htcondor/transfer"):
        text = (clones.ROOT / "profiles" / profile / "config.yaml").read_text()
        assert "\nrerun-incomplete: true" in text, profile
