"""Learned bins: NumPy decides alike outside of a run, gradients are those of the shares, and they have an order."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chunked import assert_chunks_are_the_whole
from columnfiles import write_columns
from generated import generated
from jax.test_util import check_grads

from pipeline.analyses import gato
from pipeline.analysis import GaussianBins, NetworkBins, analysis_of, assign, gains
from pipeline.analysis.clusters import clusters_of
from pipeline.cluster import InProcess
from pipeline.containers import Parameters
from pipeline.data import datasets, store
from pipeline.errors import ConfigError
from pipeline.evaluate.yields.purity import by_purity, exported, purity, signals_of
from pipeline.gradient.sweeps import forward
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.relax import Exact, Relaxed
from pipeline.templates.fill import EXACT

SIZES = {name: 60 if name.startswith("signal") else 120 for name in gato.MEANS}
NAMES = ("x", "y", "z")
OUTSIDE = """
import json, sys
import numpy as np
import assign
found = assign.assign(assign.load("bins.json"), np.load("features.npy"))
assert not {name for name in sys.modules if name.startswith(("jax", "pipeline", "scipy"))}
print(json.dumps(found.tolist()))
"""


@pytest.fixture(scope="module")
def run(request, tmp_path_factory):
    """GATO's problem in four bins, on few events, its files made."""
    path = request.config.rootpath / "config" / "gato.yaml"
    small = ["analysis.options={bins: 4}", "channels.categories.shares=4", "model.mc_statistics=false",
             "objective.penalties=[]"]  # fmt: skip
    return generated(path, SIZES, tmp_path_factory.mktemp("gato"), small)


@pytest.fixture(scope="module")
def files(run, tmp_path_factory):
    return write_columns(run, tmp_path_factory.mktemp("columns"))


def blocks(rng):
    """Both kinds of bins of three features, with arrays."""
    mixture, network = GaussianBins(NAMES, 5), NetworkBins(NAMES, 4, name="net", hidden=(8, 6))
    key = jax.random.key(int(rng.integers(1000)))
    start = network.start(key)  # biases of 0 are a kink where all that comes before is 0
    layers = {n: a + rng.normal(size=a.shape) if "bias" in n else a for n, a in start.items()}
    components = mixture.start(key, rng.normal(size=(300, 3)))
    components["bins_tilts"] = components["bins_tilts"] + rng.normal(size=(5, 3))
    single = GaussianBins(NAMES[:1], 3, name="one")
    straight = GaussianBins(NAMES, 4, name="straight", covariances=False)
    return [
        (mixture, components),
        (network, layers),
        (single, single.start(key, rng.normal(size=(300, 1)))),
        (straight, straight.start(key, rng.normal(size=(300, 3)))),
    ]


def test_exact_bins_are_numpys_event_by_event_and_those_outside():
    rng = np.random.default_rng(1)
    every = rng.normal(size=(20_000, 3)).astype(np.float32)
    for bins, arrays in blocks(rng):
        events = every[:, : len(bins.features)]
        shares = np.asarray(bins.shares(Parameters(arrays), list(events.T), Exact()))
        assert set(np.unique(shares)) == {0.0, 1.0}
        found = shares.argmax(axis=1)
        np.testing.assert_array_equal(found, in_numpy(bins, arrays, events))
        np.testing.assert_array_equal(found, assign.assign(bins.exported(arrays), events))
        assert len(np.unique(found)) > 1
        narrow = np.asarray(bins.shares(Parameters(arrays), list(events.T.astype(float)), Relaxed(1e-9)))
        np.testing.assert_array_equal(narrow.argmax(axis=1), found)


def log_density(a, k, x):
    """Logarithm of a weight and a Gaussian's density without what is common, by its inverse covariance."""
    size = len(x)
    root = np.eye(size)
    root[np.tril_indices(size, -1)] = a["tilts"][k] if "tilts" in a else 0.0
    root = np.diag(np.exp(-a["log_scales"][k])) @ root
    precision, away = root.T @ root, x - a["means"][k]
    return a["logits"][k] + np.linalg.slogdet(precision)[1] / 2 - away @ precision @ away / 2


def in_numpy(bins, arrays, events):
    """Argmax of the probabilities, each event by itself."""
    a = {name.removeprefix(f"{bins.name}_"): np.asarray(array) for name, array in arrays.items()}
    found = []
    for x in events.astype(float):
        if isinstance(bins, GaussianBins):
            score = [log_density(a, k, x) for k in range(bins.bins)]
        else:
            hidden = np.maximum(
                np.maximum(x @ a["weights_0"] + a["biases_0"], 0) @ a["weights_1"] + a["biases_1"], 0
            )
            score = hidden @ a["weights_2"] + a["biases_2"]
        found.append(np.argmax(score))
    return np.array(found)


