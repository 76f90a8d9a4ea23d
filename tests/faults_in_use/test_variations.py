"""Variations, one-sided systematics and silent gradients, as they went wrong in use."""

import hashlib
import io
import json

import contracts
import jax
import jax.numpy as jnp
import numpy as np
import pyhf
import pytest
from columnfiles import write_columns
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matplotlib.figure import Figure
from messages import heard
from rootfiles import arrays, write, write_analysis, write_run

from pipeline import analysis, optimise, report
from pipeline import config as configuration
from pipeline.cluster import InProcess
from pipeline.config.judging import Alternative
from pipeline.containers import Templates
from pipeline.data import datasets
from pipeline.data.names import FOLDS, POINTS
from pipeline.errors import ConfigError, FitError
from pipeline.evaluate.evaluation import Place, YieldTables
from pipeline.evaluate.histograms import histograms
from pipeline.evaluate.stage import yields
from pipeline.fit.impacts import Impact
from pipeline.gradient.suspects import suspects
from pipeline.gradient.work import check_variations_used, prepare_work
from pipeline.likelihood.configured.run_workspace import workspace
from pipeline.likelihood.configured.specifier import Specifier
from pipeline.optimise.parameters import initial_parameters
from pipeline.report.figures import settable
from pipeline.templates.axes import Axes, axes_of, sums, variations_of
from pipeline.templates.cautions import cautions, summary
from pipeline.templates.shapes import symmetrised

pytestmark = pytest.mark.usefixtures("compiled_quickly")

PROCESSES = ("signal", "ttbar", "wjets")
NAMES = ("x_up", "x_down", "y_up", "y_down")


def configured(**sections):
    """A configuration of three processes and one region of two bins, some sections replaced."""
    return configuration.parse(
        {
            "run": "r",
            "analysis": {"target": "pipeline.analyses.counting:Counting"},
            "data": {
                "manifest": "m.json",
                "luminosity_per_pb": 1,
                "samples": {name: {} for name in PROCESSES},
            },
            "channels": {"all": {"edges": [0, 1, 2], "bandwidth": {"initial": 1, "final": 1}}},
            "model": {
                "poi": "mu",
                "normfactors": [{"name": "mu", "samples": ["signal"]}],
                "systematics": [shape(name="x", up="x_up", down="x_down")],
            },
            "objective": {"kind": "poi_uncertainty"},
            "optimise": {"epochs": 1},
            **sections,
        },
        "test",
    )


def shape(**keys):
    return {"type": "NormPlusShape", **keys}


def model_of(*systematics):
    return {
        "poi": "mu",
        "normfactors": [{"name": "mu", "samples": ["signal"]}],
        "systematics": list(systematics),
        "mc_statistics": False,
    }


@st.composite
def assignments(draw):
    """Who makes each variation of each process: the manifest names some; the analysis makes the others."""
    return {process: draw(st.lists(st.sampled_from(NAMES), unique=True)) for process in PROCESSES}


