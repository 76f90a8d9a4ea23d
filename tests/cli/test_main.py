"""Whatever a user gets wrong ends with one message, a code that is not 0, and no half-written file."""

import contextlib
import itertools
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rootfiles

from pipeline.cli import main
from pipeline.cli.verbs.events import CHECKSUMS
from pipeline.data import checksums

VERBS = {
    "init": ["--folder"],
    "check": ["--set", "--log"],
    "simulate": ["--set", "--log", "--sample", "--index", "--output"],
    "manifest": [
        *("--set", "--log", "--output", "--process", "--tree"),
        *("--generator-weight", "--checksum", "--allow-repeated"),
    ],
    "columns": ["--set", "--log", "--sample", "--index", "--output"],
    "optimise": ["--set", "--log", "--block", "--fold", "--output", "--workers", "--memory-mb"],
    "evaluate": ["--set", "--log", "--output", "--workers", "--memory-mb"],
    "report": ["--set", "--log", "--output", "--figures"],
    "watch": ["--set", "--log", "--every"],
    "estimate": ["--set", "--log", "--workers", "--seconds", "--memory-mb", "--json"],
    "yields": ["--set", "--log", "--parameters", "--fold"],
    "histograms": [
        *("--set", "--log", "--parameters", "--fold", "--output", "--workers", "--memory-mb"),
    ],
    "workspace": [
        *("--set", "--log", "--pseudodata", "--parameters", "--fold", "--output", "--workers", "--memory-mb"),
    ],
    "scan": [
        *("--set", "--log", "--over", "--parameters", "--fold"),
        *("--output", "--workers", "--memory-mb"),
    ],
    "validate": ["--reference"],
    "schema": ["--folder"],
}
VERBS = {verb: [*own, "--debug"] for verb, own in VERBS.items()}
FILE = ["--sample", "signal", "--index", "0"]
PYTHON = [sys.executable, "-m", "pipeline"]


@pytest.fixture
def folder(tmp_path):
    """A working directory with a right run; results go there."""
    rootfiles.write_run(tmp_path)
    (tmp_path / "work").mkdir()
    with contextlib.chdir(tmp_path / "work"):
        yield tmp_path


