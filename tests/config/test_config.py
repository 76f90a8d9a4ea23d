"""A configuration is right, or an error names the key, the value and what is allowed."""

import contextlib
import json
import re
from pathlib import Path

import pytest
import rootfiles
import yaml

from pipeline import config
from pipeline.errors import ConfigError


@pytest.fixture
def path(tmp_path):
    """A right configuration."""
    return rootfiles.write_run(tmp_path)


# override: the message after the configuration's name
WRONG = {
    "bla=1": "bla: unknown key; allowed: 'analysis', 'channels'",
    "titel=x": "titel: unknown key; nearest: 'title'",
    "data.luminosity=1": "data.luminosity: unknown key; nearest: 'luminosity_per_pb'",
    "data.samples.signal.lable=x": "data.samples.signal.lable: unknown key; nearest: 'label'",
    "channels.all.edgs=[1]": "channels.all.edgs: unknown key; nearest: 'edges'",
    "model.systematics=[{name: a, type: Normalization, upp: 1, down: 0}]": "model.systematics.0.upp: unknown key; "
    "nearest: 'up'",
    "model.systematics=[{name: a, type: Norm}]": "model.systematics.0.type: Input should be one of "
    "'Normalization', 'NormPlusShape' (got 'Norm')",
    "model.systematics=[{name: a}]": "model.systematics.0: required key 'type' is missing; allowed: 'Normalization'",
    "surrogate.hidden=[-3]": "surrogate.hidden.0: Input should be greater than or equal to 1 (got -3)",
    "model.systematics=[3]": "model.systematics.0: ",
    "model.systematics=[{name: a, type: Normalization, up: -1, down: 0}]": "model.systematics.0.up: Input should be "
    "greater than -1 (got -1)",
    "model.normfactors=[]": "model: poi 'mu' is not one of the normfactors []",
    "model.normfactors=[{name: mu}]": "model.normfactors.0.samples: required key is missing",
    "model.normfactors=[{name: mu, samples: [sgnal]}]": "'mu': sample 'sgnal' is not in data.samples",
    "model.normfactors=[{name: mu, samples: [signal], bounds: [3, 1]}]": "model.normfactors.0: bounds [3.0, 1.0]",
    "model.normfactors=[{name: mu, samples: [signal], nominal: 11}]": "nominal 11.0 is outside its bounds [0.0, 10.0]",
    "model.normfactors=[{name: lumi, samples: [signal]}]": "parameter name 'lumi' is taken",
    "model.poi=nu": "model: poi 'nu' is not one of the normfactors ['mu']",
    "data.luminosity_per_pb=many": "data.luminosity_per_pb: Input should be a valid number",
    "data.luminosity_per_pb=-1": "data.luminosity_per_pb: Input should be greater than 0 (got -1)",
    "data.luminosity_per_pb=.nan": "data.luminosity_per_pb: Input should be a finite number (got nan)",
    "data.luminosity_per_pb=yes": "data.luminosity_per_pb: Input should be a valid number, without quotes (got 'yes')",
    "data.held_out_fraction=1": "data.held_out_fraction: Input should be less than 1 (got 1)",
    "data=": "data: must be a section {key: value} (got None)",
    "data.samples={}": "data.samples: Dictionary should have at least 1 item",
    "data.samples={a__b: {}}": "data.samples: sample 'a__b': '__' parts process and variation",
    "data.samples.signal.variations=[up, up]": "data.samples.signal.variations: 'up' would be read twice",
    "data.manifest=null": "give either data.manifest or a simulate section",
    "channels.all.edges=[0, .nan]": "channels.all.edges.1: Input should be a finite number (got nan)",
    "channels.all.edges=[1, 0]": "channels.all: edges [1.0, 0.0] must be at least two ascending numbers",
    "channels={4: {}}": "channels.4.[key]: Input should be a valid string (got 4)",
    "widths.cut.final=1": "widths.cut: final 1.0 is larger than initial 0.2",
    "widths.cut.initial=0": "widths.cut.initial: Input should be greater than 0",
    "parameters={cut: high}": "parameters.cut: Input should be a valid number",
    "optimise.optimiser=adm": "optimise.optimiser: Input should be 'adam' or 'sgd' (got 'adm')",
    "optimise.epochs=2.5": "optimise.epochs: Input should be a valid integer",
    "optimise.epochs=true": "optimise.epochs: Input should be a valid integer (got True)",
    "objective.kind=clb": "objective.kind: Input should be one of 'poi_uncertainty', 'profile_interval', ",
    "objective={}": "objective: required key 'kind' is missing; allowed: 'poi_uncertainty', 'profile_interval', ",
    "objective=3": "objective: must be a section {key: value} (got 3)",
    "objective={kind: cls, penaltes: []}": "objective.penaltes: unknown key; nearest: 'penalties'",
    "objective={kind: cls, weight: 2}": "objective.weight: unknown key; allowed: ",
    "objective={kind: cls, penalties: [{kind: pulls, least: 2}]}": "objective.penalties.0: least means nothing to "
    "'pulls', which has parameters, most, mu; remove it",
    "objective={kind: cls, penalties: [{kind: pull}]}": "objective.penalties.0.kind: Input should be one of ",
    "objective={kind: weighted_sum, terms: []}": "objective.terms: Tuple should have at least 1 item",
    "objective={kind: cls, mu: 50}": "mu 50.0 of 'cls' is above the upper bound 10.0 of 'mu'; raise the bound",
    "objective={kind: cls, level: 0.1}": "objective: level means nothing to 'cls', which has mu; remove it",
    "objective={kind: inferno, parameter: nu}": "objective: parameter 'nu' is not in the model; ",
    "objective={kind: weighted_sum, terms: [{kind: cls, weight: -1}]}": "objective.terms.0.weight: Input should be "
    "greater than 0 (got -1)",
    "objective={kind: cls, penalties: [{kind: pulls, parameters: [mu]}]}": "penalty 'pulls': parameter 'mu' has no "
    "constraint term",
    "objective={kind: upper_limit, band: 3}": "objective.band: Input should be -2, -1, 0, 1 or 2 (got 3)",
    "model.systematics=[{name: a, type: Normalization, up: 0.1, down: 0, constraint_width: 0}]": "constraint_width "
    "0.0, allowed is a positive number or 'none'",
    "analysis.target=tiny.py": "analysis.target: write module:Class or path/to/file.py:Class (got 'tiny.py')",
    "analysis.options={loss: .inf}": "analysis.options.loss: Input should be a finite number (got inf)",
    "cluster.executor=address": "cluster: executor 'address' needs cluster.address",
    "run=../elsewhere": "run: String should match pattern",
}