def test_derivatives_of_smooth_shares_are_those_of_finite_differences():
    rng = np.random.default_rng(2)
    every = jnp.asarray(rng.normal(size=(7, 3)))
    for bins, arrays in blocks(rng):
        given = {name: jnp.asarray(array) for name, array in arrays.items()}
        events = every[:, : len(bins.features)]
        weights = jnp.asarray(rng.normal(size=(7, bins.bins)))

        def summed(free, features, bins=bins, weights=weights):
            shares = bins.shares(Parameters(free), list(features.T), Relaxed({bins.name: 0.7}))
            return jnp.sum(weights * shares)

        check_grads(summed, (given, events), order=1, modes=("rev",), rtol=1e-6, eps=1e-5)


def test_the_gradient_over_chunks_is_that_of_the_whole(run, files):
    assert_chunks_are_the_whole(run, files)


def test_bins_are_in_order_of_their_purity_and_the_same_outside(run, files, tmp_path):
    work = prepare_work(run, files, datasets.TRAIN)
    start = initial_parameters(run)
    found = by_purity(run, InProcess(), work, start)
    before, after = (forward(InProcess(), work, p, EXACT) for p in (start, found))
    each = [purity(run, work.axes, t, "categories") for t in (before, after)]
    assert signals_of(run) == {"signal_1", "signal_2"}
    assert np.all(np.diff(each[1]) >= 0)
    assert np.any(np.diff(each[0]) < 0)
    np.testing.assert_array_equal(np.sort(each[0]), each[1])

    held_out = prepare_work(run, files, datasets.HELD_OUT)
    (tmp_path / "bins.json").write_text(json.dumps(exported(run, held_out, found)["categories"]))
    shutil.copy(assign.__file__, tmp_path)
    for sample in ("signal_1", "background_3"):
        path = next(path for name, path in files if name == sample)
        features = np.stack(gato.features(store.read_columns(path, datasets.HELD_OUT)), axis=1)
        np.save(tmp_path / "features.npy", features)
        done = subprocess.run(
            [sys.executable, "-c", OUTSIDE], cwd=tmp_path, capture_output=True, check=True, text=True
        )
        counts = np.bincount(json.loads(done.stdout), minlength=4)
        own = forward(InProcess(), held_out, found, EXACT).yields["categories"]
        row = own[held_out.axes.row(sample, "nominal")]
        np.testing.assert_allclose(row / row.sum(), counts / counts.sum(), rtol=1e-12)


def test_another_order_of_a_networks_outputs_is_that_of_its_bins():
    rng = np.random.default_rng(3)
    every = rng.normal(size=(50, 3))
    for bins, arrays in blocks(rng):
        events = every[:, : len(bins.features)]
        order = rng.permutation(bins.bins).tolist()
        one, other = (
            np.asarray(bins.shares(Parameters(own), list(events.T), Relaxed(1.0)))
            for own in (arrays, bins.ordered(arrays, order))
        )
        np.testing.assert_allclose(other, one[:, order], rtol=1e-9, atol=1e-14)


def test_clusters_are_found_and_a_seed_gives_the_same_bits():
    rng = np.random.default_rng(4)
    centres = np.array([[0.0, 0.0], [50.0, 0.0], [0.0, 8.0]])
    events = np.concatenate([centre + rng.normal(size=(200, 2)) for centre in centres])
    one, again = (clusters_of(events, 3, seed=5) for _ in range(2))
    for array, same in zip(one, again, strict=True):
        np.testing.assert_array_equal(array, same)
    nearest = np.linalg.norm(one.means[:, None] - centres[None], axis=2)
    np.testing.assert_array_less(nearest.min(axis=0), 0.3)
    np.testing.assert_allclose(one.shares, 1 / 3, rtol=0.1)
    only = clusters_of(events, 2, seed=5, weights=np.repeat([0.0, 1.0, 1.0], 200))
    assert np.all(np.linalg.norm(only.means, axis=1) > 5)


def test_clusters_are_the_closest_whatever_the_seed():
    """Of two pairs and a far cluster in a row, single k-means often halve the far one and join a pair."""
    rng = np.random.default_rng(7)
    centres = np.array([0.0, 3.0, 30.0, 33.0, 90.0])
    events = np.concatenate([centre + rng.normal(size=(100, 1)) for centre in centres])
    for seed in range(10):
        found = np.sort(clusters_of(events, 5, seed).means[:, 0])
        np.testing.assert_allclose(found, centres, atol=0.6)


def test_gains_are_logarithms_of_signal_and_background_over_background():
    ratios = np.array([1e-30, 0.01, 1.0, 40.0])
    (found,) = gains([np.log(ratios)])
    np.testing.assert_allclose(found, np.log1p(ratios), rtol=1e-12)
    np.testing.assert_allclose(gains([np.float32([-500, 500])])[0], [0, 500])


