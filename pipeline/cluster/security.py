"""TLS between the processes of a run, on one machine and on several: others use them, and their network, too."""

import json
import os
import stat
import time
from pathlib import Path

from distributed.security import Security

from pipeline.config import textfiles
from pipeline.config.cluster import Cluster, Tls
from pipeline.data import store
from pipeline.errors import ClusterError, ConfigError

_FIELDS = ("tls_ca_file", "tls_client_key", "tls_client_cert")
PATIENCE = 60  # seconds for a file to appear on another node of a shared file system


def given(tls: Tls | None) -> Security | None:
    """Return certificates that the configuration names."""
    if tls is None:
        return None
    for name, path in tls.model_dump().items():
        if textfiles.impossible(Path(path)) or not Path(path).is_file():
            raise ConfigError(f"cluster.tls.{name}: there is no file {textfiles.shown(path)}")
    return _security(tls.ca_file, tls.key, tls.certificate)


def given_or_made(tls: Tls | None) -> Security:
    """Return the configuration's certificates, or new ones that exist for this run alone."""
    security = given(tls)
    if security is not None:
        return security
    try:
        made: Security = Security.temporary()
    except ImportError as error:
        raise ConfigError(
            "certificates cannot be made without the package 'cryptography'; pip install cryptography, or give "
            "cluster.tls"
        ) from error
    return made


def shared(tls: Tls | None, path: Path, *, make: bool) -> Security:
    """Return certificates that the processes of one parallel job agree on.

    Without certificates in the configuration, one process makes the file (``make``) and the others wait for
    it.
    """
    security = given(tls)
    if security is not None:
        return security
    if make:
        made = given_or_made(None)
        with store.replacing(path) as temporary:
            temporary.touch(mode=0o600, exist_ok=False)
            temporary.write_text(
                json.dumps({name: getattr(made, name) for name in _FIELDS}), encoding="utf-8"
            )
    content = _when_there(path)
    return _security(*(content[name] for name in _FIELDS))


def unprotected(cluster: Cluster) -> str | None:
    """Return the warning of a scheduler that anybody may use who reaches its port, or None."""
    if cluster.executor != "address" or cluster.tls is not None:
        return None
    return (
        f"warning: cluster.address {cluster.address} without cluster.tls: whoever reaches that port can run code as "
        "the user of its workers; start scheduler and workers with certificates (docs/cluster.md)"
    )


def private_folder(path: Path) -> None:
    """Make a folder that nobody else may enter, or close an own one that others may.

    Raises:
        ClusterError: there is something else, or a folder of somebody else's.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        _require_own(path)
        if path.is_symlink():
            raise ClusterError(f"{path} is a link; keys of the run go there: remove it, or make it a folder")
        path.chmod(0o700)
    except OSError as error:
        raise ClusterError(
            f"{path} cannot be made a folder for the keys of the run: {error.strerror}"
        ) from error


def _require_own(path: Path) -> None:
    status = path.lstat()
    if status.st_uid != os.geteuid():
        raise ClusterError(
            f"{path} belongs to user {status.st_uid} and not to you, who could read the keys of the run; remove it, or "
            "choose another name for the run"
        )


def _security(ca_file: str, key: str, certificate: str) -> Security:
    """Return one certificate for every role; each argument is a path or the text itself."""
    roles = {
        f"tls_{role}_{what}": text
        for role in ("client", "scheduler", "worker")
        for what, text in (("cert", certificate), ("key", key))
    }
    return Security(tls_ca_file=ca_file, require_encryption=True, **roles)


def _when_there(path: Path) -> dict[str, str]:
    for _ in range(10 * PATIENCE):
        if path.exists():
            _require_own(path)
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                raise ClusterError(f"{path} holds keys and others may open it; remove it and run again")
            content: dict[str, str] = store.read_json(path)
            return content
        time.sleep(0.1)
    raise ClusterError(f"the file {path} of the job's first process has not appeared within {PATIENCE} s")
