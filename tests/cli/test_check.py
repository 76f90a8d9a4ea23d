"""The verb `check`: a right run has no error, each of many mistakes is named, all of one kind, and no file is left."""

import contextlib
import json
from pathlib import Path

import jax
import numpy as np
import pytest
import rootfiles
import yaml

from pipeline.cli import main
from pipeline.cli.check.findings import Findings
from pipeline.cli.check.stage import check

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("compiled_quickly")
HEAD = "import jax.numpy as jnp"


@pytest.fixture
def folder(tmp_path):
    """A right run, in a working directory that nothing may be written to."""
    rootfiles.write_run(tmp_path)
    (tmp_path / "work").mkdir()
    with contextlib.chdir(tmp_path / "work"):
        yield tmp_path
    assert not list((tmp_path / "work").iterdir())


def checked(config, *overrides):
    """The lines of a check, and the counts."""
    lines = []
    found = Findings(lines.append)
    check(Path(config), overrides, found)
    return lines, found


def errors(config, *overrides):
    return [line for line in checked(config, *overrides)[0] if line.startswith("error: ")]


def edited(folder, **sections):
    """The configuration with other sections."""
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **sections}))
    return path


def analysis(folder, **bodies):
    """The configuration of an analysis with other methods."""
    return edited(folder, analysis={"target": rootfiles.write_analysis(folder, "other.py", **bodies)})


def test_a_right_run_has_no_error_and_the_objective_once(folder):
    before = jax.config.values["jax_disable_most_optimizations"]
    lines, found = checked(folder / "tiny.yaml")
    assert found.errors == 0
    assert any(line.startswith("fine: Asimov counting significance at the start") for line in lines)
    assert jax.config.values["jax_disable_most_optimizations"] == before


def test_a_run_without_a_free_parameter_has_templates_and_nothing_to_optimise(folder, capsys):
    source = (folder / "tiny.py").read_text()
    hard = source.replace('{"cut": Free(0.5, bounds=(0.0, 1.0), unit="GeV")}', "{}").replace("p.cut", "0.5")
    (folder / "tiny.py").write_text(hard.replace("c.x, 0.5", "c.x, 0.5, width='cut'"))
    lines, found = checked(folder / "tiny.yaml")
    assert found.errors == 0
    assert any(line.startswith("note: no parameter is free") for line in lines)
    with contextlib.chdir(folder):
        for sample in ("signal", "background"):
            output = f"results/tiny/columns/{sample}/0000.parquet"
            config = folder / "tiny.yaml"
            assert ends("columns", config, "--sample", sample, "--index", 0, "--output", output) == 0
        assert ends("optimise", folder / "tiny.yaml", "--output", "block_1.npz", "--workers", 1) == 1
    assert "error: Tiny.parameters is empty" in capsys.readouterr().err


def ends(*arguments):
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return caught.value.code


def test_the_exit_code_is_that_of_the_errors(folder, capsys):
    assert ends("check", folder / "tiny.yaml") == 0
    assert "no errors" in capsys.readouterr().out
    assert ends("check", folder / "tiny.yaml", "--set", "widths={cutt: {initial: 1, final: 1}}") == 1
    printed = capsys.readouterr()
    assert "error: widths.cutt: " in printed.out
    assert "1 error" in printed.err