@settings(max_examples=25)
@given(assignments(), st.integers(0, 99))
def test_a5_every_sample_has_its_own_source_of_a_variation(manifest, seed):
    """Against a plain construction, with junk in the rows of the analysis that a sample does not use."""
    wanted = {"signal": NAMES[:2], "ttbar": NAMES[:2], "wjets": NAMES}
    run = configured(
        data={
            "manifest": "m.json",
            "luminosity_per_pb": 1,
            "samples": {name: {"variations": manifest[name]} for name in PROCESSES},
        },
        channels={"all": {}, "loss": {"in_fit": False, "variations": True}},
        model=model_of(
            shape(name="x", up="x_up", down="x_down"),
            shape(name="y", up="y_up", down="y_down", samples=["wjets"]),
        ),
        objective={"kind": "merit"},
    )
    rows = axes_of(run, NAMES)
    yields = np.random.default_rng(seed).uniform(1, 9, (len(rows.samples), len(rows.variations), 2))

    def expected(process, name):
        own = f"{process}__{name}"
        place = (own, "nominal") if own in rows.samples else (process, name)
        return yields[rows.samples.index(place[0]), rows.variations.index(place[1])]

    templates = Templates(dict.fromkeys(("all", "loss"), yields), {"all": yields[:, 0]})
    found = Specifier.of(templates, rows, run).named(templates)["all"]
    total = np.zeros(2)
    for process in PROCESSES:
        assert set(found[process]["histosys"]) == {name[0] for name in wanted[process]}
        for name in wanted[process]:
            norm, content = ("hi", "hi_data") if name.endswith("up") else ("lo", "lo_data")
            made = (found[process][kind][name[0]] for kind in ("normsys", "histosys"))
            ratio, content = next(made)[norm], next(made)[content]
            np.testing.assert_allclose(ratio * content, expected(process, name), rtol=1e-12)
            assert (name in variations_of(run, process)) == (name not in manifest[process])
        counted = {"nominal", *manifest[process], *wanted[process]}
        total += sum(expected(process, name) for name in counted)
    np.testing.assert_allclose(sums(templates, rows, run)["loss"], total, rtol=1e-12)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A run whose signal has `x_up` from the manifest, its background from the analysis; configuration, columns."""
    folder = tmp_path_factory.mktemp("tiny")
    model = model_of(shape(name="scale", up="x_up"))
    path = write_run(
        folder,
        data={
            "manifest": str(folder / "manifest.json"),
            "luminosity_per_pb": 1,
            "samples": {"signal": {"variations": ["x_up"]}, "background": {}},
        },
        model={**model, "pseudodata": {"signal__x_up": 1, "background": 1}},
    )
    write(folder / "varied.root", seed=7)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["signal"]["x_up"] = {"files": [{"path": "varied.root", "nevts": 200}]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    run = configuration.load(path)
    return run, write_columns(run, folder / "columns")


def plain(seed, factor=1.0):
    """What a plain loop gives: weights of the events whose observable is above the cut."""
    events = arrays(seed=seed)
    return float(np.sum(events["w"].astype(float)[factor * events["x"].astype(float) > 0.5]))


def test_a5_tables_histograms_and_pseudodata_have_what_each_source_gives(tiny):
    run, columns = tiny
    work = prepare_work(run, columns, datasets.ALL)
    start = initial_parameters(run)
    table = yields(run, InProcess(), work, start)["yields"]["all"]
    expected = {
        "signal": {"nominal": [plain(0)]},
        "signal__x_up": {"nominal": [plain(7)]},
        "background": {"nominal": [plain(1)], "x_up": [plain(1, 1.1)]},
    }
    assert table.keys() == expected.keys()
    for sample, rows in expected.items():
        assert table[sample].keys() == rows.keys()
        for name, content in rows.items():
            np.testing.assert_allclose(table[sample][name], content, rtol=1e-6)
    found = histograms(run, InProcess(), work, start)
    np.testing.assert_allclose(found["all_signal_x_up"]["contents"], [0, plain(7), 0], rtol=1e-6)
    np.testing.assert_allclose(found["all_background_x_up"]["contents"], [0, plain(1, 1.1), 0], rtol=1e-6)
    np.testing.assert_allclose(found["all_pseudodata"]["contents"], [0, plain(7) + plain(1), 0], rtol=1e-6)


def test_a5_the_diagnosis_looks_at_the_variation_that_a_sample_has():
    rows = Axes(samples=("signal", "signal__x_up", "background"), variations=("nominal", "x_up"))
    yields = np.ones((3, 2, 1))
    yields[0, 1] = 1e6  # the analysis's, which the signal does not use
    yields[1, 0] = 8.0
    found = suspects(Templates({"SR": yields}, {"SR": yields[:, 0]}), rows)
    assert "bin 0 of channel 'SR' with 2 events" in found
    assert "variation 'x_up' of sample 'signal' changes bin 0 of channel 'SR' by 3.5 times" in found


def test_a5_names_that_would_hide_a_variation_are_refused():
    samples = {"tt_": {"variations": ["x"]}}
    with pytest.raises(ConfigError, match="'tt_' ends in '_'"):
        configured(data={"manifest": "m.json", "luminosity_per_pb": 1, "samples": samples})


def test_a5_a_variation_that_nobody_makes_for_a_sample_names_the_sample(tiny):
    """Also one of a further model, which would be missed only after the optimisation."""
    run, _ = tiny
    systematic = run.model.systematics[0].model_copy(update={"up": "x_upp", "samples": ("signal",)})
    wrong = run.model.model_copy(update={"systematics": (systematic,)})
    also = run.evaluate.model_copy(
        update={"also": {"other": Alternative(model=wrong, objective=run.objective)}}
    )
    for changed in ({"model": wrong}, {"evaluate": also}):
        with pytest.raises(ConfigError, match="no variation 'x_upp', nor has sample 'signal' one"):
            check_variations_used(run.model_copy(update=changed))


def normalization(**keys):
    return {"name": "rate", "type": "Normalization", "samples": ["ttbar"], **keys}


COUNTING = {"channels": {"all": {}}}


def uncertainty(**keys):
    """Of the signal's yield, 10 events over 500: inverse Hessian of pyhf's likelihood by central differences."""
    run = configured(model=model_of(normalization(**keys)), **COUNTING)
    yields = np.array([10.0, 500.0, 0.0]).reshape(3, 1, 1)
    spec = workspace(Templates({"all": yields}, {"all": yields[:, 0]}), axes_of(run, ()), run)
    model = pyhf.Workspace(spec).model()
    start = np.array(model.config.suggested_init())
    data = model.expected_data(start)

    def second(a, b):
        ends = [(s, t) for s in (1, -1) for t in (1, -1)]
        return sum(-s * t * model.logpdf(start + s * a + t * b, data)[0] for s, t in ends) / 4e-6

    units = 1e-3 * np.eye(2)
    hessian = [[second(a, b) for b in units] for a in units]
    return np.sqrt(np.linalg.inv(np.array(hessian))[model.config.poi_index, model.config.poi_index])


def test_a6_the_uncertainty_of_a_counting_experiment():
    """5.49, near sqrt(S + B + (0.1 B)^2) / S; on one side nothing of it is left, which is never so by a slip."""
    np.testing.assert_allclose(uncertainty(up=0.1, down=-0.1), 5.49, rtol=1e-3)
    np.testing.assert_allclose(uncertainty(up=0.1, down=0.1, one_sided=True), np.sqrt(510) / 10, rtol=1e-4)


@pytest.mark.parametrize(
    "ends", [(0.1, 0.1), (0.1, 0.0), (0.0, 0.1), (-0.1, -0.2), (0.0, -0.1), (1e-200, 1e-200)]
)
def test_a6_a_normalization_on_one_side_is_refused_unless_it_is_meant(ends):
    keys = dict(zip(("up", "down"), ends, strict=True))
    with pytest.raises(
        ConfigError, match=r"model\.systematics\.0: up .* do not change the yield to opposite"
    ):
        configured(model=model_of(normalization(**keys)), **COUNTING)
    run = configured(model=model_of(normalization(one_sided=True, **keys)), **COUNTING)
    rows = axes_of(run, ())
    yields = np.full((3, 1, 1), 10.0)
    (found,) = cautions(Templates({"all": yields}, {"all": yields[:, 0]}), rows, run)
    assert found.kind == ("vanishes" if ends[0] == ends[1] else "one-sided")
    assert "'rate' of 'ttbar'" in found.text


@pytest.mark.parametrize("ends", [(0.1, -0.1), (-0.3, 0.01), (0.0, 0.0)])
def test_a6_two_sides_are_not_called_one(ends):
    keys = dict(zip(("up", "down"), ends, strict=True))
    configured(model=model_of(normalization(**keys)), **COUNTING)
    with pytest.raises(ConfigError, match="not on one side; remove it"):
        configured(model=model_of(normalization(one_sided=True, **keys)), **COUNTING)


def test_a6_keys_of_symmetrise_fit_the_templates():
    with pytest.raises(ConfigError, match="'x_up', an uncertainty that vanishes"):
        configured(model=model_of(shape(name="x", up="x_up", down="x_up")))
    with pytest.raises(ConfigError, match="symmetrise: average needs down"):
        configured(model=model_of(shape(name="x", up="x_up", symmetrise="average")))
    configured(model=model_of(shape(name="x", up="x_up", symmetrise="mirror_up")))


BINS = hnp.arrays(np.float64, 4, elements=st.floats(0.125, 1e4))


@given(BINS, BINS, BINS, st.sampled_from(["average", "largest", "mirror_up", "mirror_down"]))
def test_a6_symmetrised_templates_by_a_plain_loop(nominal, up, down, how):
    above, below = (np.asarray(a) for a in symmetrised(nominal, up, down, how))
    for b, (n, u, d) in enumerate(zip(nominal, up, down, strict=True)):
        half = {"average": (u - d) / 2, "mirror_up": u - n, "mirror_down": n - d}
        half["largest"] = half["mirror_up"] if abs(u - n) >= abs(d - n) else half["mirror_down"]
        np.testing.assert_allclose(
            [above[b], below[b]], [n + half[how], n - half[how]], rtol=1e-12, atol=1e-9
        )


@pytest.mark.parametrize("how", ["average", "largest", "mirror_up", "mirror_down"])
def test_a6_workspace_and_optimisation_have_the_symmetrised_templates(how):
    """Ratio times shape is the template, and its derivative is that of a plain difference."""
    systematic = shape(name="x", up="x_up", down="x_down", samples=["ttbar"], symmetrise=how)
    run = configured(model=model_of(systematic))
    rows = axes_of(run, NAMES)
    yields = np.full((3, 3, 2), 50.0)
    yields[1, :, :] = [[100.0, 200.0], [110.0, 230.0], [105.0, 190.0]]

    def ends(yields):
        found = Specifier.of(Templates({"all": yields}, {"all": yields[:, 0]}), rows, run).named(
            Templates({"all": yields}, {"all": yields[:, 0]})
        )["all"]["ttbar"]
        norm, content = found["normsys"]["x"], found["histosys"]["x"]
        return jnp.stack([norm["hi"] * content["hi_data"], norm["lo"] * content["lo_data"]])

    half = {
        "average": [2.5, 20.0],
        "largest": [10.0, 30.0],
        "mirror_up": [10.0, 30.0],
        "mirror_down": [-5.0, 10.0],
    }
    expected = np.array([100.0, 200.0]) + np.outer([1, -1], half[how])
    np.testing.assert_allclose(ends(yields), expected, rtol=1e-12)
    spec = workspace(Templates({"all": yields}, {"all": yields[:, 0]}), rows, run)
    sample = next(s for s in spec["channels"][0]["samples"] if s["name"] == "ttbar")
    kinds = {m["type"]: m["data"] for m in sample["modifiers"]}
    for norm, content, end in zip(("hi", "lo"), ("hi_data", "lo_data"), expected, strict=True):
        np.testing.assert_allclose(
            kinds["normsys"][norm] * np.array(kinds["histosys"][content]), end, rtol=1e-12
        )
    direction = np.random.default_rng(1).normal(size=yields.shape)
    _, slope = jax.jvp(ends, (jnp.asarray(yields),), (jnp.asarray(direction),))
    difference = (ends(yields + 1e-3 * direction) - ends(yields - 1e-3 * direction)) / 2e-3
    np.testing.assert_allclose(slope, difference, rtol=1e-7, atol=1e-7)


def shapes(nominal, up, down=None, *, sumw2=None, **keys):
    """Cautions where `ttbar` has these templates in two bins and everything else has 1000 events."""
    systematic = shape(
        name="jes", up="x_up", samples=["ttbar"], **({"down": "x_down"} if down else {}), **keys
    )
    run = configured(model=model_of(systematic))
    rows = axes_of(run, NAMES)
    yields = np.full((3, len(rows.variations), 2), 1000.0)
    for variation, content in enumerate((nominal, up, down)[: len(rows.variations)]):
        yields[1, variation] = content
    found = Templates({"all": yields}, {"all": yields[:, 0] if sumw2 is None else np.full((3, 2), sumw2)})
    return cautions(found, rows, run)


def test_a6_shapes_on_one_side_are_listed_with_their_bins():
    (found,) = shapes([100, 400], [130, 420], [120, 380])
    assert found.kind == "one-sided"
    where = "'jes' of sample 'ttbar' in channel 'all'"
    assert found.text == f"{where}: up and down change to one side bin 0 of 2 (bin 0: +30 % and +20 %)"
    (found,) = shapes([100, 400], [130, 500], [130, 500])
    assert found.kind == "vanishes"
    assert (
        "0 % of it is left at the nominal value: its yield by +26 % and +26 %, bins 0, 1 of 2" in found.text
    )
    assert not shapes([100, 400], [130, 420], [80, 380])
    (found,) = shapes([100, 400], [100, 400], [100, 400])
    assert found.text == "'jes': 'x_up' and 'x_down' change no template of any sample and channel"


def test_a6_a_template_of_hundreds_of_times_the_nominal_is_asked_about():
    (found,) = shapes([100, 400], [30000, 120000], [80, 380])
    assert found.kind == "large"
    assert found.text.endswith("'x_up' has 300 times the nominal yield: is it normalised as the nominal is?")
    (found,) = shapes([100, 400], [130, 420], [0.1, 0.4])
    assert found.text.endswith(
        "'x_down' has 0.001 times the nominal yield: is it normalised as the nominal is?"
    )
    assert {c.kind for c in shapes([100, 400], [1000, 4000])} == {"large", "mirrored"}
    assert not shapes([100, 400], [400, 1900], [21, 81])
    assert not [c for c in shapes([1, 1], [20, 1], [1, 1], sumw2=100.0) if c.kind == "large"]


def test_a6_what_may_be_noise_is_counted_and_what_is_decided_is_not_listed():
    found = shapes([100, 400], [102, 420], [101, 380])
    assert summary(found, 5) == ["one-sided: 1 bins more, within the noise of the simulated events"]
    assert not shapes([100, 400], [130, 420], [120, 380], symmetrise="largest")
    assert not shapes([100, 400], [130, 420], [120, 380], symmetrise="average")
    (found,) = shapes([100, 400], [130, 500], [130, 500], symmetrise="average")
    assert found.kind == "vanishes"


def test_a6_a_log_has_the_largest_first_and_says_how_many_there_are():
    one = shapes([100, 400], [130, 420], [120, 380])[0]
    lines = summary([one.changed(text=f"t{i}") for i in range(9)], 5)
    assert lines == [*(f"one-sided: t{i}" for i in range(5)), "one-sided: 4 more such"]


def test_a20_mirroring_below_zero_is_said_with_its_value():
    """+183 % mirrored is -83 % of the yield: 0.01 is in its place; and so for single bins."""
    (found,) = shapes([100, 400], [283, 1132])
    assert found.kind == "mirrored"
    where = "'jes' of sample 'ttbar' in channel 'all'"
    expected = (
        f"{where}: up has 2.83 times the nominal yield, its mirror image -0.83 times; in its place is 0.01"
    )
    assert found.text == expected
    assert not shapes([100, 400], [183, 732])
    expected = f"{where}: the mirror image is below zero in bin 0 of 2 (bin 0: -150 events, nominal 100)"
    for keys in ({}, {"symmetrise": "mirror_up"}):
        (found,) = shapes([100, 400], [350, 150], **keys)
        assert found.text == expected


def started(folder, observe, epochs=1, **sections):
    """The lines that an optimisation says whose analysis has this body of `observe`, and its records."""
    target = write_analysis(folder, "own.py", observe=observe, head="import jax.numpy as jnp")
    path = write_run(folder, analysis={"target": target}, **sections)
    run = configuration.load(path, [f"optimise.epochs={epochs}"])
    work = prepare_work(run, write_columns(run, folder / "columns"), datasets.TRAIN)
    state = optimise.initial_state(run, initial_parameters(run))
    with heard() as lines:
        found = list(optimise.each_epoch(run, InProcess(), work, state, until=epochs))
    return lines, [record for _, record in found]


def test_b_a_hard_comparison_that_nothing_moves_is_an_error(tmp_path):
    with pytest.raises(FitError, match="epoch 0: nothing would move") as caught:
        started(tmp_path, 'return {"all": Observation(weight=jnp.where(c.x > p.cut, c.weight, 0.0))}')
    message = str(caught.value)
    assert "derivative with respect to 'cut' is exactly 0 at the start" in message
    assert "write relax.greater(c.x, p.cut) for c.x > p.cut" in message


TWO = """
import jax.numpy as jnp


