"""What a result belongs to: the analysis with all that it imports; stored files that say what they are; checkpoints."""

import gc
import json
import math
import os
import pickle
import shutil
import subprocess
import sys
import weakref
from pathlib import Path

import contracts
import jax
import numpy as np
import pytest
from clones import clone
from columnfiles import write_columns
from distributed import Client, LocalCluster
from rootfiles import ANALYSIS, write_run

from pipeline import cluster, config, optimise
from pipeline.analysis import analysis_of
from pipeline.cli import main
from pipeline.cluster import InProcess
from pipeline.cluster.workers import Worker, set_up
from pipeline.config import sources
from pipeline.containers import Columns, Templates
from pipeline.data import datasets, results, run_files, store
from pipeline.data.fingerprint import fingerprint_of
from pipeline.errors import ConfigError, InputError
from pipeline.evaluate import evaluation
from pipeline.gradient.compiled import compiled
from pipeline.gradient.sweeps import forward
from pipeline.gradient.work import Problem, prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.templates.fill import EXACT, Widths

WEIGHTED = ANALYSIS.replace(
    "class Tiny(Analysis):", "from factors import FACTOR\n\n\nclass Tiny(Analysis):"
).replace("weight=c.weight *", "weight=FACTOR * c.weight *")


def thalweg(*arguments):
    """The exit code of the command line, in this process."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code


def write(folder):
    """A run whose analysis imports a module beside it; the file of its configuration, for use from that folder."""
    write_run(folder, events=100)
    (folder / "tiny.py").write_text(WEIGHTED)
    (folder / "factors.py").write_text("FACTOR = 1.0\n")
    path = folder / "tiny.yaml"
    path.write_text(path.read_text().replace(f"{folder}/", ""))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run from columns to an evaluation, of which only what it says that it is matters here."""
    folder = tmp_path_factory.mktemp("finished")
    write(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(".")
        for sample in ("signal", "background"):
            output = f"results/tiny/columns/{sample}/0000.parquet"
            assert (
                thalweg("columns", "tiny.yaml", "--sample", sample, "--index", "0", "--output", output) == 0
            )
        for block in (1, 2):
            output = f"results/tiny/optimise/block_{block}.npz"
            assert thalweg("optimise", "tiny.yaml", "--block", block, "--output", output) == 0
        found = config.load(Path("tiny.yaml"))
        header = run_files.evaluation_header(found, fingerprint_of(found, run_files.column_files(found)))
        evaluation.write(Path("results/tiny/evaluation.json"), contracts.evaluation(), header)
        results.write(Path("results/tiny/other.json"), {"table": []}, {**header, "kind": "scan"})
    return folder


@pytest.fixture
def run(finished, tmp_path, monkeypatch):
    """A copy of it to work in."""
    shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.syspath_prepend(str(tmp_path / "copy"))
    return tmp_path / "copy"


def report(*overrides):
    keys = [word for override in overrides for word in ("--set", override)]
    return thalweg("report", "tiny.yaml", *keys, "--output", "report.html", "--figures", "figures")


def yields(capsys, *arguments):
    assert thalweg("yields", "tiny.yaml", *arguments) == 0
    found = json.loads(capsys.readouterr().out)["yields"]["all"]
    return np.array([found[sample]["nominal"][0] for sample in ("signal", "background")])


def test_a8_a_module_that_the_analysis_imports_belongs_to_it(run, capsys):
    """Edited in the same second, to a text of the same length: neither results nor bytecode of before count."""
    before = yields(capsys, "--parameters", "optimised")
    (run / "factors.py").write_text("FACTOR = 2.0\n")
    assert thalweg("yields", "tiny.yaml", "--parameters", "optimised") == 1
    assert "belongs to another configuration, analysis or data set" in capsys.readouterr().err
    np.testing.assert_allclose(yields(capsys), 2 * yields_at_start(before, capsys, run), rtol=1e-12)


def yields_at_start(before, capsys, run):
    (run / "factors.py").write_text("FACTOR = 1.0\n")
    found = yields(capsys)
    assert np.all(found > 0)
    assert np.all(before > 0)
    (run / "factors.py").write_text("FACTOR = 2.0\n")
    return found


IMPORTS = {
    "import helper": {"helper.py"},
    "import pack.inner": {"__init__.py", "inner.py", "below.py"},
    "from pack import inner": {"__init__.py", "inner.py", "below.py"},
    "from pack.inner import NAME": {"__init__.py", "inner.py", "below.py"},
    "from pack import *": {"__init__.py", "inner.py", "below.py"},
    "from space.part import NAME": {"part.py"},
    "def f():\n    import helper": {"helper.py"},
    "import importlib\nimportlib.import_module('pack.below')": {"__init__.py", "below.py"},
    "try:\n    import fast_helper\nexcept ImportError:\n    import helper": {"helper.py"},
    "import numpy, json, pipeline.relax, distributed": set(),
    "from pipeline.analyses import inferno": {"__init__.py", "inferno.py", "networks.py"},
    "import broken": {"broken.py"},
    "import archived": {"archive.zip"},
}


@pytest.mark.parametrize("statement", IMPORTS)
def test_a8_imports_are_found_without_running_them(statement, tmp_path, monkeypatch):
    (tmp_path / "pack").mkdir()
    (tmp_path / "space").mkdir()
    texts = {
        "a.py": f"{statement}\nraise RuntimeError\n",
        "helper.py": "import a\n",
        "pack/__init__.py": "",
        "pack/inner.py": "from . import below\nfrom .below import NAME\n",
        "pack/below.py": "NAME = 1\n",
        "space/part.py": "NAME = 1\n",
        "broken.py": "this is no Python\n",
        "archived.py": "",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    shutil.make_archive(str(tmp_path / "archive"), "zip", tmp_path, "archived.py")
    (tmp_path / "archived.py").unlink()
    monkeypatch.syspath_prepend(str(tmp_path / "archive.zip"))
    monkeypatch.syspath_prepend(str(tmp_path))
    found = sources.graph([tmp_path / "a.py"])
    assert {path.name for path in found} == {"a.py"} | IMPORTS[statement]


def test_a8_an_import_that_cannot_be_seen_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path)
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden/factors_of_mine.py").write_text("FACTOR = 1.0\n")
    head = "import importlib\nFACTOR = importlib.import_module('factors_' + 'of_mine').FACTOR"
    (tmp_path / "tiny.py").write_text(WEIGHTED.replace("from factors import FACTOR", head))
    monkeypatch.syspath_prepend(str(tmp_path / "hidden"))
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"write `import factors_of_mine` in the analysis"):
            analysis_of(config.load(path))


