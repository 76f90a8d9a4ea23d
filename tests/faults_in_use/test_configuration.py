"""What was wrong without a word, without an end or without a sentence in configurations, texts and numbers."""

import contextlib
import json
import os
import subprocess
import sys
import time

import hypothesis.strategies as st
import pytest
import rootfiles
import yaml
from columnfiles import write_columns
from hypothesis import example, given

from pipeline import config
from pipeline.cli import main
from pipeline.config import parse_value, textfiles, written
from pipeline.data import datasets, store
from pipeline.errors import ConfigError, InputError, OutputError
from pipeline.gradient.work import prepare_work
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.width_names import missing_names

SECONDS = 30.0  # of the longest refusal: an input without end takes longer


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A right configuration."""
    return rootfiles.write_run(tmp_path_factory.mktemp("run"))


def refused(path, override, says):
    with pytest.raises(ConfigError, match=says) as caught:
        config.load(path, [override])
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("parameters={cut: true}", r"parameters\.cut: .*valid number \(got True\)"),
        ("parameters={cut: '0.5'}", r"parameters\.cut: .*valid number, without quotes \(got '0\.5'\)"),
        (
            "model.normfactors=[{name: mu, samples: [signal], bounds: [no, yes]}]",
            r"bounds\.0: .*\(got 'no'\)",
        ),
        (
            "model.normfactors=[{name: mu, samples: [signal], bounds: [false, true]}]",
            r"bounds\.1: .*\(got True\)",
        ),
        ("data.samples.signal.cross_section_pb=010", r"'010' is an octal number to some.*write 10 or 0o10"),
        ("data.samples.signal.cross_section_pb=-007", r"'-007' is an octal number to some"),
        ("data.samples.signal.cross_section_pb=1:30", r"cross_section_pb: .*valid number.*\(got '1:30'\)"),
        ("data.samples.signal.cross_section_pb=1_000", r"cross_section_pb: .*valid number.*\(got '1_000'\)"),
        ("data.samples.signal.cross_section_pb=1e999", r"1e999' is beyond what 64 bits hold"),
        ("data.max_files_per_process=true", r"max_files_per_process: .*valid integer \(got True\)"),
        ("channels.all.edges=[false, true]", r"channels\.all\.edges\.0: .*valid number \(got False\)"),
        ("channels.all.histogram={bins: true, low: 0, high: 1}", r"histogram\.bins: .*valid integer"),
        ("cluster.objects={jet: [true]}", r"cluster\.objects\.jet\.0: .*valid integer"),
        ("surrogate={hidden: [true]}", r"surrogate\.hidden\.0: .*valid integer"),
        ("model.pseudodata={signal: true}", r"pseudodata\.signal: .*valid number \(got True\)"),
        ("objective={kind: upper_limit, band: true}", r"objective\.band: .*valid integer \(got True\)"),
        (
            "model.systematics=[{name: a, type: Normalization, up: 0.1, down: true}]",
            r"systematics\.0\.down: .*valid number \(got True\)",
        ),
        (
            "model.systematics=[{name: a, type: Normalization, up: 0.1, down: 0, constraint_width: true}]",
            r"constraint_width: .*valid number \(got True\)",
        ),
        ("evaluate={also: {b: {model: {}, objective: {kind: cls, mu: true}}}}", r"also\.b\.objective\.mu: "),
        ("model.mc_statistics=yes", r"mc_statistics: write true or false \(got 'yes'\)"),
        ("model.mc_statistics=1", r"mc_statistics: write true or false \(got 1\)"),
    ],
)
def test_a16_numbers_are_numbers_and_truth_values_are_not(path, override, says):
    refused(path, override, says)


def test_a16_numbers_by_the_rules_of_yaml_1_2(path):
    text = (
        "{a: 1e-3, b: 1E3, c: 0o10, d: 0x1F, e: .5, f: 12e03, g: 10, h: on, i: 1:30, j: 2026-11-22, k: Off}"
    )
    read = {"a": 0.001, "b": 1000.0, "c": 8, "d": 31, "e": 0.5, "f": 12000.0, "g": 10}
    assert parse_value(text, "") == {**read, "h": "on", "i": "1:30", "j": "2026-11-22", "k": "Off"}
    loaded = config.load(path, ["optimise.epochs=2e1", "channels.all.label=yes", "data.luminosity_per_pb=2"])
    assert (loaded.optimise.epochs, loaded.channels["all"].label) == (20, "yes")


def test_b_options_arrive_as_the_numbers_they_are(path):
    options = config.load(
        path, ["analysis.options={a: 1e-3, b: '1e-3', c: yes, d: true, e: [1, 2.5]}"]
    ).analysis
    assert json.loads(options.options_json) == {"a": 0.001, "b": "1e-3", "c": "yes", "d": True, "e": [1, 2.5]}


def bomb(levels):
    """Nine aliases of nine aliases of ...: 9^levels values."""
    lines = [f"k{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(["k0: &a0 [x, x]", *lines])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (bomb(30), r"line 5: .*more than 20000 values, its aliases written out"),
        ("a: &a [*a]", r"alias \*a stands before its anchor or inside it"),
        ("title: " + "[" * 900 + "]" * 900, r"line 1: .*nested more than 100 levels"),
        ("title: " + "{a: " * 900 + "}" * 900, r"nested more than 100 levels"),
        ("- " * 900, r"nested more than 100 levels"),
        ("a: 1\nb: " + "9" * 4300, r"line 2: .*whole number '9+\.\.\. is too large"),
        ("a: 0x" + "f" * 4300, r"is too large"),
        ("a: 1\n? [1, 2]\n: 3", r"line 2: .*a list stands where a key is expected"),
        ("{a: 1}: 2", r"line 1: .*a mapping stands where a key is expected"),
        ("a: 1\nb: 2\na: 3", r"line 3: .*key 'a' appears twice"),
        ("a: {x: 1, x: 2}", r"line 1: .*key 'x' appears twice"),
        ("a: &a {x: 1}\nb: {<<: *a}", r"line 2: .*merge keys"),
        ("a: !!binary aGVs", r"line 1: .*the tag tag:yaml.org,2002:binary is not read"),
        ("a: !!set {x}", r"the tag tag:yaml.org,2002:set"),
        ("a: !!python/name:os.system x", r"the tag tag:yaml.org,2002:python/name:os.system"),
        ("a: 1\n---\nb: 1", r"line 2: .*a second document begins"),
        ("%YAML 1.1\n---\na: 1", r"rules of 1\.2; remove the line %YAML"),
        ("a:\t1", r"line 1: .*'\\t' that cannot start"),
        ('a: "\\0"', r"line 1: .*U\+0000"),
        ('a: "\\ud800"', r"line 1: .*U\+D800"),
        ("a: \ud800", r"line 1: .*U\+D800"),
        ("a: 1\nb: \x07", r"line 2: .*U\+0007"),
        ('a: "\\UFFFFFFFF"', r"not valid YAML"),
    ],
)
def test_b_yaml_has_an_end_and_a_line(text, says):
    begun = time.monotonic()
    with pytest.raises(ConfigError, match=rf"(?s)^file.*{says}") as caught:
        parse_value(text, "file")
    assert time.monotonic() - begun < SECONDS
    assert len(str(caught.value)) < 1000


def test_b_anchors_within_reason_are_read():
    assert parse_value("a: &a [1, 2]\nb: *a\nc: {d: *a}", "") == {
        "a": [1, 2],
        "b": [1, 2],
        "c": {"d": [1, 2]},
    }


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_subnormal=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
    | st.sampled_from(["010", "1:30", "yes", "~", "<<", "1e-3", "0x1", ".inf", "", "-", "1_0", "null", "True"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab1 #:", max_size=4), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@given(VALUES)
@example("\x85")
@example({"a": "b\u2028c"})
def test_a16_what_the_report_shows_of_a_configuration_reads_back(value):
    assert parse_value(written(value), "") == value


@given(
    st.recursive(st.integers(-99, 99) | st.booleans() | st.text("abcxyz", min_size=2), st.lists, max_leaves=9)
)
def test_a16_another_reader_of_yaml_agrees_where_versions_do(value):
    assert parse_value(yaml.safe_dump(value), "") == yaml.safe_load(yaml.safe_dump(value)) == value


@pytest.mark.parametrize(
    "override",
    [
        "optimise.epochs=1000000000000000000",
        "simulate={seed: 1, samples: {a: {files: 1000000000000000000, events_per_file: 1}}}",
        "channels.all.histogram={bins: 1000000000000000000, low: 0, high: 1}",
        "evaluate.bootstrap=1000000000000000000",
        "data.read_attempts=1000000000000000000",
        "optimise.halvings=1000000000000000000",
        "surrogate.steps=1000000000000000000",
        "cluster.workers=1000000000000000000",
        "optimise.seed=18446744073709551615",
    ],
)
def test_b_counts_have_an_end(path, override):
    refused(path, override, r"less than")


@pytest.mark.parametrize("make", ["pipe", "folder", "device"])
def test_b_only_ordinary_files_are_opened(path, tmp_path, make):
    place = {"pipe": tmp_path / "pipe", "folder": tmp_path, "device": "/dev/zero"}[make]
    if make == "pipe":
        os.mkfifo(place)
    for function, arguments, error in (
        (config.load, (textfiles.Path(place),), ConfigError),
        (store.read_json, (textfiles.Path(place),), InputError),
        (store.read_state, (textfiles.Path(place),), InputError),
        (store.read_provenance, (textfiles.Path(place),), InputError),
    ):
        with pytest.raises(error, match=rf"is a {make} and no ordinary file"):
            function(*arguments)


def test_b_files_of_another_size_or_encoding(tmp_path):
    place = tmp_path / "run.yaml"
    with place.open("wb") as file:
        file.truncate(10**9)
    with pytest.raises(ConfigError, match="has 1000 MB, at most 1 are allowed; is it the right file"):
        config.load(place)
    with pytest.raises(InputError, match="has 1000 MB, at most 500 are allowed"):
        store.read_json(place)
    place.write_text("run: é", encoding="utf-16")
    with pytest.raises(ConfigError, match=r"is no text file in UTF-8 .*; save it as UTF-8"):
        config.load(place)
    place.write_bytes(b"\xef\xbb\xbfrun: x\n")  # a byte order mark
    assert config.read_yaml(place, "") == {"run": "x"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000, "nested more than 100 levels"),
        ("[" * 900 + "]" * 900, "nested more than 100 levels"),
        ('{"a":' * 101 + "1" + "}" * 101, "nested more than 100 levels"),
        ("[" + "9" * 5000 + "]", r"the whole number '9+\.\.\. is too large"),
        ("[NaN]", "NaN is no number"),
        ("[1, -Infinity]", "-Infinity is no number"),
        ("[1e999]", "'1e999' is beyond what 64 bits hold"),
        ('["\\u0000"]', r"holds the character U\+0000"),
        ('[{"\\ud800": 1}]', r"holds the character U\+D800"),
    ],
)
def test_b_json_has_an_end_and_numbers(tmp_path, text, says):
    place = tmp_path / "a.json"
    place.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=rf"a\.json is not JSON: .*{says}"):
        store.read_json(place)


@pytest.mark.parametrize(
    "text", ["[" * 100 + "]" * 100, '["\\ud83d\\ude00", 18446744073709551615, -0.5, null]']
)
def test_b_json_within_reason_is_read(tmp_path, text):
    place = tmp_path / "a.json"
    place.write_text(text, encoding="utf-8")
    assert store.read_json(place) == json.loads(text)


LONG = "x" * 5000


@pytest.mark.parametrize(
    "override",
    [
        f"data.manifest={LONG}",
        f"analysis.files={{a: {LONG}}}",
        f"analysis.target={LONG}.py:A",
        f"run={LONG}",
        f"simulate.generator={LONG}.py:f",
        f"analysis.target={'a.' * 2000}b:A",
        'data.manifest="a\\0b"',
        'run="a\\ud800"',
        'cluster.scratch="\\0"',
        'data.prefixes={"\\0": a}',
    ],
)
def test_b_paths_that_no_file_has(path, override):
    refused(
        path,
        override,
        r"File name too long|at most 120 characters|holds the character U\+|required|write module:Class",
    )


@pytest.mark.parametrize("place", [LONG, "a\0b", "a\ud800", "a/" * 3000])
def test_b_paths_on_the_command_line(place, capsys, tmp_path):
    for flag in ("--output", "--log"):
        with pytest.raises(SystemExit, match="2"):
            main(["columns", "a.yaml", "--sample", "s", "--index", "0", flag, place])
        error = capsys.readouterr().err.splitlines()[-1]
        assert f"Invalid value for '{flag}': " in error
        assert len(error) < 300
    with pytest.raises(OutputError, match=r"cannot write"):
        store.write_text(tmp_path / place, "")
    with pytest.raises(
        ConfigError, match=r"configuration .* (is no path|File name too long)|File name too long"
    ):
        config.load(tmp_path / place)


def test_b_paths_in_manifests(path, tmp_path):
    place = tmp_path / "manifest.json"
    own = {name: {"nominal": {"files": [{"path": LONG, "nevts": 1}]}} for name in ("signal", "background")}
    place.write_text(json.dumps(own), encoding="utf-8")
    with pytest.raises(InputError, match=r"manifest\.json.*'path' 'x+\.\.\. is none that a file can have"):
        datasets.columns_jobs(config.load(path, [f"data.manifest={place}"]))


def test_b_text_is_utf_8_whatever_the_locale(tmp_path, path):
    program = """if True:
        import logging
        import sys
        from pathlib import Path
        from pipeline import config
        from pipeline.cli.progress import logged
        from pipeline.data import store
        run = config.load(Path(sys.argv[1]), [])
        store.write_text(Path("page.html"), run.title)
        store.write_json(Path("a.json"), {"title": run.title})
        assert store.read_json(Path("b.json")) == run.title
        with logged(Path("log")):
            logging.getLogger("pipeline").info(run.title + chr(0xDC80))
    """
    title = "Δη → ü"
    (tmp_path / "run.yaml").write_text(f"extends: {path}\ntitle: {title}\n", encoding="utf-8")
    (tmp_path / "b.json").write_text(f'"{title}"', encoding="utf-8")
    for name in ("C", "en_US.ISO-8859-1"):
        settings = {
            "LC_ALL": name,
            "PYTHONUTF8": "0",
            "PYTHONCOERCECLOCALE": "0",
            "PYTHONIOENCODING": "ascii",
        }
        command = [
            sys.executable,
            "-X",
            "utf8=0",
            "-W",
            "error::EncodingWarning",
            "-X",
            "warn_default_encoding",
        ]
        done = subprocess.run(
            [*command, "-c", program, "run.yaml"],
            env={**os.environ, **settings, "PYTHONPATH": os.pathsep.join(sys.path)},
            cwd=tmp_path, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "page.html").read_text(encoding="utf-8") == title
        assert (tmp_path / "log").read_text(encoding="utf-8") == f"{title}\\udc80\n"
        assert b"\\u0394" in done.stderr


FREE_EDGES = (
    "channels.all={edges: [0, 1, 2], bandwidth: {initial: 0.1, final: 0.1}, free_edges: {smallest: 1e-17}}"
)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (
            ["widths.cut.final=1.0e-320"],
            r"line 1: .*'1\.0e-320' is beyond what 64 bits hold with full precision",
        ),
        (
            ["widths.cut.final=1.0e-300"],
            r"widths\.cut\.final: 1e-300 is below 1\.2e-07, .*bounds from 0 to 1 resolve",
        ),
        (["widths.cut.final=1e-8"], r"widths\.cut\.final: 1e-08 is below 1\.2e-07"),
        (
            ["widths.cut.initial=1e308"],
            r"widths\.cut\.initial: 1e\+308 is above 8\.4e\+06, .*make no difference",
        ),
        (["widths.soft={initial: 0.1, final: 1e-200}"], r"widths\.soft\.final: 1e-200 is below"),
        (["widths.soft={initial: 1e-200, final: 1e-200}"], r"widths\.soft\.final: 1e-200 is below"),
        (["widths.soft={initial: 1e200, final: 1e190}"], r"widths\.soft\.initial: 1e\+200 is above"),
        (
            ["cluster.precision=float32", "widths.soft={initial: 1e-20, final: 1e-20}"],
            r"widths\.soft\.final: 1e-20 is below what float32 resolves",
        ),
        (
            ["channels.all={edges: [0, 200], bandwidth: {initial: 1, final: 1e-9}}"],
            r"channels\.all\.bandwidth\.final: 1e-09 is below 2\.4e-05, .*edges from 0 to 200",
        ),
        (
            ["channels.all={edges: [0, 200], bandwidth: {initial: 1, final: 1e-9, unit: bin}}"],
            r"channels\.all\.bandwidth\.final: 1e-09 is below 1\.2e-07",
        ),
        (
            [
                "cluster.precision=float32",
                "channels.all={edges: [1e6, 1000001], bandwidth: {initial: 1, final: 0.1}}",
            ],
            r"channels\.all\.bandwidth\.final: 0\.1 is below 0\.12",
        ),
        ([FREE_EDGES], r"channels\.all\.free_edges\.smallest: 1e-17 is below"),
        (["optimise.learning_rate=1e-300"], r"optimise\.learning_rate: 1e-300 is below 2\.2e-16"),
    ],
)
def test_a18_sizes_that_nothing_resolves(path, overrides, says):
    with pytest.raises(ConfigError, match=says):
        initial_parameters(config.load(path, overrides))


@pytest.mark.parametrize(
    "override",
    [
        "widths.cut.final=1e-6",
        "channels.all={edges: [0, 200], bandwidth: {initial: 1, final: 1e-3}}",
        "channels.all={edges: [1e9, 1000000100], bandwidth: {initial: 1, final: 0.1}}",
        "widths.soft={initial: 1e-20, final: 1e-22}",
    ],
)
def test_a18_narrow_widths_are_taken(path, override):
    assert initial_parameters(config.load(path, [override])) == {"cut": 0.5}


@pytest.fixture(scope="module")
def columns(path, tmp_path_factory):
    return write_columns(config.load(path), tmp_path_factory.mktemp("columns"))


NAMED = """
narrow = relax.less(c.x, 0.9, width="upper")
return {"all": Observation(weight=c.weight * relax.greater(c.x, p.cut) * narrow)}
"""


@pytest.mark.parametrize(
    ("given", "missing", "says"),
    [
        ({"cut": 0.1, "upper": 0.1}, set(), None),
        ({"cut": 0.1}, {"upper"}, None),
        ({}, {"cut", "upper"}, None),
        ({"cutt": 0.1}, None, r"widths\.cutt: no free parameter of .*Tiny, .*; nearest: 'cut'"),
        ({"cut": 0.1, "uper": 0.1}, None, r"widths\.uper: no free parameter .*; nearest: 'upper'"),
    ],
)
def test_b_names_of_widths(path, columns, given, missing, says):
    target = rootfiles.write_analysis(path.parent, "named.py", observe=NAMED)
    widths = {name: {"initial": width, "final": width} for name, width in given.items()}
    run = config.load(path, [f"analysis.target={target}", f"widths={json.dumps(widths)}"])
    work, start = prepare_work(run, columns, datasets.TRAIN), initial_parameters(run)
    with pytest.raises(ConfigError, match=says) if says else contextlib.nullcontext():
        assert missing_names(run, work, start) == missing


def test_b_names_of_widths_on_the_command_line(path, capsys, tmp_path):
    with contextlib.chdir(tmp_path), pytest.raises(SystemExit, match="1"):
        main(["yields", str(path), "--set", "widths.cutt={initial: 0.2, final: 0.1}"])
    error = capsys.readouterr().err
    assert "error: widths.cutt: no free parameter" in error
    assert "Traceback" not in error
