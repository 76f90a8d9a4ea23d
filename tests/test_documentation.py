"""The pages are true: what they show runs or at least parses, what they list is all there is."""

import ast
import contextlib
import doctest
import importlib
import json
import re
import subprocess
import sys

import awkward as ak
import click
import documented
import jax
import notebook
import numpy as np
import pytest
import tour
import uproot
import verbs
import yaml
from clones import ROOT
from columnfiles import write_columns
from test_architecture import PUBLIC

from pipeline import config, optimise
from pipeline.analysis import Shift, Transform, WeightFactor
from pipeline.cli import main
from pipeline.cluster import InProcess
from pipeline.containers import Columns, Parameters
from pipeline.data import datasets
from pipeline.errors import ThalwegError
from pipeline.evaluate.at_point import objectives_of, verdict
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.relax import Exact

EVENTS = {"signal": 3000, "background": 5000}


def ntuple(name):
    """A falling background, a peak at 110 GeV with more b-tags; seeded by the name."""
    rng = np.random.default_rng(len(name))
    events = EVENTS[name]
    jets = rng.integers(0, 5, events)
    mass = rng.normal(110, 8, events) if name == "signal" else 60 + rng.exponential(60, events)
    btag = rng.beta(4, 2, jets.sum()) if name == "signal" else rng.beta(2, 3, jets.sum())
    return {
        "jet_pt": ak.unflatten((20 + rng.exponential(40, jets.sum())).astype(np.float32), jets),
        "jet_btag": ak.unflatten(btag.astype(np.float32), jets),
        "muon_pt": (10 + rng.exponential(30, events)).astype(np.float32),
        "mass": mass.astype(np.float32),
        "weight": rng.uniform(0.8, 1.2, events).astype(np.float32),
    }


@pytest.fixture(scope="module")
def folder(request, tmp_path_factory):
    """The page's files, and the ntuples it speaks of."""
    page = (request.config.rootpath / "docs" / "analysis.md").read_text()
    made = tmp_path_factory.mktemp("documentation")
    for language, name in (("python", "my_analysis.py"), ("yaml", "my_run.yaml"), ("json", "my_files.json")):
        (block,) = re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        (made / name).write_text(block)
    for name in EVENTS:
        with uproot.recreate(made / f"{name}.root") as file:
            arrays = ntuple(name)
            file.mktree("events", {n: "var * float32" if "jet" in n else "float32" for n in arrays})
            file["events"].extend(arrays)
    return made


def expected(name, *, muon_pt, btag):
    """Weighted mass histogram of the exact selection, by awkward and NumPy."""
    arrays = ntuple(name)
    tagged = ak.sum((arrays["jet_pt"] > 30) & (arrays["jet_btag"] > np.float32(btag)), axis=1) >= 1
    chosen = np.asarray(tagged) & (arrays["muon_pt"] > muon_pt)
    scale = {"signal": 0.4, "background": 20}[name] * 1000 / EVENTS[name]
    return np.histogram(
        arrays["mass"][chosen], np.arange(60, 161, 20), weights=arrays["weight"][chosen] * scale
    )[0]


def test_the_page_gives_the_yields_of_a_plain_selection(folder, capsys):
    with contextlib.chdir(folder), pytest.raises(SystemExit) as end:
        main(["yields", "my_run.yaml", "--set", "btag=0.6"])
    assert end.value.code == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["parameters"] == {"muon_pt": 25.0, "btag": 0.6}
    for name in EVENTS:
        yields = printed["yields"]["signal_region"][name]
        np.testing.assert_allclose(yields["nominal"], expected(name, muon_pt=25, btag=0.6), rtol=1e-5)
        assert set(yields) == {"nominal", "jes_up", "jes_down"}


def test_the_table_of_variations_is_code(request):
    """Every kind stands in a row of its own and makes what the row says of two events."""
    page = (request.config.rootpath / "docs" / "analysis.md").read_text()
    kinds = {kind.__name__: kind for kind in (Transform, Shift, WeightFactor)}
    made = [eval(code, dict(kinds)) for code in re.findall(r"^\| `(\w+\(.*?\))` \|", page, re.MULTILINE)]
    assert [type(variation) for variation in made] == list(kinds.values())
    events = {"jet_pt": [[40.0], [30.0]], "jet_btag": [[0.7], [0.2]], "jet": [[1.0], [1.0]]}
    c = Columns({name: jax.numpy.asarray(values) for name, values in events.items()})
    for variation in made[:2]:
        np.testing.assert_allclose(variation.changed(c)["jet_pt"], 1.03 * c.jet_pt)
    factor = made[2].factor(Parameters({"btag": jax.numpy.asarray(0.5)}), c, Exact())
    np.testing.assert_allclose(factor, [1.1, 1.0])


@pytest.mark.slow
def test_the_page_optimises(folder, tmp_path):
    with contextlib.chdir(folder):
        run = config.load(folder / "my_run.yaml", ["cluster.executor=in_process"])
        work = prepare_work(run, write_columns(run, tmp_path), datasets.TRAIN)
        start = initial_parameters(run)
        state, _ = optimise.run(
            run, InProcess(), work, optimise.initial_state(run, start),
            until=run.optimise.epochs, checkpoints=tmp_path / "checkpoints", fingerprint="", progress=lambda _: None,
        )  # fmt: skip
        objectives = objectives_of(run, work.axes)
        before, after = (verdict(run, InProcess(), work, p, objectives) for p in (start, state.parameters))
    assert after.exact < before.exact
    np.testing.assert_allclose(after.pyhf, after.exact, rtol=0.05)  # MINOS against the Hessian, at 36 %


