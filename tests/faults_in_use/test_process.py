"""Ends of a process, and who else may talk to it: keys, signals, what a last handler says."""

import json
import os
import subprocess
import sys

import dask
import psutil
import pytest

from pipeline import cluster, config
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