def test_a8_another_class_of_the_same_file_is_another_analysis(tmp_path):
    path = write_run(tmp_path)
    (tmp_path / "tiny.py").write_text(
        (tmp_path / "tiny.py").read_text() + "\n\nclass Other(Tiny):\n    pass\n"
    )
    first, other = (config.load(path, [f"analysis.target={tmp_path}/tiny.py:{c}"]) for c in ("Tiny", "Other"))
    assert first.analysis.digest != other.analysis.digest
    files = write_columns(first, tmp_path / "columns")
    assert fingerprint_of(first, files) != fingerprint_of(other, files)


def test_a8_modules_of_one_name_that_change_places(tmp_path, monkeypatch):
    """The same contents under other names are another program."""
    monkeypatch.syspath_prepend(str(tmp_path))
    path = write_run(tmp_path)
    head = "from ea.factors import FACTOR as A\nfrom eb.factors import FACTOR as B\n"
    (tmp_path / "tiny.py").write_text(head + (tmp_path / "tiny.py").read_text())
    digests = []
    for first, second in ((1.0, 5.0), (5.0, 1.0)):
        for folder, value in (("ea", first), ("eb", second)):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / "factors.py").write_text(f"FACTOR = {value}\n")
        digests.append(config.load(path).analysis.digest)
    assert digests[0] != digests[1]


def test_a8_snakemake_runs_again_after_an_edit_of_an_imported_module(tmp_path):
    folder = clone(tmp_path)
    write(folder)
    output = folder / "results/tiny/columns/signal/0000.parquet"
    output.parent.mkdir(parents=True)
    output.touch()
    (folder / "factors.py").write_text("FACTOR = 2.0\n")
    later = output.stat().st_mtime + 10
    os.utime(folder / "factors.py", (later, later))
    command = [sys.executable, "-m", "snakemake", "-n", str(output.relative_to(folder)), "--cores", "1"]
    flags = ["--configfile", "tiny.yaml", "--rerun-triggers", "mtime"]
    done = subprocess.run([*command, *flags], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = done.stdout
    reasons = [line for line in found.splitlines() if "pdated input files" in line]
    assert any("factors.py" in line for line in reasons), found


def observed(path, executor):
    """Exact yields of signal and background."""
    found = config.load(path)
    work = prepare_work(found, write_columns(found, path.parent / "columns"), datasets.ALL)
    templates = forward(executor, work, initial_parameters(found), EXACT)
    return templates.yields["all"][:, 0, 0], work, initial_parameters(found)


@pytest.mark.parametrize("where", ["session", "worker"])
def test_a9_an_edited_analysis_is_what_runs(where, tmp_path):
    """`observe` times 3, in one session, and on a worker that lives on."""
    path = write_run(tmp_path)
    text = (tmp_path / "tiny.py").read_text()
    if where == "session":
        edited_twice(path, text, InProcess())
        return
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as made,
        Client(made) as client,
    ):
        set_up(client, Worker(math.inf, None, tmp_path / "programs"))
        edited_twice(path, text, cluster.Distributed(client, wait=60.0))