def run(*arguments):
    """Exit code of the command line; every one ends by SystemExit."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return caught.value.code


def fails(capsys, *arguments, says):
    """It exits with 1 and says so on standard error, without a traceback and without a temporary file."""
    before = files(Path.cwd().parent)
    assert run(*arguments) == 1
    text = capsys.readouterr().err
    assert re.search(says, text, re.DOTALL), text
    assert text.count("error: ") == 1
    assert "Traceback" not in text
    assert files(Path.cwd().parent) == before


def files(folder):
    """Every file of a folder and what it holds."""
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts}


def columns(folder, output="out.parquet", *arguments, sample="signal"):
    return ["columns", folder / "tiny.yaml", "--sample", sample, "--index", 0, "--output", output, *arguments]


def yields(folder, capsys, *arguments):
    assert run("yields", folder / "tiny.yaml", *arguments) == 0
    return json.loads(capsys.readouterr().out)


def test_the_whole_chain_runs(folder, capsys):
    """What all others break: the tiny run, from ROOT files to a state, in this process."""
    for sample in ("signal", "background"):
        assert run(*columns(folder, f"results/tiny/columns/{sample}/0000.parquet", sample=sample)) == 0
    for block in (1, 2):
        output = f"results/tiny/optimise/block_{block}.npz"
        assert run("optimise", folder / "tiny.yaml", "--block", block, "--output", output) == 0
    text = capsys.readouterr().err
    assert "read {'train': " in text
    assert len(re.findall(r"epoch +\d  objective", text)) == 2
    initial = yields(folder, capsys)
    optimised = yields(folder, capsys, "--parameters", "optimised")
    assert initial["parameters"] != optimised["parameters"]


def test_blocks_after_patience_ran_out_do_nothing(folder, capsys):
    """They say so, and what the run ended with is found at the end, by `evaluate` and the report too."""
    for sample in ("signal", "background"):
        assert run(*columns(folder, f"results/tiny/columns/{sample}/0000.parquet", sample=sample)) == 0
    settings = ("epochs=4", "patience=1", "check_every=1", "learning_rate=1e-9")
    changes = [part for text in settings for part in ("--set", f"optimise.{text}")]
    logs, results = [], Path("results/tiny")
    for block in (1, 2, 3, 4):
        output = results / f"optimise/block_{block}.npz"
        assert run("optimise", folder / "tiny.yaml", *changes, "--block", block, "--output", output) == 0
        logs.append(capsys.readouterr().err)
    assert ["epoch     " in log for log in logs] == [True, True, False, False]
    assert ["no epoch, the run is over" in log for log in logs] == [False, False, True, True]
    assert "start 0 ends after 2 epochs by optimise.patience: 1 checks in a row are not better" in logs[1]
    assert yields(folder, capsys, *changes, "--parameters", "optimised")["parameters"] == {"cut": 0.5}
    evaluation = results / "evaluation.json"
    assert run("evaluate", folder / "tiny.yaml", *changes, "--output", evaluation) == 0
    assert "note: No epoch that was checked is better than the start" in capsys.readouterr().err
    found = json.loads((results / "summary.json").read_text())
    assert found["starts"][0] | {"best": 0, "initial": 0} == {
        "epochs": 2, "ended": "patience", "initial": 0, "best": 0, "kept_epoch": 0,
    }  # fmt: skip
    kinds = {flag["kind"] for flag in found["flags"]}
    assert kinds >= {"start_kept", "vanished_gradient"}
    assert not kinds & {"plateau", "no_exact_objective", "at_bound", "no_derivative"}
    page, figures = results / "report.html", results / "figures"
    assert run("report", folder / "tiny.yaml", *changes, "--output", page, "--figures", figures) == 0
    assert "The run ended\nafter" in page.read_text()


def test_yields_are_those_of_numpy(folder, capsys):
    found = yields(folder, capsys, "--set", "cut=0.25")
    for number, sample in enumerate(("signal", "background")):
        made = rootfiles.arrays(seed=number)
        for variation, scale in (("nominal", 1.0), ("x_up", 1.1)):
            expected = made["w"][made["x"].astype(float) * scale > 0.25].sum(dtype=float)
            assert np.isclose(found["yields"]["all"][sample][variation][0], expected, rtol=1e-12)
    assert yields(folder, capsys, "--set", "parameters.cut=0.25")["yields"] == found["yields"]


@pytest.mark.parametrize("verb", VERBS)
def test_help(verb, capsys):
    assert run(verb, "--help") == 0
    text = capsys.readouterr().out.partition("\nOptions:\n")[2]
    for option in VERBS[verb]:
        explanation = re.search(rf"^  {option}\b(.*?)(?=^  -|\Z)", text, re.DOTALL | re.MULTILINE)
        assert explanation, option
        assert re.search(r"\((required|default: .+)\)", " ".join(explanation[1].split())), explanation[0]
    assert set(re.findall(r"^  (--[a-z-]+)", text, re.MULTILINE)) == set(VERBS[verb])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "a verb is required; choose from init, check, simulate, manifest, columns, .*schema"),
        (["colums"], r"there is no verb 'colums'; choose from .*columns"),
        (["columns"], "the following are required: CONFIG, --sample, --index, --output"),
        (["columns", "--index", "0"], r"the following are required: CONFIG, --sample, --output\n"),
        (["scan", "a.yaml", "--output", "b"], r"the following are required: --over\n"),
        (["schema", "--folder", "a", "b"], r"unexpected extra argument \(b\)"),
        (["columns", "--sampel", "a"], r"No such option.*--sampel.*--sample"),
        (
            ["columns", "a.yaml", "--output", "b", "--sample", "c", "--index", "-1"],
            "'--index': '-1' is not a whole number of 0",
        ),
        (
            ["optimise", "a.yaml", "--output", "b", "--block", "x"],
            "'--block': 'x' is not a whole number of 1 or more",
        ),
        (
            ["optimise", "a.yaml", "--output", "b", "--workers", "0"],
            "'--workers': '0' is not a whole number of 1",
        ),
        (
            ["yields", "a.yaml", "--fold", "test"],
            "'--fold': 'test' is not one of 'all', 'train', 'held_out'",
        ),
    ],
)
def test_wrong_usage(arguments, says, capsys):
    assert run(*arguments) == 2
    assert re.search(says, capsys.readouterr().err)


def test_names_that_the_command_line_repeats_are_those_of_the_modules():
    """It names them itself, so that --help need not import what takes seconds."""
    assert tuple(checksums.DIGITS) == CHECKSUMS


def test_an_option_is_no_value_of_another(capsys):
    assert run("columns", "a.yaml", "--output", "--log", "b") == 2
    assert "--output requires a value, and --log is an option" in capsys.readouterr().err


def test_help_is_quick():
    """No stage, no JAX and no ROOT reader is imported for it."""
    code = "import sys; from pipeline.cli import main; main([*sys.argv[1:], '--help'])"
    command = [sys.executable, "-X", "importtime", "-c", code]
    for arguments in ([], ["manifest"]):
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
        found = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        assert "click" in found
        assert not found & {"numpy", "jax", "uproot", "pydantic", "rich"}


def test_python_users_get_ordinary_logging():
    """Nothing is printed by default; a handler of the user's own gets the lines."""
    code = """if True:
        import logging, sys
        import pipeline
        logging.getLogger("pipeline.columns.make").warning("unheard")
        logging.basicConfig(stream=sys.stdout, format="%(name)s: %(message)s")
        logging.getLogger("pipeline.columns.make").warning("heard")
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("pipeline.columns.make: heard\n", "")


def test_version(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("thalweg ")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("titel=x", r"tiny\.yaml:\n  titel: unknown key; nearest: 'title'"),
        ("parameters.cut=5", r"parameters\.cut: value 5\.0 is outside its bounds \[0\.0, 1\.0\] GeV"),
        ("parameters.cot=5", r"parameters\.cot: no such free parameter; nearest: 'cut'"),
        (
            "data.samples.singal={}",
            r"sample 'singal' of data\.samples is not in manifest .*nearest: 'signal'",
        ),
        (
            "model.systematics=[{name: a, type: NormPlusShape, up: x_upp}]",
            "no variation 'x_upp', .*; nearest: 'x_up'",
        ),
        ("analysis.target=no.py:Tiny", r"analysis\.target 'no\.py:Tiny': there is no file no\.py"),
        ("analysis.target=no_module:Tiny", "no module 'no_module'; is it on PYTHONPATH"),
        (
            "analysis.options={object: 3}",
            r"analysis\.options and analysis\.files \{\"object\": 3\} do not fit .*unexpected keyword",
        ),
        ("data.manifest=no.json", r"data\.manifest: no\.json cannot be read: No such file"),
    ],
)
def test_wrong_configurations_are_found_before_reading(override, says, folder, capsys):
    fails(capsys, *columns(folder, "out.parquet", "--set", override), says=says)


@pytest.mark.parametrize(
    ("name", "says"),
    [("Tin", "no class 'Tin' in .*nearest: 'Tiny'"), ("NoAnalysis", "not a subclass of pipeline")],
)
def test_wrong_class(name, says, folder, capsys):
    arguments = columns(folder, "out.parquet", "--set", f"analysis.target={folder}/tiny.py:{name}")
    fails(capsys, *arguments, says=says)


def test_analysis_that_is_no_python(folder, capsys):
    (folder / "broken.py").write_text("import os\ndef columns(:\n    pass\n")
    arguments = columns(folder, "out.parquet", "--set", f"analysis.target={folder}/broken.py:Tiny")
    fails(capsys, *arguments, says=r"SyntaxError in .*broken\.py, line 2: def columns\(:")


def test_yields_of_wrong_points(folder, capsys):
    config = folder / "tiny.yaml"
    fails(
        capsys,
        "yields",
        config,
        "--set",
        "cut=5",
        says=r"cut: value 5\.0 is outside its bounds \[0\.0, 1\.0\]",
    )
    fails(capsys, "yields", config, "--set", "cut=.nan", says="cut: value nan is outside")
    fails(capsys, "yields", config, "--set", "cut=high", says="--set cut=high: .* is a number")
    fails(capsys, "yields", config, "--set", "cot=0.3", says="--set cot: no free parameter .*nearest: 'cut'")
    fails(capsys, "yields", config, "--set", "data.lumi=3", says=r"data\.lumi: unknown key")
    fails(
        capsys,
        "yields",
        config,
        "--set",
        "parameters.cut=-1",
        says=r"parameters\.cut: value -1\.0 is outside",
    )
    fails(
        capsys,
        "yields",
        config,
        "--set",
        "channels={al: {}}",
        says=r"channels\.al: Tiny observes no such channel",
    )
    fails(capsys, "yields", config, "--parameters", "optimised", says=r"column file .* does not exist")


def test_wrong_numbers_of_files_and_blocks(folder, capsys):
    config = folder / "tiny.yaml"
    arguments = ["columns", config, "--output", "a.parquet"]
    fails(
        capsys,
        *arguments,
        "--sample",
        "sgnal",
        "--index",
        0,
        says="'sgnal'; it has the samples 'background', 'signal'",
    )
    fails(
        capsys,
        *arguments,
        "--sample",
        "signal",
        "--index",
        1,
        says="no job 1 of sample 'signal'; it has 1 of them, counted from 0",
    )
    fails(
        capsys,
        "optimise",
        config,
        "--block",
        3,
        "--output",
        "a.npz",
        says="--block 3: .* has the blocks 1 to 2",
    )
    fails(capsys, "manifest", config, "--output", "a.json", says="no section simulate")
    fails(
        capsys, "simulate", config, *FILE, "--output", "a.root", says=r"no section simulate\.samples\.signal"
    )


def test_start_arrays_are_drawn_by_the_first_job_alone(folder, capsys):
    """A wrong `init` is known before events are read for hours, and no other job pays for the weights of a network."""
    source = folder / "tiny.py"
    drawing = "    def init(self, key):\n        raise ValueError('drawn')\n\n    def variations"
    source.write_text(source.read_text().replace("    def variations", drawing))
    assert run(*columns(folder, sample="signal")) == 0
    capsys.readouterr()
    fails(
        capsys,
        *columns(folder, sample="background"),
        says=r"ValueError in Tiny\.init\(key\): drawn.*tiny\.py",
    )


def test_a_columns_job_imports_only_what_it_needs(folder):
    """There may be thousands of them, and each of these takes longer than a small file."""
    code = f"""
