"""Generated events: the files of a function that a configuration names, and what may be wrong with it."""

import re

import numpy as np
import pytest
import uproot

from pipeline import config
from pipeline.data import datasets
from pipeline.errors import AnalysisError, ConfigError
from pipeline.simulate import generate

MODULE = """
import numpy as np


def good(sample, number, rng):
    return {"x": rng.standard_normal(number), "name": np.full(number, len(sample))}


def short(sample, number, rng):
    return {"x": rng.standard_normal(number - 1)}


def failing(sample, number, rng):
    raise ZeroDivisionError
"""


@pytest.fixture
def module(tmp_path):
    path = tmp_path / "made.py"
    path.write_text(MODULE)
    return path


def branches(path):
    with uproot.open(path) as file:
        return file["Events"].arrays(library="np")


def test_the_seed_and_the_sample_decide_the_events(module, tmp_path):
    files = {}
    for name, sample, seed in (("a", "s", 1), ("again", "s", 1), ("b", "t", 1), ("c", "s", 2)):
        generate.generate(f"{module}:good", sample, tmp_path / f"{name}.root", events=50, seed=seed)
        files[name] = branches(tmp_path / f"{name}.root")
    assert all(np.array_equal(files["a"][n], files["again"][n]) for n in files["a"])
    assert len({files[name]["x"].tobytes() for name in ("a", "b", "c")}) == 3
    assert files["a"]["event"].tolist() == list(range(generate.EVENTS_MAXIMUM, generate.EVENTS_MAXIMUM + 50))
    assert not set(files["a"]["event"]) & set(files["c"]["event"])


@pytest.mark.parametrize(
    ("function", "events", "message"),
    [
        ("nothing", 5, r"there is no function 'nothing'"),
        ("short", 5, r"branch 'x' of 's' has 4 entries, not 5"),
        ("good", 0, r"simulate\.samples\.s: events_per_file 0, allowed 1\.\.1000000"),
    ],
)
def test_what_is_wrong_is_named_and_no_file_is_left(module, tmp_path, function, events, message):
    path = tmp_path / "out.root"
    with pytest.raises(ConfigError, match=message):
        generate.generate(f"{module}:{function}", "s", path, events=events, seed=1)
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".root" or p.name.startswith(".")] == []


def test_an_exception_of_the_generator_says_whose_it_is(module, tmp_path):
    message = re.escape(
        f"ZeroDivisionError in {module}:failing, sample 's': no message; {module}, line 14: raise"
    )
    with pytest.raises(AnalysisError, match=message):
        generate.generate(f"{module}:failing", "s", tmp_path / "out.root", events=5, seed=1)


def test_the_folder_says_which_generator_made_the_events(module, request):
    path = request.config.rootpath / "config" / "neos.yaml"
    neos, other = (config.load(path, [s] if s else []) for s in ("", f"simulate.generator={module}:good"))
    places = [datasets.simulated_path(run, "signal", 0) for run in (neos, other)]
    assert places[0].startswith("results/simulated/neos-events-")
    assert places[1].startswith("results/simulated/made-good-")
    module.write_text(MODULE + "\n")
    assert datasets.simulated_path(other, "signal", 0) != places[1]
