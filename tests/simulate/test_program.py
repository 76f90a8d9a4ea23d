"""A command, Snakemake's among them, as a stage without a derivative."""

import sys

import numpy as np
import pytest

from pipeline.errors import ConfigError, InputError
from pipeline.simulate.program import Program

SCRIPT = """
import sys
import numpy as np
import uproot

source, made, scale, seed = sys.argv[1:]
events = uproot.open(source)["Events"].arrays(library="np")
noise = np.random.default_rng(int(seed)).standard_normal(len(events["x"]))
with uproot.recreate(made) as file:
    file["Events"] = {"y": float(scale) * events["x"] + noise, "sums": events["jets"].sum(axis=1)}
"""
RULE = """
rule detector:
    input: config["events"], script=config["script"]
    output: config["made"]
    shell: "{config[python]} {input.script} {input[0]} {output} {config[scale]} {config[seed]}"
"""
COLUMNS = {"x": np.arange(5, dtype=np.float32), "jets": np.arange(10, dtype=np.float32).reshape(5, 2)}


@pytest.fixture
def script(tmp_path):
    (tmp_path / "detector.py").write_text(SCRIPT)
    return tmp_path / "detector.py"


def expected(scale, seed):
    noise = np.random.default_rng(seed).standard_normal(5)
    return {"y": scale * COLUMNS["x"].astype(float) + noise, "sums": COLUMNS["jets"].sum(axis=1)}


def assert_made(program):
    found = program({"scale": 2.5}, COLUMNS, np.random.default_rng(4))
    for name, array in expected(2.5, int(np.random.default_rng(4).integers(1 << 31))).items():
        np.testing.assert_allclose(found[name], array)


def test_a_command(script):
    assert_made(Program(f"{sys.executable} {script} {{input}} {{output}} {{scale}} {{seed}}", ("y", "sums")))


@pytest.mark.workflow
def test_a_rule_of_snakemake(script, tmp_path):
    (tmp_path / "detector.smk").write_text(RULE)
    command = (
        f"{sys.executable} -m snakemake --snakefile {tmp_path}/detector.smk --directory {{folder}} --cores 1 --config "
        f"python={sys.executable} script={script} events={{input}} made={{output}} scale={{scale}} seed={{seed}} "
        "-- {output}"
    )
    assert_made(Program(command, ("y", "sums")))


@pytest.mark.parametrize(
    ("command", "error", "message"),
    [
        ("echo {input} {output} {scales} {seed}", ConfigError, r"no field \{scales\}; nearest: 'scale'"),
        ("no_such_program {input}", InputError, "'no_such_program' cannot be started"),
        (f"{sys.executable} -c 'import nothing_here'", InputError, "No module named 'nothing_here'"),
        (f"{sys.executable} -c pass", InputError, "cannot be read from the tree 'Events' of its output"),
        ("cp {input} {output}", InputError, "branch 'y' cannot be read"),
    ],
)
def test_a_command_that_makes_nothing_says_why(command, error, message):
    with pytest.raises(error, match=message):
        Program(command, ("y",))({"scale": 1.0}, COLUMNS, np.random.default_rng(1))


def test_a_branch_with_another_number_of_entries(tmp_path):
    script = tmp_path / "short.py"
    script.write_text(SCRIPT.replace(' + noise, "sums": events["jets"].sum(axis=1)', "[1:]"))
    program = Program(f"{sys.executable} {script} {{input}} {{output}} {{scale}} {{seed}}", ("y",))
    with pytest.raises(InputError, match="not one number for each of the 5 events"):
        program({"scale": 1.0}, COLUMNS, np.random.default_rng(1))
