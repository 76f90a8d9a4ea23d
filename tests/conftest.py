"""Settings of every test (float64, no silent promotion, one seeded key) and the events that tests share."""

import fcntl
import json
import os
import signal
import tempfile
from pathlib import Path

from pipeline.runtime import environment

# One test compiles, in whatever process; others that need the same program find it.
PROGRAMS = Path(tempfile.gettempdir()) / f"thalweg-tests-{os.getuid()}"
PROGRAMS.mkdir(mode=0o700, exist_ok=True)
os.environ |= {
    **environment(),
    "JAX_COMPILATION_CACHE_DIR": str(PROGRAMS),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
    # XRootD tries a server that is not there for ten minutes.
    "XRD_CONNECTIONWINDOW": "5",
    "XRD_CONNECTIONRETRY": "1",
    "XRD_STREAMERRORWINDOW": "5",
}

import hypothesis
import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

# A shell lets what it begins in the background ignore Ctrl-C, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
# The first example compiles; how long that takes is no property of the code.
hypothesis.settings.register_profile("thalweg", deadline=None)
hypothesis.settings.load_profile("thalweg")

from columnfiles import write_columns
from generated import make_files

from pipeline import config
from pipeline.data import store
from pipeline.gradient.compiled import compiled
from pipeline.simulate.pythia import simulate

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="module")
def compiled_quickly():
    """XLA without its costly passes, as in JAX's own tests: for modules that compile much and compute little."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def key():
    """One seeded random key."""
    return jax.random.key(20261122)


@pytest.fixture(scope="session")
def shared_data():
    """Real CMS data, which an ordinary clone does not have."""
    if not SHARED.is_dir():
        pytest.skip(f"no real data at {SHARED}: it is not part of the repository")
    return SHARED


@pytest.fixture(scope="session")
def simulated(tmp_path_factory):
    """Manifest of the miniature's simulated files, made once for all test processes."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder = folder / "simulated"
    folder.mkdir(exist_ok=True)
    manifest = folder / "nanoaod_inputs.json"
    run = config.load(ROOT / "config" / "miniature.yaml")
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not manifest.exists():
            store.write_text(manifest, json.dumps(make_files(run, folder, simulate)))
    return manifest


@pytest.fixture(scope="session")
def miniature(simulated):
    """The miniature's configuration on the simulated files, everything in this process."""
    overrides = ["simulate=null", f"data.manifest={simulated}", "cluster.executor=in_process"]
    return config.load(ROOT / "config" / "miniature.yaml", overrides)


@pytest.fixture(scope="session")
def miniature_columns(miniature, tmp_path_factory):
    """Column files of the miniature, [(sample, path)]."""
    return write_columns(miniature, tmp_path_factory.mktemp("columns"))


@pytest.fixture(scope="module", autouse=True)
def _tidy():
    """Compiled programs of one file of tests are of no use to the next, and take gigabytes together."""
    yield
    compiled.cache_clear()
    jax.clear_caches()


def pytest_collection_modifyitems(items):
    """What waits longest begins first, so that the others run meanwhile."""
    order = ("slurm", "workflow")
    items.sort(key=lambda item: [mark not in item.keywords for mark in order])