@pytest.mark.parametrize("name", ["relax.md", "coming_from.md"])
def test_a_page_prints_what_it_says(name):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # as in a notebook
        found = doctest.testfile(str(ROOT / "docs" / name), module_relative=False)
    assert found.attempted > 10
    assert found.failed == 0


def test_the_tour_leads_to_the_lines_that_it_names():
    text = (ROOT / "docs/tour.md").read_text()
    assert len(tour.STOP.findall(text)) == 21
    assert tour.corrected(text) == text, "run `make reference`"


def test_links_between_pages_lead_somewhere():
    for page in documented.PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


OF_CABINETRY = {"General", "Regions", "Samples", "NormFactors", "Systematics"}
BENCHMARKS = sorted((ROOT / "tests/benchmarks").glob("*.py"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_what_a_benchmark_imports_is_there(path):
    """They run outside of the tests, and would not be seen to break when a name changes."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "pipeline":
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")


@pytest.mark.slow
def test_the_example_in_python_runs_as_it_stands(tmp_path):
    """It has at most 15 lines, says a gain on held-out events beyond its error, and makes its page."""
    (whole,) = documented.blocks(ROOT / "README.md", "python")
    assert sum(bool(line.strip()) for line in whole.splitlines()) <= 15
    (tmp_path / "search.py").write_text(whole)
    found = subprocess.run(
        [sys.executable, "search.py"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    percent, error = map(float, re.search(r"([+-][\d.]+) \+- ([\d.]+) %", found.stdout).groups())
    assert percent < -3 * error
    assert (tmp_path / "results/search/report.html").is_file()


def test_the_page_on_verbs_is_that_of_the_command():
    text = verbs.PAGE.read_text()
    assert verbs.with_verbs(text) == text, "run `make reference`"


def test_the_page_on_python_has_every_public_path():
    page = (ROOT / "docs/reference.md").read_text()
    listed = re.findall(r'heading: "(.+)"', page)
    assert sorted(listed) == sorted(f"{module}.{name}" for module, names in PUBLIC.items() for name in names)
    for place, heading in zip(re.findall(r"^::: (.+)", page, re.MULTILINE), listed, strict=True):
        own, public = (path.rpartition(".") for path in (place, heading))
        found, meant = (getattr(importlib.import_module(path[0]), path[2]) for path in (own, public))
        assert found is meant


def test_the_page_on_examples_has_every_configuration():
    listed = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/examples.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(path.stem for path in (ROOT / "config").glob("*.yaml"))


@pytest.mark.parametrize("page", documented.PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_blocks_of_a_page_are_such(page):
    """The command line takes what stands there, Python compiles it and finds ours, sections of YAML are taken."""
    for command in documented.commands(page):
        documented.check(command)
    for verb, option in documented.options_in_sentences(page):
        assert option in documented.options_of(verb), f"{page.name}: thalweg {verb} {option}"
    for block in documented.blocks(page, "python"):
        if ">>>" not in block:
            compile(block, str(page), "exec")
            documented.check_imports(block)
    for block in documented.blocks(page, "yaml"):
        content = yaml.safe_load(block)
        assert content.keys() <= {"extends", *config.Config.model_fields} or content.keys() <= OF_CABINETRY
        if not content.keys() <= OF_CABINETRY:
            documented.check_sections(content)


def test_a_wrong_command_of_a_page_is_seen():
    """The checks of commands find a verb, an option, a configuration, a key and a file that do not exist."""
    for wrong in (
        *("thalweg optimize config/one_cut.yaml", "thalweg yields config/one_cut.yaml --point initial"),
        *("thalweg scan config/none.yaml --over x=1:2:3 --output a.json", "make documentation"),
        *("snakemake --cores all --configfile config/none.yaml", "python tests/benchmarks/none.py"),
        "snakemake --cores all --configfile config/one_cut.yaml --config set=optimise.epoch=3",
    ):
        with pytest.raises((AssertionError, click.UsageError, ThalwegError)):
            documented.check(wrong.split())
    with pytest.raises(ImportError):
        documented.check_imports("from pipeline.containers import Histogram")
    for wrong in ("objective: {kind: cls, mu: 1, level: 2}", "optimise: {epoch: 3}", "model: {pois: mu}"):
        with pytest.raises(AssertionError):
            documented.check_sections(yaml.safe_load(wrong))


def test_the_tutorial_shows_what_it_printed():
    """The notebook is stored with the outputs of an execution in order, and stays small."""
    cells = [cell for cell in json.loads(notebook.PAGE.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    assert sum("image/png" in output.get("data", {}) for cell in cells for output in cell["outputs"]) == 2
    assert notebook.PAGE.stat().st_size < 400_000


@pytest.mark.slow
def test_the_tutorial_runs_as_it_stands():
    """Every cell; the uncertainty falls on held-out events, and numbers are those that the page shows."""
    made, shown = notebook.run(), json.loads(notebook.PAGE.read_text())
    printed = ["".join(output.get("text", "")) for cell in made.cells for output in cell.get("outputs", [])]
    (change,) = re.findall(r"held-out events: ([+-]\S+) \+- (\S+) %", "".join(printed))
    assert float(change[0]) < -5 * float(change[1])
    assert change[0] in json.dumps(shown)