MISTAKES = {
    "a misspelt key": (
        {"optimise": {"epoch": 2}},
        ["optimise.epoch: unknown key; nearest: 'epochs'"],
    ),
    "a POI that is none": (
        {"model": {"poi": "nu", "normfactors": [{"name": "mu", "samples": ["signal"]}]}},
        ["'nu'"],
    ),
    "a sample of the model": (
        {"model": {"poi": "mu", "normfactors": [{"name": "mu", "samples": ["sgnal"]}]}},
        ["sample 'sgnal' is not in data.samples"],
    ),
    "a start value": (
        {"parameters": {"cut": 7}},
        ["parameters.cut: value 7.0 is outside its bounds [0.0, 1.0] GeV"],
    ),
    "a start value of nothing": (
        {"parameters": {"ct": 0.5}},
        ["parameters.ct: no such free parameter; nearest: 'cut'"],
    ),
    "a width of nothing": (
        {"widths": {"cut": {"initial": 0.2, "final": 0.1}, "ctu": {"initial": 0.2, "final": 0.1}}},
        ["widths.ctu: no free parameter of"],
    ),
    "a width without an effect": (
        {"widths": {"cut": {"initial": 0.2, "final": 1e-30}}},
        ["widths.cut.final: 1e-30"],
    ),
    "a channel that is none": (
        {"channels": {"al": {}}},
        ["channels.al: Tiny observes no such channel; nearest: 'all'"],
    ),
    "edges of what only counts": (
        {"channels": {"all": {"edges": [0, 1], "bandwidth": {"initial": 0.2, "final": 0.1}}}},
        ["channels.all: has edges, but the analysis only counts there"],
    ),
    "a class that is none": (
        {"analysis": {"target": "FOLDER/tiny.py:Tny"}},
        ["no class 'Tny' in", "nearest: 'Tiny'"],
    ),
    "a file that is none": ({"analysis": {"target": "FOLDER/none.py:Tiny"}}, ["there is no file"]),
    "options of another class": (
        {"analysis": {"target": "FOLDER/tiny.py:Tiny", "options": {"object": 3}}},
        ["do not fit", "'object'"],
    ),
    "too small a pad": (
        {"analysis": {"target": "FOLDER/tiny.py:Tiny", "options": {"objects": 1}}},
        ["sample 'signal'", "pad"],
    ),
    "a collection that is none": ({"cluster": {"objects": {"jet": [2]}}}, ["cluster.objects.jet"]),
    "no manifest": (
        {
            "data": {
                "manifest": "none.json",
                "luminosity_per_pb": 1,
                "samples": {"signal": {}, "background": {}},
            }
        },
        ["data.manifest: ", "none.json"],
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_the_configuration_is_named(folder, name):
    sections, says = MISTAKES[name]
    path = edited(folder, **json.loads(json.dumps(sections).replace("FOLDER", str(folder))))
    found = errors(path)
    assert found
    for part in says:
        assert any(part in line for line in found), found
    assert all("\n" not in line for line in found)


BODIES = {
    "columns that raise": (
        {"columns": "return {'weight': events.w[0, 1]}"},
        ["in Tiny.columns(events, 'signal')"],
    ),
    "columns without weights": (
        {"columns": "return {'x': events.x}"},
        ["it must return {name: array} with a 'weight'"],
    ),
    "observe that raises": (
        {"observe": "return {'all': Observation(weight=c.wight)}"},
        ["no 'wight' here", "observe"],
    ),
    "values that are not finite": (
        {"observe": "return {'all': Observation(weight=c.weight * jnp.log(c.x - 2))}", "head": HEAD},
        ["template 'all'", "is not finite"],
    ),
    "a gradient that is not finite": (
        {
            "observe": "d = jnp.sqrt(jnp.maximum(c.x - p.cut, 0.0))\n"
            "return {'all': Observation(weight=c.weight * d * relax.greater(c.x, p.cut))}",
            "head": HEAD,
        },
        ["the gradient with respect to 'cut' is not finite"],
    ),
    "a syntax error": ({"observe": "return {'all': "}, ["other.py, line"]),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_mistake_in_the_analysis_is_named(folder, name):
    bodies, says = BODIES[name]
    found = errors(analysis(folder, **bodies))
    for part in says:
        assert any(part in line for line in found), found


def test_all_mistakes_of_one_kind_are_named(folder):
    observe = "a = relax.greater(c.x, 0.2, width='a') * relax.less(c.x, 0.9, width='b')\n"
    path = analysis(folder, observe=f"{observe}return {{'all': Observation(weight=c.weight * a)}}")
    both = {name: {"initial": 0.1, "final": 0.1} for name in ("one", "two")}
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "widths": both}))
    found = errors(path)
    assert [line.split(":")[1].strip() for line in found] == ["widths.one", "widths.two"]
    model = yaml.safe_load((folder / "tiny.yaml").read_text())["model"]
    systematics = [{"name": n, "type": "NormPlusShape", "up": f"{n}_up"} for n in ("y", "z")]
    found = errors(edited(folder, model={**model, "systematics": systematics}))
    assert {name for line in found for name in ("y_up", "z_up") if f"no variation {name!r}" in line} == {
        "y_up",
        "z_up",
    }