import sys
from pipeline.cli import main
try:
    main({[str(argument) for argument in columns(folder)]})
finally:
    print(*({{"aiohttp", "matplotlib", "optax", "pandas", "pyhf", "scipy.stats", "distributed"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


@pytest.mark.parametrize("damage", ["gone", "cut", "text", "tree", "branch", "empty", "nan"])
def test_wrong_input_leaves_the_old_output_alone(damage, folder, capsys):
    """It fails; what an earlier run wrote is not touched, and no part of a new file is there."""
    path = folder / "signal.root"
    assert run(*columns(folder)) == 0
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "text":
        path.write_text("no ROOT file")
    else:
        change = {
            "tree": {"tree": "tree"},
            "branch": {"w": None},
            "empty": {"events": 0},
            "nan": {"w": np.full(200, np.nan)},
        }
        rootfiles.write(path, **change[damage])
    capsys.readouterr()
    fails(capsys, *columns(folder), says=rf"error: sample 'signal': .*{path.name}")


@pytest.mark.parametrize("place", ["missing/deeper/out.parquet", "out"])
def test_output_that_cannot_be_written(place, folder, capsys):
    Path("missing").touch()
    Path("out").mkdir()
    fails(capsys, *columns(folder, place), says=rf"cannot write {place}: ")


def test_log_that_cannot_be_written(folder, capsys):
    Path("file").touch()
    before = files(folder)
    assert str(run(*columns(folder, "a.parquet", "--log", "file/a.log"))).startswith(
        "error: cannot write file/a.log:"
    )
    assert files(folder) == before


def test_the_log_holds_the_message(folder, capsys):
    assert run(*columns(folder, "a.parquet", "--log", "logs/a.log", "--set", "titel=x")) == 1
    assert Path("logs/a.log").read_text() == capsys.readouterr().err
    assert "titel: unknown key" in Path("logs/a.log").read_text()


def damages(path):
    data = path.read_bytes()
    return [data[: len(data) // 2], data[:-1], data[:200] + bytes([data[200] ^ 1]) + data[201:], b""]


def test_damaged_files_of_an_earlier_stage(folder, capsys):
    """Cut, empty, or with one bit flipped; and gone."""
    for sample in ("signal", "background"):
        assert run(*columns(folder, f"results/tiny/columns/{sample}/0000.parquet", sample=sample)) == 0
    path = Path("results/tiny/columns/signal/0000.parquet")
    optimise = ["optimise", folder / "tiny.yaml", "--output", "results/tiny/optimise/block_1.npz"]
    whole = path.read_bytes()
    capsys.readouterr()
    for content in damages(path):
        path.write_bytes(content)
        fails(
            capsys, *optimise, says=rf"column file {path.absolute()} is damaged|column file {path} is damaged"
        )
    path.unlink()
    fails(capsys, *optimise, says=rf"{path} does not exist; run the `columns` stage first")
    path.write_bytes(whole)
    assert run(*optimise) == 0
    path = Path(optimise[-1])
    capsys.readouterr()
    second = ["optimise", folder / "tiny.yaml", "--block", 2, "--output", "results/tiny/optimise/block_2.npz"]
    for content in damages(path):
        path.write_bytes(content)
        fails(capsys, *second, says=rf"state file {path} is damaged or was not written by this program")
    path.unlink()
    fails(capsys, *second, says=rf"{path} does not exist; run the `optimise` stage first")


def test_interrupted(folder, capsys):
    target = rootfiles.write_analysis(folder, "slow.py", columns="raise KeyboardInterrupt")
    before = files(folder)
    assert run(*columns(folder, "a.parquet", "--set", f"analysis.target={target}")) == 130
    assert "interrupted" in capsys.readouterr().err
    assert files(folder) == before


def test_exceptions_of_the_analysis_keep_their_traceback(folder, capsys):
    """The log file holds all of it, with a note that names method, sample and file."""
    target = rootfiles.write_analysis(folder, "raising.py", columns="events.no_such_branch")
    arguments = columns(folder, "a.parquet", "--log", "a.log", "--set", f"analysis.target={target}")
    assert run(*arguments) == 1
    said = capsys.readouterr().err
    assert re.search("error: .*AttributeError.*no_such_branch", said)
    assert "Traceback" not in said
    text = Path("a.log").read_text()
    assert "raising.py" in text
    assert re.search(rf"in Tiny\.columns\(events, 'signal'\).* on \d+ events of {folder}/signal\.root", text)
    assert not Path("a.parquet").exists()


def test_an_exception_in_a_compiled_program_is_the_analysiss_too(folder, capsys):
    target = rootfiles.write_analysis(
        folder,
        "looking.py",
        observe="from pipeline.analysis import lookup\n"
        "return {'all': Observation(weight=c.weight * lookup(c, lambda x: {}['table'], c.x))}",
    )
    arguments = ("yields", folder / "tiny.yaml", "--set", f"analysis.target={target}")
    fails(capsys, *arguments, says=r"error: KeyError in the function of a lookup.*looking\.py, line \d+")


def test_a_workspace_without_an_optimisation(folder, capsys):
    output = Path("workspace.json")
    assert run("workspace", folder / "tiny.yaml", "--output", output, "--workers", 1) == 0
    assert "preselected events, channels 'all', in workspace.json" in capsys.readouterr().err
    found, counted = json.loads(output.read_text()), yields(folder, capsys)["yields"]["all"]
    templates = {own["name"]: own["data"] for own in found["channels"][0]["samples"]}
    assert templates == {name: own["nominal"] for name, own in counted.items()}
    asimov = [sum(own["nominal"][0] for own in counted.values())]
    assert found["observations"] == [{"name": "all", "data": pytest.approx(asimov)}]
    model = ("--set", "model.pseudodata={signal: 2}")
    assert run("workspace", folder / "tiny.yaml", *model, "--pseudodata", "--output", output) == 0
    (observed,) = json.loads(output.read_text())["observations"]
    assert observed["data"] == pytest.approx([2 * counted["signal"]["nominal"][0]])


WIDER = "[{name: scale, type: NormPlusShape, up: x_up, constraint_width: 2}]"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--pseudodata"], r"model\.pseudodata: it is empty"),
        (["--set", f"model.systematics={WIDER}"], "constraint_width of 'scale' is not 1"),
    ],
)
def test_a_workspace_that_cannot_be(folder, capsys, arguments, says):
    fails(capsys, "workspace", folder / "tiny.yaml", *arguments, "--output", "workspace.json", says=says)


def test_reference_without_a_place(folder, capsys):
    fails(capsys, "schema", "--folder", folder, says=r"README\.md cannot be read: No such file")


def spawned(*arguments, **settings):
    """A process of its own, as Snakemake starts it."""
    return subprocess.Popen(
        [str(argument) for argument in arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **settings,
    )


def test_process_with_wrong_input(folder):
    (folder / "signal.root").write_text("no ROOT file")
    process = spawned(*PYTHON, *columns(folder))
    _, text = process.communicate(timeout=60)
    assert process.returncode == 1
    assert text.startswith("error: sample 'signal': ")
    assert len(text.splitlines()) == 1


def test_process_on_a_full_disk(folder):
    """A limit on the size of files is as near to it as an ordinary user gets."""
    Path("a.parquet").write_text("old")
    command = 'ulimit -f 1; exec "$0" "$@"'
    process = spawned("bash", "-c", command, *PYTHON, *columns(folder, "a.parquet"))
    _, text = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.fullmatch(
        r"error: cannot write a\.parquet: .*check that the folder can be written and has space\n", text
    )
    assert {p.name: p.read_text() for p in Path.cwd().iterdir()} == {"a.parquet": "old"}


def test_process_that_is_terminated(folder):
    """By the batch system, in the middle of an epoch: finished epochs stay, nothing is half written."""
    log = Path("log")
    for sample in ("signal", "background"):
        assert run(*columns(folder, f"results/tiny/columns/{sample}/0000.parquet", sample=sample)) == 0
    many = ["--set", "optimise.epochs=100000", "--set", "optimise.epochs_per_job=100000"]
    process = spawned(*PYTHON, "optimise", folder / "tiny.yaml", "--output", "a.npz", "--log", log, *many)
    for _ in itertools.takewhile(lambda _: process.poll() is None, range(600)):
        if log.exists() and "epoch     3" in log.read_text():
            break
        time.sleep(0.1)
    process.terminate()
    _, text = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, text
    said = [line for line in text.splitlines() if not line.startswith(("epoch ", "compiling "))]
    assert said[1:] == ["terminated by SIGTERM; finished files stay, the same command goes on from there"]
    assert not [path for path in Path.cwd().rglob("*") if path.suffix == ".tmp" or path.name == "a.npz"]