@pytest.mark.parametrize("override", WRONG)
def test_wrong_values(override, path):
    with pytest.raises(ConfigError, match=re.escape(WRONG[override])) as caught:
        config.load(path, [override])
    assert str(caught.value).startswith(f"configuration {path}:\n  ")


@pytest.mark.parametrize("override", ["", "epochs", "=3", "a..b=3", ".a=1"])
def test_overrides_that_are_none(override, path):
    with pytest.raises(ConfigError, match=rf"--set '{re.escape(override)}' is not of the form key=value"):
        config.load(path, [override])


def test_overrides_that_lead_nowhere(path):
    with pytest.raises(
        ConfigError, match=r"--set 'title\.x=1': 'title' is a str, which has no key 'x'"
    ) as caught:
        config.load(path, ["title=a", "title.x=1"])
    assert "give all of it, as in title=VALUE" in str(caught.value)
    with pytest.raises(ConfigError, match=r"'systematics' is a list, .* as in model\.systematics=VALUE"):
        config.load(path, ["model.systematics.0.up=3"])
    with pytest.raises(ConfigError, match=r"--set 'data=\[1', line 1: not valid YAML"):
        config.load(path, ["data=[1"])


def test_overrides(path):
    overrides = [
        "optimise.epochs=7",
        "data.luminosity_per_pb=1e3",
        "parameters.cut=0.25",
        "title=a=b",
        "run=x",
    ]
    found = config.load(path, overrides)
    assert (found.optimise.epochs, found.data.luminosity_per_pb, found.run) == (7, 1000.0, "x")
    assert (found.parameters, found.title) == ({"cut": 0.25}, "a=b")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds nothing, not a mapping of sections; see config/README.md"),
        (b"- a\n- b\n", "holds a list, not a mapping"),
        (b"just words\n", "holds a str, not a mapping"),
        (b"run: [\n", "line 2: not valid YAML"),
        (b"run: a\n\tb: 1\n", "line 2: not valid YAML: found character"),
        (b"run: a\ntitle: b\nrun: c\n", "line 3: not valid YAML: key 'run' appears twice; remove one"),
        (
            b"run: !!python/object/apply:os.getcwd []\n",
            "line 1: not valid YAML: the tag tag:yaml.org,2002:python/object/apply:os.getcwd is not read here",
        ),
        (b"\x00\n", "not valid YAML"),
        (b"\xff\xfe\x81", "is no text file"),
        (b"1: 2\n", "1: a number stands for the name of a key"),
        (b"{}\n", "run: required key is missing"),
    ],
)
def test_files_that_are_no_configuration(content, message, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"(?s)configuration {path}.*{re.escape(message)}") as caught:
        config.load(path)
    assert len(str(caught.value)) < 1000


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(
        ConfigError, match=r"no\.yaml: No such file or directory; give the path of a YAML file"
    ):
        config.load(tmp_path / "no.yaml")
    with pytest.raises(ConfigError, match="is a folder and no ordinary file; give the path"):
        config.load(tmp_path)