def test_samples_and_files_that_are_not_there_are_all_named(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["signal"]["nominal"]["files"] += [{"path": f"none{n}.root", "nevts": 5} for n in range(5)]
    del manifest["background"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    found = errors(folder / "tiny.yaml")
    assert any("sample 'background' of data.samples is not in manifest" in line for line in found)
    assert sum("none" in line for line in found) == 3
    assert any("2 more files do not exist" in line for line in found)
    lines, counted = checked(
        folder / "tiny.yaml", "data.unreadable_files=leave_out", "data.samples={signal: {}}"
    )
    assert any(line.startswith("note: left out: sample 'signal': file none0.root") for line in lines)
    assert counted.errors == 0


def test_what_is_wrong_with_files_is_named_for_each_sample(folder):
    rootfiles.write(folder / "signal.root", tree="event")
    rootfiles.write(folder / "background.root", number=None, w=None)
    found = errors(folder / "tiny.yaml")
    assert any("cannot read tree 'events' of" in line and "nearest: 'event'" in line for line in found)
    assert any("sample 'background': branch 'w' not in tree" in line for line in found)
    rootfiles.write(folder / "background.root", number=np.linspace(0, 1, 200))
    assert any("which should number the events, holds float" in line for line in errors(folder / "tiny.yaml"))


def test_events_that_end_at_a_bound_are_noted(folder):
    columns = "events = events[events.x > 0.4]"
    path = analysis(folder, columns=columns)
    source = folder / "other.py"
    source.write_text(source.read_text().replace("bounds=(0.0, 1.0)", "bounds=(0.4, 1.0)"))
    lines, found = checked(path)
    (note,) = [line for line in lines if "is where the events end" in line]
    assert "parameter 'cut': its lower bound 0.4 GeV" in note
    assert found.errors == 0
    source.write_text(source.read_text().replace("events.x > 0.4", "events.x > 0.1"))
    assert not any("is where the events end" in line for line in checked(path)[0])


@pytest.mark.parametrize(
    ("kept", "cut", "end"),
    [
        ("events.x > 0.2", "relax.greater(c.x, p.cut)", "the least is 0.2"),
        ("events.x < 0.7", "relax.less(c.x, p.cut)", "the largest is 0.6"),
        ("events.x > 0.2", "relax.between(c.x, p.cut, 2.0)", "the least is 0.2"),
        ("events.x < 0.7", "relax.between(c.x, -1.0, p.cut)", "the largest is 0.6"),
    ],
)
@pytest.mark.parametrize("widths", [{"cut": {"initial": 0.2, "final": 0.1}}, {}], ids=["given", "found"])
def test_a_range_that_something_else_cuts_off_is_noted(folder, kept, cut, end, widths):
    observe = f"return {{'all': Observation(weight=c.weight * {cut})}}"
    path = analysis(folder, columns=f"events = events[{kept}]", observe=observe)
    edited(folder, widths=widths)
    lines, found = checked(path)
    (note,) = [line for line in lines if "something cuts there already" in line]
    assert "parameter 'cut': it is free from 0 to 1 GeV" in note
    assert end in note
    assert found.errors == 0


@pytest.mark.parametrize("shape", ["random", "normal", "exponential"])
def test_a_range_in_which_values_end_by_nature_is_not(folder, shape):
    rng = np.random.default_rng(4)
    for name in ("signal", "background"):
        x = {"random": rng.random, "exponential": rng.standard_exponential, "normal": rng.standard_normal}[
            shape
        ](400)
        scaled = {"random": x, "exponential": 0.2 * x, "normal": 0.5 + 0.1 * x}[shape]
        rootfiles.write(folder / f"{name}.root", events=400, x=scaled.astype(np.float32))
    assert not any("something cuts there already" in line for line in checked(folder / "tiny.yaml")[0])


def test_events_that_all_have_one_number_are_noted(folder):
    rootfiles.write(folder / "signal.root", number=np.full(200, 7))
    lines, found = checked(folder / "tiny.yaml", "data.held_out_fraction=0.5")
    (note,) = [line for line in lines if "the event numbers are few" in line]
    assert "sample 'signal': none of the first 200 entries" in note
    assert found.errors == 0


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("data.held_out_fraction=0.02", "held-out"),
        ("data.held_out_fraction=0.98", "train"),
        ("data.folds=40", "fold 1"),
    ],
)
def test_parts_with_few_events_are_noted(folder, override, part):
    few = [line for line in checked(folder / "tiny.yaml", override)[0] if "preselected events are in" in line]
    assert {line.split("'")[1] for line in few} == {"signal", "background"}
    assert all(part in line for line in few)
    assert not any("preselected events are in" in line for line in checked(folder / "tiny.yaml")[0])


