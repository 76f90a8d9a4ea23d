"""The grid of exact and relaxed objectives: each number is that of its point, and mistakes are named."""

import contextlib
import json
import math
import re

import numpy as np
import pytest
import rootfiles

from pipeline import config as configuration
from pipeline.cli import main
from pipeline.errors import ConfigError
from pipeline.evaluate.scan import grid
from pipeline.optimise.given_values import with_values
from pipeline.optimise.parameters import edges_at, initial_parameters

EDGES = {
    "edges": [0, 0.4, 0.7, 1],
    "free_edges": {"smallest": 0.05},
    "bandwidth": {"initial": 0.1, "final": 0.1},
}


@pytest.fixture
def path(tmp_path):
    """A run with a cut at a column between 0 and 1; its folder is the working directory."""
    with contextlib.chdir(tmp_path):
        yield rootfiles.write_run(tmp_path)


def run(*arguments):
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return caught.value.code


def significance(cut):
    """Z_A of the events above a cut, by NumPy."""
    yields = []
    for seed in range(2):
        made = rootfiles.arrays(seed=seed)
        yields.append(made["w"][made["x"].astype(float) > cut].sum(dtype=float))
    s, b = yields
    return math.sqrt(2 * ((s + b) * math.log(1 + s / b) - s))


def test_every_point_is_numpy_s(path, capsys):
    assert run("scan", path, "--over", "cut=0.2:0.8:4", "--output", "scan.json", "--workers", 1) == 0
    found = json.loads(path.with_name("scan.json").read_text())
    cuts = [point["values"]["cut"] for point in found["points"]]
    np.testing.assert_allclose(cuts, [0.2, 0.4, 0.6, 0.8])
    exact = [point["exact"] for point in found["points"]]
    np.testing.assert_allclose(exact, [significance(cut) for cut in cuts], rtol=1e-6)
    assert all(point["relaxed"] not in (point["exact"], None) for point in found["points"])
    best = found["best"]["exact"]
    assert best["exact"] == max(exact)  # a significance: the more the better
    assert f"best by the exact objective: {best['exact']} (exact)" in capsys.readouterr().err


def test_a_grid_is_the_product(path):
    config = configuration.load(path)
    assert grid(config, ["cut=[0.5, 0.25]"]) == {"cut": [0.5, 0.25]}
    with pytest.raises(ConfigError, match=r"'cut' is given twice"):
        grid(config, ["cut=[0.5]", "cut=[0.6]"])


@pytest.mark.parametrize(
    ("over", "says"),
    [
        ("cutt=[0.5]", r"--over cutt=\[0.5\]: no free parameter.*'cut'"),
        ("cut=0.5", r"give a list of values"),
        ("cut=[]", r"give a list of values"),
        ("cut=0:1:1", r"2 to 100000 values"),
        ("cut=a:b:c", r"FIRST:LAST:NUMBER"),
        ("cut=[high]", r"is a number"),
        ("cut=[true]", r"is a number"),
        ("cut=[[0.1, 0.2]]", r"parameters.cut: value \[0.1, 0.2\]; allowed: a number"),
        ("cut=[7]", r"parameters.cut: value 7.0 is outside its bounds"),
    ],
)
def test_mistakes_are_named(path, capsys, over, says):
    assert run("scan", path, "--over", over, "--output", "scan.json", "--workers", 1) == 1
    assert not path.with_name("scan.json").exists()
    text = " ".join(capsys.readouterr().err.split())
    assert re.search(says, text), text


def test_free_edges_are_set_by_their_edges(path):
    config = configuration.load(path, [f"channels.all={json.dumps(EDGES)}"])
    start = initial_parameters(config)
    moved = with_values(config, start, {"edges_all": [0.0, 0.25, 0.5, 1.0]})
    np.testing.assert_allclose(edges_at(config, moved)["all"], [0, 0.25, 0.5, 1], rtol=1e-12)
    np.testing.assert_allclose(edges_at(config, start)["all"], EDGES["edges"], rtol=1e-12)


@pytest.mark.parametrize(
    ("edges", "says"),
    [
        ([0.0, 0.5, 1.0], r"allowed: 4, from 0.0 to 1.0"),
        ([0.1, 0.25, 0.5, 1.0], r"allowed: 4, from 0.0 to 1.0"),
        ([0.0, 0.25, 0.27, 1.0], r"each above the one before"),
        (0.5, r"allowed: bin edges, a list"),
    ],
)
def test_edges_that_cannot_be(path, edges, says):
    config = configuration.load(path, [f"channels.all={json.dumps(EDGES)}"])
    with pytest.raises(ConfigError, match=says):
        with_values(config, initial_parameters(config), {"edges_all": edges})