def test_all_problems_are_told_at_once(path):
    with pytest.raises(ConfigError) as caught:
        config.load(path, ["titel=x", "data.luminosity_per_pb=-1", "optimise.epochs=0"])
    assert len(str(caught.value).splitlines()) == 4


def test_relative_paths(path, tmp_path):
    """From the working directory first, then from the configuration's folder."""
    overrides = ["data.manifest=manifest.json", "analysis.target=tiny.py:Tiny"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with contextlib.chdir(elsewhere):
        found = config.load(path, overrides)
        assert found.data.manifest == tmp_path / "manifest.json"
        assert found.analysis.target == f"{tmp_path}/tiny.py:Tiny"
        (elsewhere / "manifest.json").touch()
        assert str(config.load(path, overrides).data.manifest) == "manifest.json"


@pytest.mark.parametrize("target", ["no/such.py:A", "no_such_module:A", "pipeline.nothing:A", "sys:A"])
def test_source_of_an_analysis_that_is_not_there(target, path):
    loaded = config.load(path, [f"analysis.target={target}"])
    with pytest.raises(ConfigError, match=rf"analysis\.target '{target}': (there is no file|no module)"):
        _ = loaded.analysis.sources


def test_what_decides_the_result(path):
    """Titles, labels and where it runs do not; the source of the analysis does."""
    before = config.load(path).physics()
    same = ["title=x", "run=y", "channels.all.label=z", "cluster.executor=local", "optimise.epochs_per_job=9"]
    assert config.load(path, same).physics() == before
    for override in ("optimise.epochs=3", "data.luminosity_per_pb=2", "analysis.options={objects: 4}"):
        assert config.load(path, [override]).physics() != before
    source = config.load(path).analysis.sources[0]
    source.write_text(source.read_text() + "\n")
    assert config.load(path).physics() != before


def test_chunks_are_as_large_as_the_device_wants(path):
    cpu, gpu, own = (
        config.load(path, overrides).cluster.numerics
        for overrides in ([], ["cluster.device=gpu"], ["cluster.device=gpu", "cluster.chunk_events=1000"])
    )
    assert (cpu["chunk_events"], cpu["group_events"]) == (2048, 32768)
    assert (gpu["chunk_events"], gpu["group_events"]) == (65536, 8 * 65536)
    assert (own["chunk_events"], own["group_events"]) == (1000, 32768)
    stated = config.load(path, ["cluster.chunk_events=2048"])
    assert stated.physics() == config.load(path).physics()


def test_written_and_read_again(path):
    loaded = config.load(path)
    assert config.parse(yaml.safe_load(yaml.safe_dump(loaded.model_dump(mode="json"))), "dump") == loaded


def extended(tmp_path, text, base="base.yaml"):
    shipped = (Path(__file__).parents[2] / "config" / "miniature.yaml").read_text()
    (tmp_path / "base.yaml").write_text(shipped)
    (tmp_path / "run.yaml").write_text(f"extends: {base}\n{text}")
    return tmp_path / "run.yaml"


def test_a_configuration_says_what_differs_from_the_one_it_extends(tmp_path):
    text = "run: other\noptimise: {epochs: 9}\nchannels: {4j1b: {edges: [1, 2]}}\nmodel: {pseudodata: {}}\n"
    run = config.load(extended(tmp_path, text), ["optimise.learning_rate=0.5"])
    base = config.load(tmp_path / "base.yaml")
    assert (run.run, run.optimise.epochs, run.optimise.learning_rate) == ("other", 9, 0.5)
    assert run.optimise.epochs_per_job == base.optimise.epochs_per_job
    assert run.channels["4j1b"].edges == (1, 2)
    assert run.channels["4j1b"].bandwidth == base.channels["4j1b"].bandwidth
    assert run.channels["4j2b"] == base.channels["4j2b"]
    assert run.model.pseudodata == base.model.pseudodata  # an empty section changes nothing
    run = config.load(extended(tmp_path, "model: {pseudodata: null}\nevaluate: null\n"))
    assert (run.model.pseudodata, run.evaluate.bootstrap) == ({}, 0)
    assert run.model.poi == base.model.poi


def test_paths_of_the_extended_configuration_are_meant_from_its_folder(tmp_path):
    rootfiles.write_run(tmp_path)
    (base,) = tmp_path.glob("*.yaml")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "run.yaml").write_text(f"extends: ../{base.name}\n")
    one, other = config.load(base), config.load(tmp_path / "sub" / "run.yaml")
    assert other.data.manifest.resolve() == one.data.manifest.resolve()
    assert other.data.manifest.exists()


