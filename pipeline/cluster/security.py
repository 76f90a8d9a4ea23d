"""TLS between the processes of a run on several machines; on one machine they use its loopback interface."""

import json
import time
from pathlib import Path

from distributed.security import Security

from pipeline import store, textfiles
from pipeline.config.cluster import Tls
from pipeline.errors import ClusterError, ConfigError

_FIELDS = ("tls_ca_file", "tls_client_key", "tls_client_cert")
PATIENCE = 60  # seconds for a file to appear on another node of a shared file system


def given(tls: Tls | None) -> Security | None:
    """Certificates that the configuration names."""
    if tls is None:
        return None
    for name, path in tls.model_dump().items():
        if textfiles.impossible(Path(path)) or not Path(path).is_file():
            raise ConfigError(f"cluster.tls.{name}: there is no file {textfiles.shown(path)}")
    return _security(tls.ca_file, tls.key, tls.certificate)


def given_or_made(tls: Tls | None) -> Security:
    """The configuration's certificates, or new ones that exist for this run alone."""
    security = given(tls)
    if security is not None:
        return security
    try:
        made: Security = Security.temporary()
    except ImportError as error:
        raise ConfigError(
            "certificates cannot be made without the package 'cryptography'; pip install thalweg[slurm], or give "
            "cluster.tls"
        ) from error
    return made


def shared(tls: Tls | None, path: Path, *, make: bool) -> Security:
    """Certificates that the processes of one parallel job agree on: one makes the file, the others wait for it."""
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


def _security(ca_file: str, key: str, certificate: str) -> Security:
    """One certificate for every role; each argument is a path or the text itself."""
    roles = {
        f"tls_{role}_{what}": text
        for role in ("client", "scheduler", "worker")
        for what, text in (("cert", certificate), ("key", key))
    }
    return Security(tls_ca_file=ca_file, require_encryption=True, **roles)


def _when_there(path: Path) -> dict[str, str]:
    for _ in range(10 * PATIENCE):
        if path.exists():
            content: dict[str, str] = store.read_json(path)
            return content
        time.sleep(0.1)
    raise ClusterError(f"the file {path} of the job's first process has not appeared within {PATIENCE} s")