def edited_twice(path, text, executor):
    first, old, parameters = observed(path, executor)
    assert np.all(first > 0)
    for factor in (3, 4):
        edited = text.replace("weight=c.weight *", f"weight={factor} * c.weight *")
        (path.parent / "tiny.py").write_text(edited)
        found, work, _ = observed(path, executor)
        np.testing.assert_allclose(found, factor * first, rtol=1e-12)
    kept = {key[0].content for key in compiled._kept if key[0].target == work.problem.target}
    assert kept <= {work.problem.content}
    with pytest.raises(ConfigError, match=r"was changed after the run had begun"):
        forward(executor, old._replace(problem=other_content(old.problem)), parameters, EXACT)


def other_content(asked):
    return Problem(**{**vars(asked), "content": asked.content._replace(source="what it was once")})


BLOCKS = "results/tiny/optimise"
REFUSED = {
    "a block under the name of another": (f"{BLOCKS}/block_1.npz", f"{BLOCKS}/block_2.npz", "block 1, not 2"),
    "a checkpoint as a block": (
        "results/tiny/checkpoints/epoch_000002.npz",
        f"{BLOCKS}/block_2.npz",
        "'epoch', not",
    ),
    "the columns of another sample": (
        "results/tiny/columns/signal/0000.parquet",
        "results/tiny/columns/background/0000.parquet",
        "sample was 'signal' and is 'background'",
    ),
    "something else as the evaluation": (
        "results/tiny/other.json",
        "results/tiny/evaluation.json",
        "holds kind 'scan', not 'evaluation'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a17_what_is_not_what_its_name_says(case, run, capsys):
    source, target, message = REFUSED[case]
    shutil.copy(source, target)
    assert report() == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "override",
    ["optimise.learning_rate=0.02", "evaluate.bootstrap=3", "optimise.epochs_per_job=2", "model.poi_"],
)
def test_a17_the_report_of_another_configuration(override, run, capsys):
    if override == "model.poi_":
        (run / "factors.py").write_text("FACTOR = 5.0\n")
        assert report() == 1
    else:
        assert report(override) == 1
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", ["{}", "[]", "null", '{"header": {"kind": "evaluation"}}', '{"header": 1}']
)
def test_a17_b_an_evaluation_that_is_none(content, run, capsys):
    Path("results/tiny/evaluation.json").write_text(content)
    assert report() == 1
    assert "no file of numbers written by this program" in capsys.readouterr().err