def test_a_sample_that_no_hard_cut_keeps_is_noted(folder):
    rootfiles.write(folder / "background.root", x=np.full(200, 0.4, dtype=np.float32))
    lines, found = checked(folder / "tiny.yaml")
    (note,) = [line for line in lines if "in a likelihood it would not exist" in line]
    assert "sample 'background': none of its 200 sampled events passes" in note
    assert found.errors == 0


def test_events_in_two_channels_are_noted(folder):
    observe = "w, high = c.weight, relax.greater(c.x, p.cut)\nreturn {'all': Observation(weight=w * high), "
    channels = {"all": {}, "other": {}}
    analysis(
        folder, observe=observe + "'other': Observation(weight=w * relax.greater(c.x, 0.8, width='cut'))}"
    )
    lines, _ = checked(edited(folder, channels=channels))
    (note,) = [line for line in lines if "in both" in line]
    both = sum(int(np.sum(rootfiles.arrays(seed=seed)["x"] > np.float32(0.8))) for seed in (0, 1))
    assert f"channels 'all' and 'other': {both} of the 400 sampled events" in note
    analysis(folder, observe=observe + "'other': Observation(weight=w * relax.not_(high))}")
    lines, found = checked(folder / "tiny.yaml")
    assert found.errors == 0
    assert not any("in both" in line for line in lines)


def test_bins_without_events_are_noted_where_so_few_can_say_it(folder):
    observe = "return {'all': Observation(weight=c.weight * relax.greater(c.x, p.cut), value=c.x)}"
    path = analysis(folder, observe=observe)
    bandwidth = {"initial": 0.1, "final": 0.1}
    lines, _ = checked(edited(folder, channels={"all": {"edges": [-1, 0, 0.7, 1], "bandwidth": bandwidth}}))
    (note,) = [line for line in lines if "no event in" in line]
    assert "bin 0 (-1 to 0) at the start parameters" in note
    fine = np.linspace(-1, 1, 101).tolist()
    lines, _ = checked(edited(folder, channels={"all": {"edges": fine, "bandwidth": bandwidth}}))
    assert not any("no event in" in line for line in lines)
    assert path.exists()


def test_a_parameter_and_a_variation_without_an_effect_are_noted(folder):
    path = analysis(folder, observe="return {'all': Observation(weight=c.weight * (c.x > p.cut))}")
    lines, found = checked(edited(folder, widths={"cut": {"initial": 0.2, "final": 0.1}}))
    assert any("the derivative with respect to 'cut' is exactly 0 at the start" in line for line in lines)
    source = folder / "other.py"
    source.write_text(source.read_text().replace("1.1 * c.x", "1.0 * c.x"))
    lines, found = checked(path)
    assert any("'scale': 'x_up' change no template" in line for line in lines)
    assert found.errors == 0


def test_generated_events_are_made_for_the_check_and_others_noted(folder):
    lines, found = checked(ROOT / "config/one_cut.yaml")
    assert found.errors == 0
    assert any(line.startswith("fine: Asimov counting significance") for line in lines)
    lines, found = checked(ROOT / "config/miniature.yaml")
    assert found.errors == 0
    assert any("is not generated yet" in line for line in lines)


@pytest.mark.slow
@pytest.mark.simulate
def test_simulated_events_that_are_there_are_checked(miniature):
    manifest = miniature.data.manifest
    lines, found = checked(ROOT / "config/miniature.yaml", "simulate=null", f"data.manifest={manifest}")
    assert found.errors == 0
    assert any(line.startswith("fine: ") for line in lines)


@pytest.mark.parametrize("name", ["hep_tutorial", "single_top"])
def test_real_events_are_checked(shared_data, name):
    with contextlib.chdir(ROOT):  # from where the manifest's paths are meant
        lines, found = checked(ROOT / f"config/{name}.yaml")
    assert found.errors == 0
    assert any("fine: Asimov counting significance" in line for line in lines)