class Two(Tiny):
    parameters = {n: Free(0.5, bounds=(0.0, 1.0)) for n in ("cut", "hard", "unused")}

    def observe(self, p, c, relax):
        passed = jnp.where(c.weight < 0.75 + p.hard / 2, c.weight, 0.0)
        return {"all": Observation(weight=passed * relax.greater(c.x, p.cut))}
"""


def test_b_parameters_without_a_derivative_are_named_and_told_apart(tmp_path):
    path = write_run(tmp_path)
    with (tmp_path / "tiny.py").open("a") as file:
        file.write(TWO)
    run = configuration.load(path, [f"analysis.target={tmp_path}/tiny.py:Two", "optimise.epochs=1"])
    work = prepare_work(run, write_columns(run, tmp_path / "columns"), datasets.TRAIN)
    state = optimise.initial_state(run, initial_parameters(run))
    with heard() as lines:
        list(optimise.each_epoch(run, InProcess(), work, state, until=1))
    assert lines[0].startswith("compiling the sweeps and the objective")
    hard, unused = (line for line in lines if line.startswith("warning: "))
    assert "'hard' is exactly 0" in hard
    assert "yet at 0.45 the templates are others" in hard
    assert "'unused' is exactly 0" in unused
    assert "the templates are the same wherever it is: does `observe` use p.unused" in unused


def test_b_a_gradient_that_is_not_finite_names_parameter_sample_and_cause(tmp_path):
    body = "root = jnp.where(c.x > 0, 1.0, jnp.sqrt(0 * p.cut))"
    with pytest.raises(FitError) as caught:
        started(
            tmp_path,
            f'{body}\nreturn {{"all": Observation(weight=c.weight * root * relax.greater(c.x, p.cut))}}',
        )
    message = str(caught.value)
    assert "epoch 0: the gradient with respect to 'cut' is not finite, though every template" in message
    assert "of sample 'background' and 'signal'" in message
    assert "jnp.where(ok, jnp.sqrt(jnp.where(ok, x, 1.0)), 0.0)" in message
    assert "halvings" not in message
    assert "width" not in message


@pytest.mark.parametrize(
    "shares", ["[1.5 + 0 * s, 0 * s]", "[-0.2 + 0 * s, 1.2 + 0 * s]", "[s, s]", "[jnp.nan * s, s]"]
)
def test_b_shares_that_no_event_can_have_are_refused(shares, tmp_path):
    body = f"s = relax.greater(c.x, p.cut) + 0.6\nshares = jnp.stack({shares}, axis=-1)"
    with pytest.raises(
        FitError, match=r"the shares are below 0, add up to more than 1 or are NaN for \d+ of"
    ):
        started(
            tmp_path,
            f'{body}\nreturn {{"all": Observation(weight=c.weight, shares=shares)}}',
            channels={"all": {"shares": 2}},
        )


def test_b_shares_may_leave_a_part_of_an_event_out(tmp_path):
    body = "s = 0.5 * relax.greater(c.x, p.cut)\nshares = jnp.stack([s, s - 1e-7], axis=-1)"
    started(
        tmp_path,
        f'{body}\nreturn {{"all": Observation(weight=c.weight, shares=shares)}}',
        channels={"all": {"shares": 2}},
    )


DECLARED = """
import numpy as np
from pipeline import analysis