def test_bins_that_start_at_clusters_of_gains_find_both_signals():
    """Better than at clusters of the ratios' logarithms, most of which are spent on background."""
    rng = np.random.default_rng(6)
    size = {
        name: 3000 if name in gato.SIGNALS else round(50 * gato.CROSS_SECTIONS[name]) for name in gato.MEANS
    }
    events = {
        name: np.stack(gato.features(gato.events(name, n, rng)), axis=1).astype(float)
        for name, n in size.items()
    }
    found = {"gains": [], "ratios": []}
    for seed in range(4):
        for kind, each in found.items():
            seen = {n: own if kind == "gains" else np.log(np.expm1(own)) for n, own in events.items()}
            bins = GaussianBins(NAMES[:2], 5)
            start = bins.start(jax.random.key(seed), np.concatenate([own[:3000] for own in seen.values()]))
            learned = bins.exported(start)
            each.append(
                joint(
                    {
                        n: np.bincount(assign.assign(learned, own), minlength=5) / len(own)
                        for n, own in seen.items()
                    }
                )
            )
    assert np.min(found["gains"]) > np.max(found["ratios"])


def joint(shares):
    """sqrt(Z1 Z2) of counts, each signal with the other in its background."""
    expected = {"signal_1": 50, "signal_2": 10, **{n: 100 * own for n, own in gato.CROSS_SECTIONS.items()}}
    yields = {n: expected[n] * own for n, own in shares.items()}
    total, squares = sum(yields.values()), []
    for name in gato.SIGNALS:
        s, b = yields[name], np.maximum(total - yields[name], 1e-9)
        squares.append(np.sum(2 * ((s + b) * np.log1p(s / b) - s)))
    return np.prod(squares) ** 0.25


def test_what_cannot_be_is_refused(run, files):
    with pytest.raises(ValueError, match="bins 1; allowed: 2 or more"):
        GaussianBins(NAMES, 1)
    with pytest.raises(ValueError, match=r"features \(\); allowed"):
        NetworkBins((), 3)
    (bins, arrays), *_ = blocks(np.random.default_rng(1))
    with pytest.raises(ValueError, match="2 features are given; allowed: 3, x, y, z"):
        bins.shares(Parameters(arrays), [np.ones(4), np.ones(4)], Exact())
    with pytest.raises(ValueError, match=r"events of shape \(9, 2\); allowed: \[events, 3\]"):
        bins.start(jax.random.key(0), np.ones((9, 2)))
    with pytest.raises(ValueError, match="1 different events for 5 bins"):
        bins.start(jax.random.key(0), np.ones((9, 3)))
    with pytest.raises(ValueError, match="a weight for each event"):
        bins.start(jax.random.key(0), np.ones((9, 3)), -np.ones(9))
    with pytest.raises(ValueError, match=r"features of shape \(4, 2\); allowed: \[events, 3\]"):
        assign.assign(bins.exported(arrays), np.ones((4, 2)))
    plain = run.model_copy(update={"analysis": run.analysis.model_copy(update={
        "target": "pipeline.analyses.neos:Neos", "options": {}})})  # fmt: skip
    assert not analysis_of(plain).learned
    with pytest.raises(ConfigError, match="has no learned bins"):
        exported(plain, prepare_work(run, files, datasets.TRAIN), {})


def test_bins_that_start_nowhere_are_told_with_the_start_values(run, tmp_path):
    text = (Path(gato.__file__)).read_text()
    assert "def init(" in text
    (tmp_path / "mine.py").write_text(text.replace("def init(", "def forgotten("))
    own = run.analysis.model_copy(update={"target": f"{tmp_path}/mine.py:Gato"})
    message = (
        r"Gato\.init\(key\) returns no array 'bins_\w+', where the learned bins of channel 'categories' start"
    )
    with pytest.raises(ConfigError, match=message):
        initial_parameters(run.model_copy(update={"analysis": own}))


@pytest.mark.parametrize(
    ("learned", "message"),
    [
        ("{'categories': 3}", r"Gato\.learned is .*; it must be \{channel: GaussianBins"),
        ("['categories']", r"Gato\.learned is .*; it must be"),
        ("{'dogs': self.binned}", "has 4 bins for the channel 'dogs', which is none of the configuration"),
        (
            "{'categories': GaussianBins(FEATURES, 5)}",
            "has 5 bins for the channel 'categories', which has shares: 4",
        ),
    ],
)
def test_what_is_no_declaration_of_bins_is_refused_on_loading(run, tmp_path, learned, message):
    text = (Path(gato.__file__)).read_text()
    path = tmp_path / "mine.py"
    path.write_text(text.replace('self.learned = {"categories": self.binned}', f"self.learned = {learned}"))
    own = run.analysis.model_copy(update={"target": f"{path}:Gato"})
    with pytest.raises(ConfigError, match=message):
        analysis_of(run.model_copy(update={"analysis": own}))