@pytest.mark.parametrize("base", ["run.yaml", "3", "[base.yaml]"])
def test_what_cannot_be_extended_is_named(tmp_path, base):
    with pytest.raises(ConfigError, match=r"run\.yaml: extends .* must be the path of another configuration"):
        config.load(extended(tmp_path, "", base))


def test_a_missing_base_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: No such file"):
        config.load(extended(tmp_path, "", "nowhere.yaml"))


def test_files_of_the_analysis_are_arguments_and_part_of_its_fingerprint(tmp_path):
    path = extended(tmp_path, "analysis: {files: {corrections: c.json}}")
    with pytest.raises(ConfigError, match=r"analysis\.files\.corrections: there is no file c\.json"):
        _ = config.load(path).analysis.options_json
    (tmp_path / "c.json").write_text("1")
    first = config.load(path).analysis
    assert json.loads(first.options_json) == {"jets": 12, "corrections": str(tmp_path / "c.json")}
    before = first.digest
    (tmp_path / "c.json").write_text("2")
    assert config.load(path).analysis.digest != before
    with pytest.raises(ConfigError, match="'jets' is given in options and in files; remove one"):
        config.load(path, ["analysis.files={jets: c.json}"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.pseudodata={ttbarr: 1}", r"model\.pseudodata: sample 'ttbarr' is not in data\.samples"),
        (
            "model.pseudodata={ttbar__up: 1}",
            r"model\.pseudodata: 'up' is not in data\.samples\.ttbar\.variations",
        ),
        (
            "model.pseudodata={ttbar__: 1}",
            r"model\.pseudodata: '' is not in data\.samples\.ttbar\.variations",
        ),
        ("model.pseudodata={ttbar: -1}", r"factor -1 of 'ttbar' must be a number of at least 0"),
        ("model.pseudodata={ttbar: true}", r"pseudodata\.ttbar: Input should be a valid number \(got True\)"),
        ("model.pseudodata={ttbar: 0, ttbar__PS_var: 0}", r"all factors are 0: there would be no data"),
        ("cluster.objects={jet: [8, 6]}", r"objects\.jet \[8, 6\] must be ascending"),
        ("channels.4j1b.histogram={bins: 2, low: 3, high: 1}", r"low 3\.0 and high 1\.0 must be ascending"),
        ("data.max_files_per_process=0", r"data\.max_files_per_process"),
        ("data.max_files_per_process=some", r"data\.max_files_per_process"),
    ],
)
def test_new_keys_refuse_what_they_do_not_mean(request, override, message):
    with pytest.raises(ConfigError, match=message):
        config.load(request.config.rootpath / "config" / "miniature.yaml", [override])


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            "optimise: {learning_rate: 0,3}",
            r"optimise\.3: a number stands for the name of a key; .* 0\.5 for 0,5",
        ),
        (
            "optimise:\n  learning_rate: 0,03",
            r"learning_rate: .* a valid number, with a decimal point \(got '0,03'\)",
        ),
        ("optimise:\n  learning_rate: '0.03'", r"learning_rate: .* a valid number, without quotes"),
    ],
)
def test_a_decimal_comma_is_recognised(tmp_path, written, message):
    with pytest.raises(ConfigError, match=message):
        config.load(extended(tmp_path, written))