CHANGES = {
    "of an older version": (lambda found: {"table": found["rows"]}, "key 'objective' is missing"),
    "without a key": (lambda found: found["rows"][2].pop("events"), "key 'rows.2.events' is missing"),
    "with another key": (lambda found: found["rows"][0].update(luck=7), "key 'rows.0.luck' is not known"),
    "with another type": (lambda found: found["rows"][1].update(exact="a"), "key 'rows.1.exact' is not what"),
    "without rows": (lambda found: found.update(rows=[]), "key 'rows' is empty"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_an_evaluation_of_another_version_is_refused(case, run, capsys):
    """File, key and cure, and no KeyError."""
    path = Path("results/tiny/evaluation.json")
    found = json.loads(path.read_text())
    header = {key: value for key, value in found.pop("header").items() if key != "content"}
    change, message = CHANGES[case]
    made = change(found)
    results.write(path, made if case == "of an older version" else found, header)
    assert report() == 1
    said = capsys.readouterr().err
    assert f"evaluation {path}: {message}" in said
    assert "run `evaluate` again" in said


def test_a17_an_altered_evaluation(run, capsys):
    path = Path("results/tiny/evaluation.json")
    text = path.read_text()
    place = text.index('"exact": ') + len('"exact": ') + 2
    path.write_text(text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :])
    assert report() == 1
    assert "was altered after it had been written" in capsys.readouterr().err


def test_a17_columns_made_again_are_not_those_of_the_run(tmp_path):
    path = write_run(tmp_path)
    _, work, parameters = observed(path, InProcess())
    group = work.groups[0]
    shutil.copy(work.groups[1].files[0].path, group.files[0].path)
    with pytest.raises(InputError, match="holds other events than when the run began"):
        forward(InProcess(), work, parameters, EXACT)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Configuration and work of six epochs."""
    path = write_run(tmp_path_factory.mktemp("tiny"), optimise={"epochs": 6, "epochs_per_job": 6})
    found = config.load(path)
    return found, prepare_work(found, write_columns(found, path.parent / "columns"), datasets.TRAIN)


def epochs(tiny, folder, until=6, **changes):
    """Final bits, records, and the epochs that were computed."""
    found, work = tiny
    found = found.model_copy(update={"optimise": found.optimise.model_copy(update=changes)})
    start = optimise.initial_state(found, initial_parameters(found))
    computed = []
    state, records = optimise.run(
        found, InProcess(), work, start, until=until, checkpoints=folder / "checkpoints", fingerprint="this",
        progress=lambda record: computed.append(record.epoch),
    )  # fmt: skip
    return {n: np.asarray(p).tobytes() for n, p in state.parameters.items()}, records, computed


@pytest.fixture(scope="module")
def undisturbed(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return *epochs(tiny, folder)[:2], folder


def names(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_b_a_checkpoint_under_the_name_of_the_next_epoch(tiny, undisturbed, tmp_path):
    saved = tmp_path / "checkpoints"
    epochs(tiny, tmp_path, until=3)
    shutil.copy(saved / "epoch_000003.npz", saved / "epoch_000004.npz")
    bits, records, computed = epochs(tiny, tmp_path)
    assert (bits, computed) == (undisturbed[0], [3, 4, 5])
    assert [record.epoch for record in records] == list(range(6))


def test_d_two_checkpoints_are_kept_and_those_that_are_asked_for(tiny, undisturbed, tmp_path):
    assert names(undisturbed[2]) == ["epoch_000005.npz", "epoch_000006.npz", "records.jsonl"]
    bits, _, _ = epochs(tiny, tmp_path, keep_every=2)
    assert bits == undisturbed[0]
    assert names(tmp_path) == [*(f"epoch_00000{n}.npz" for n in (2, 4, 5, 6)), "records.jsonl"]
    lines = (tmp_path / "checkpoints/records.jsonl").read_text().splitlines()
    assert len(lines) == 1 + 6


DAMAGES = {
    "the newest state": lambda folder: damage(folder / "epoch_000004.npz"),
    "the last record": lambda folder: damage(folder / "records.jsonl", keep=-30),
    "a line that was not finished": lambda folder: damage(folder / "records.jsonl", more=b'{"record": {"ep'),
    "a record without its state": lambda folder: (folder / "epoch_000004.npz").unlink(),
    "all records": lambda folder: (folder / "records.jsonl").unlink(),
    "a digit of a record": lambda folder: flip(folder / "records.jsonl"),
}
GOES_ON_FROM = dict(zip(DAMAGES, (3, 3, 4, 3, 0, 0), strict=True))


def damage(path, keep=-200, more=b""):
    content = path.read_bytes()
    path.write_bytes(content + more if more else content[:keep])


def flip(path):
    path.write_text(path.read_text().replace('"objective": ', '"objective": 1', 1))


@pytest.mark.parametrize("case", DAMAGES)
def test_d_a_run_goes_on_from_the_last_whole_checkpoint(case, tiny, undisturbed, tmp_path):
    epochs(tiny, tmp_path, until=4)
    DAMAGES[case](tmp_path / "checkpoints")
    bits, records, computed = epochs(tiny, tmp_path)
    assert computed == list(range(GOES_ON_FROM[case], 6))
    assert bits == undisturbed[0]
    assert [r.objective for r in records] == [r.objective for r in undisturbed[1]]
    lines = (tmp_path / "checkpoints/records.jsonl").read_text().splitlines()
    assert [json.loads(line)["record"]["epoch"] for line in lines[1:]] == list(range(6))
    assert names(tmp_path) == ["epoch_000005.npz", "epoch_000006.npz", "records.jsonl"]
    assert epochs(tiny, tmp_path)[1:] == (records, [])


def test_d_a_resume_reads_one_checkpoint(tiny, tmp_path, monkeypatch):
    epochs(tiny, tmp_path, until=5, keep_every=1)
    read, seen = store.read_state, []
    monkeypatch.setattr(store, "read_state", lambda path, *more: seen.append(path.name) or read(path, *more))
    epochs(tiny, tmp_path, keep_every=1)
    assert seen == ["epoch_000005.npz"]


@pytest.mark.parametrize(
    "message",
    [
        Templates({"sr": np.ones((2, 3))}, {"sr": np.ones(3)}),
        Widths({"cut": np.asarray(0.1)}, {}),
        EXACT,
        Columns({"weight": np.ones(4)}),
    ],
    ids=lambda message: type(message).__name__,
)
def test_d_what_came_from_another_process_is_forgotten(message):
    """Equinox holds a module that is made without `__init__`, as pickle does, for ever."""
    sent = pickle.dumps(message)
    received = pickle.loads(sent)
    assert type(received) is type(message)
    np.testing.assert_equal(jax.tree.leaves(received), jax.tree.leaves(message))
    alive = weakref.ref(received)
    del received
    gc.collect()
    assert alive() is None