def Free(initial, bounds, unit=""):
    made = object.__new__(analysis.Free)  # the tests check types where it is made, a run does not
    for name, value in (("initial", initial), ("bounds", bounds), ("unit", unit)):
        object.__setattr__(made, name, value)
    return made


class Own(analysis.Analysis):
    reads = analysis.FlatTree(branches=("x",))
    {declaration}
"""


def loaded(folder, declaration):
    path = folder / f"bounds_{hashlib.sha256(declaration.encode()).hexdigest()[:8]}.py"
    path.write_text(DECLARED.format(declaration=declaration))
    return analysis.load(f"{path}:Own")


@pytest.mark.parametrize(
    ("free", "reason"),
    {
        "Free(0.5, bounds=(-np.inf, np.inf))": "lower bound -inf is no finite number",
        "Free(0.5, bounds=(0, float('nan')))": "upper bound nan is no finite number",
        "Free(np.nan, bounds=(0, 1))": "initial nan is no finite number",
        "Free(0.5, bounds=(1, 0))": r"bounds \(1.0, 0.0\) must be two ascending",
        "Free(0.5, bounds=(0.5, 0.5))": r"bounds \(0.5, 0.5\) must be two ascending",
        "Free(0, bounds=(-1.5e308, 1.5e308))": "with a finite range",
        "Free(2.0, bounds=(0, 1))": r"initial 2.0 is outside its bounds \(0.0, 1.0\)",
        "Free(10**400, bounds=(0, 1))": "is no finite number",
        "Free('0.5', bounds=(0, 1))": "initial '0.5' is no finite number",
        "Free(True, bounds=(0, 1))": "initial True is no finite number",
        "Free(None, bounds=(0, 1))": "initial None is no finite number",
        "Free(0.5, bounds=(0, 1, 2))": "are not two numbers",
        "Free(0.5, bounds=None)": "bounds None are not two numbers",
        "Free(0.5, bounds=('0', '1'))": "lower bound '0' is no finite number",
        "Free(0.5, bounds=(0, 1), unit=3)": "unit 3 is no text",
        "0.5": "0.5 is no Free",
    }.items(),
)
def test_b_bounds_that_no_optimiser_can_use_are_refused_at_load(tmp_path, free, reason):
    with pytest.raises(ConfigError, match=f"parameter 'cut': .*{reason}"):
        loaded(tmp_path, f"parameters = {{'cut': {free}}}")


def test_b_bounds_of_other_numbers_are_fine_and_parameters_must_be_there(tmp_path):
    loaded(tmp_path, "parameters = {'cut': Free(np.float32(0.5), bounds=[0, np.int64(1)])}")
    for declaration in (
        "pass",
        "parameters = [Free(0.5, bounds=(0, 1))]",
        "parameters = {1: Free(0.5, bounds=(0, 1))}",
    ):
        with pytest.raises(ConfigError, match=r"Own(\.parameters is|: the parameter 1)"):
            loaded(tmp_path, declaration)


LABELS = [
    r"$\PW$+jets",
    r"$\frac{1$ x",
    "$$",
    r"m [$\GeV$]",
    "5 $ or \\$6",
    "$x^$\nand $y$",
    "$_$",
    r"$\left( x$",
    "a $b",
]


def test_b_any_label_can_be_drawn():
    figure = Figure()
    axes = figure.subplots()
    axes.set_yticks(range(len(LABELS)), [settable(label) for label in LABELS])
    axes.set_title(settable(LABELS[0]))
    stream = io.StringIO()
    figure.savefig(stream, format="svg")
    assert axes.get_title() == r"\$\PW\$+jets"  # drawn as $\PW$+jets
    for fine in (r"$\mathrm{t\bar{t}}$ [GeV]", "x [GeV]", r"\$5", "100 % of a_b", ""):
        assert settable(fine) == fine


def test_b_a_report_with_such_labels_everywhere_is_written(tmp_path):
    """Channel, sample, parameter of interest, objective, unit."""
    wrong = LABELS[0]
    channel = {
        "all": {"edges": [0, 1, 2], "bandwidth": {"initial": 1, "final": 1}, "label": f"mass [{wrong}]"}
    }
    model = model_of(shape(name=f"{wrong} norm", up="x_up"))
    run = configured(
        title=wrong,
        channels=channel,
        data={
            "manifest": "m.json",
            "luminosity_per_pb": 1,
            "samples": {"signal": {"label": wrong}, "ttbar": {}},
        },
        model={**model, "poi": wrong, "normfactors": [{"name": wrong, "samples": ["signal"]}]},
    )
    impacts = (Impact(label=wrong, pull=0.0, constraint=0.9, up=0.02, down=-0.03),)
    fit = contracts.fit((wrong,), impacts=impacts, prefit_stdev={"all": (0.1, 0.1)}, interval=None)
    cautious = tuple(shapes([100, 400], [283, 1132]))
    samples = ("signal", "ttbar")
    yields = YieldTables(
        yields={"all": {s: {"nominal": (1.0, 2.0)} for s in samples}},
        sumw2={"all": dict.fromkeys(samples, (1.0, 2.0))},
    )
    numbers = {**dict.fromkeys(("exact", "relaxed", "pyhf"), 1.0), "fit": fit, "cautions": cautious}
    place = Place(parameters={"phi": 1.0}, edges={"all": (0.0, 1.0, 2.0)}, pseudodata=None)
    content = contracts.evaluation(
        rows=[contracts.row(p, f, templates=yields, **numbers) for f in FOLDS for p in POINTS],
        points=dict.fromkeys(POINTS, place),
        kind="merit",
        label=wrong,
        unit=wrong,
    )
    record = contracts.record(0, objective=1.0, parameters={"phi": 1.0})
    page = tmp_path / "report.html"
    report.write(run, [record], content, [], page=page, figures=tmp_path / "figures")
    assert len(list((tmp_path / "figures").glob("*.svg"))) == 5
    text = page.read_text(encoding="utf-8")
    assert wrong in text
    assert "Uncertainties to look at" in text
    assert "up has 2.83 times the nominal yield" in text
