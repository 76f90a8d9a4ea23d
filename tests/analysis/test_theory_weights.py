"""Weights that depend on a theory: what a monomial multiplies, over chunks and at once; and what is refused."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from benchmarked import THEORY, Benchmarked, amplitude, events
from columnfiles import write_columns

from pipeline import config
from pipeline.analysis import Benchmarks, Theory, analysis_of
from pipeline.analysis.theory import Components, components_of, weight_at, weight_fault
from pipeline.cluster import InProcess
from pipeline.config.fit.theory import component
from pipeline.containers import Columns, Parameters
from pipeline.data.column_file import read_sources
from pipeline.data.datasets import columns_jobs
from pipeline.data.provenance import recipes
from pipeline.errors import ConfigError
from pipeline.gradient.sweeps import forward, pullback
from pipeline.gradient.work import prepare_work
from pipeline.likelihood.configured.specifier import Specifier
from pipeline.likelihood.terms import poisson_logpdf
from pipeline.optimise.parameters import initial_parameters
from pipeline.optimise.schedule import widths_at
from pipeline.simulate.in_memory import as_files
from pipeline.templates.fill import Recipe, fill

pytestmark = pytest.mark.usefixtures("compiled_quickly")
AT = 1.3  # of the coefficient, nominally 0.5
NUMBERS = {"background": 700, "signal": 900}


def written(manifest, **coefficient):
    return {
        "run": "benchmarked",
        "analysis": {"target": f"{Path(__file__).parent.parent / 'support/benchmarked.py'}:Benchmarked"},
        "data": {
            "manifest": str(manifest),
            "luminosity_per_pb": 1,
            "samples": {name: {} for name in NUMBERS},
        },
        "channels": {"x": {"edges": [0, 0.25, 0.5, 0.75, 1.2], "bandwidth": {"initial": 0.1, "final": 0.02}}},
        "widths": {"cut": {"initial": 0.05, "final": 0.01}},
        "model": {
            "poi": "c",
            "theory": [
                {"name": "c", "samples": ["signal"], "nominal": 0.5, "bounds": [-1, 2], **coefficient}
            ],
            "mc_statistics": False,
            "systematics": [
                {"name": "x", "type": "NormPlusShape", "up": "x_up"},
                {"name": "w", "type": "NormPlusShape", "up": "w_up", "samples": ["signal"]},
            ],
        },
        "objective": {"kind": "poi_uncertainty"},
        "cluster": {
            "executor": "in_process",
            "precision": "float64",
            "chunk_events": 128,
            "group_events": 256,
        },
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmarked")
    made = {name: events(name, n, np.random.default_rng(n)) for name, n in NUMBERS.items()}
    return config.parse(written(as_files(made, folder, "Events")), "benchmarked")


@pytest.fixture(scope="module")
def work(run, tmp_path_factory):
    return prepare_work(run, write_columns(run, tmp_path_factory.mktemp("columns")), "train")


@pytest.fixture(scope="module")
def samples(work):
    """The columns of all training events by sample."""
    found = {name: [] for name in NUMBERS}
    for group in work.groups:
        for file in group.files:
            for _, columns in read_sources(Path(file.path), [file.source], group.folds, file.content):
                scaled = {**columns, "weight": np.asarray(columns["weight"]) * group.scale}
                found[group.sample].append(scaled)
    return {
        name: Columns({key: jnp.asarray(np.concatenate([own[key] for own in parts])) for key in parts[0]})
        for name, parts in found.items()
    }


@pytest.fixture(scope="module")
def templates(run, work):
    return forward(InProcess(), work, initial_parameters(run), widths_at(run, 0))


def weighted(columns, at):
    """The events with the weights that they have at a coefficient."""
    return columns.replace(weight=columns.weight * weight_at(Benchmarked(), {"c": at}, columns))


def test_components_add_up_to_templates_of_the_weights_at_a_coefficient(run, work, samples, templates):
    """Of the nominal and of every variation, and 128 events at a time."""
    axes, start = work.axes, initial_parameters(run)
    away = AT - 0.5
    recipe = Recipe(work.problem.analysis, work.problem.binnings, ("x_up", "w_up"))
    found = jax.jit(lambda c: fill(recipe, start, c, widths_at(run, 0)))(weighted(samples["signal"], AT))
    for row, name in enumerate(("nominal", "x_up", "w_up")):
        parts = [
            factor * np.asarray(templates.yields["x"])[axes.row("signal", own)]
            for factor, own in (
                (1.0, name),
                (away, component(name, ("c",))),
                (away**2, component(name, ("c", "c"))),
            )
        ]
        np.testing.assert_allclose(sum(parts), found.yields["x"][row], rtol=1e-11, err_msg=name)
    background = np.asarray(templates.yields["x"])[axes.samples.index("background")]
    assert np.all(background[[axes.variations.index(n) for n in axes.variations if "@" in n]] == 0)


def test_gradients_over_chunks_are_those_of_all_events_at_once(run, work, samples, templates):
    """Of the analysis's parameters and of the theory's coefficient together, by one function of all events."""
    start, smooth, specifier = initial_parameters(run), widths_at(run, 0), Specifier.of_run(run, work.axes)
    model = specifier.model
    place = model.parameter_names.index("c")
    data = jnp.asarray([90.0, 400.0, 500.0, 300.0])
    observed = jnp.concatenate([data, jnp.zeros(model.constraints.parameter.size)])

    def chunked(given, at):
        point = model.initial.at[place].set(at)
        stacked = specifier.stacked(specifier.side_by_side(given))
        return -model.logpdf(point, observed, stacked)

    slopes, of_theory = jax.jit(jax.grad(chunked, argnums=(0, 1)))(jax.tree.map(jnp.asarray, templates), AT)
    of_analysis = pullback(InProcess(), work, start, smooth, jax.tree.map(np.asarray, slopes))
    recipe = Recipe(work.problem.analysis, work.problem.binnings, ())

    def whole(parameters, at):
        rates = [
            fill(recipe, parameters, own, smooth).yields["x"][0]
            for own in (samples["background"], weighted(samples["signal"], at))
        ]
        return -jnp.sum(poisson_logpdf(data, rates[0] + rates[1]))

    expected, theirs = jax.jit(jax.grad(whole, argnums=(0, 1)))(start, AT)
    largest = max(float(np.abs(g).max()) for g in (*expected.values(), theirs))
    np.testing.assert_allclose(of_theory, theirs, rtol=0, atol=1e-10 * largest)
    assert set(expected) == {"cut", "mix"}
    for name, gradient in expected.items():
        np.testing.assert_allclose(of_analysis[name], gradient, rtol=0, atol=1e-10 * largest, err_msg=name)
    assert min(float(np.abs(g).max()) for g in (*expected.values(), theirs)) > 1e-3 * largest


def test_benchmarks_are_the_polynomial_of_the_amplitude(samples):
    columns = samples["signal"]
    x = np.asarray(columns.x)
    for at in (-1.0, 0.0, 0.5, 1.7):
        wanted = amplitude(x, at) / amplitude(x, 0.5)
        np.testing.assert_allclose(weight_at(Benchmarked(), {"c": at}, columns), wanted, rtol=1e-10)
    parts = components_of(Benchmarked(), columns)
    square = ((0.3 - x) ** 2 + (x / 2) ** 2) / amplitude(x, 0.5)
    np.testing.assert_allclose(parts["c", "c"], square, rtol=1e-9)
    assert weight_fault(Benchmarked(), columns.arrays) is None


def test_benchmarks_that_do_not_span_the_polynomial_are_refused():
    with pytest.raises(
        ConfigError, match=r"3 points 'a', 'b', 'd' determine 2 of the 3 numbers .*\(1, c, c\*c\)"
    ):
        Benchmarks(THEORY, {"a": {}, "b": {"c": 2.0}, "d": {"c": 2.0}})
    two = {**THEORY, "k": Theory(0.0, valid=(-1.0, 1.0))}
    line = {f"w{i}": {"c": 0.5 + step, "k": step} for i, step in enumerate((0, 0.2, 0.4, 0.6, 0.8, 1.0))}
    with pytest.raises(ConfigError, match="determine 3 of the 6 numbers"):
        Benchmarks(two, line)
    with pytest.raises(ConfigError, match="column 'a' has a coefficient 'k'"):
        Benchmarks(THEORY, {"a": {"k": 1.0}})


def test_weights_that_are_no_polynomial_of_degree_2_are_named(samples):
    class Cubic(Benchmarked):
        def theory_weight(self, t, c):
            return super().theory_weight(t, c) + 0.01 * (t.c - 0.5) ** 3

    class Shifted(Benchmarked):
        def theory_weight(self, t, c):
            return 1.1 * super().theory_weight(t, c)

    arrays = samples["signal"].arrays
    assert "a polynomial of degree 2 is" in weight_fault(Cubic(), arrays)
    assert "is 1.1 at the nominal coefficients {'c': 0.5}, where it must be 1" in weight_fault(
        Shifted(), arrays
    )


def test_a_cubic_term_of_two_coefficients_is_seen():
    """Both ranges begin at the nominal value, so at opposite corners one of the two is nominal."""

    both = {name: Theory(0.0, valid=(0.0, 1.0)) for name in ("a", "b")}

    class Mixed(Benchmarked):
        theory = both

        def theory_weight(self, t, c):
            return 1 + c.x * t.a * t.b**2

    columns = {"x": np.linspace(0.1, 1.0, 50), "weight": np.ones(50)}
    assert "a polynomial of degree 2 is" in weight_fault(Mixed(), columns)


def test_benchmarks_so_close_that_single_precision_loses_them_are_refused(samples):
    close = Benchmarks(THEORY, {"w_nominal": {}, "w_up": {"c": 0.501}, "w_down": {"c": 0.499}})
    single = {name: jnp.asarray(array, jnp.float32) for name, array in samples["signal"].arrays.items()}
    with pytest.raises(ConfigError, match="float32 weights lose half of their digits"):
        close.factor(Parameters({"c": jnp.float32(0.6)}), Columns(single))
    close.factor(Parameters({"c": jnp.asarray(0.6)}), samples["signal"])


@pytest.mark.parametrize("read", [lambda c: c.widened().x, lambda c: c.arrays.get("x"), lambda c: c.x])
def test_components_are_new_where_what_they_are_made_of_has_changed(read):
    class Linear(Benchmarked):
        def theory_weight(self, t, c):
            return 1 + (t.c - 0.5) * read(c)

    columns = Columns({"x": jnp.arange(3.0), "y": jnp.ones(3), "weight": jnp.ones(3)})
    parts = Components(Linear())
    np.testing.assert_array_equal(parts(columns)["c",], [0, 1, 2])
    np.testing.assert_array_equal(parts(columns.replace(x=2 * columns.x))["c",], [0, 2, 4])


def test_columns_are_made_anew_where_another_coefficient_is_to_be_looked_at(run):
    """Weights are looked at while columns are made, so those made without a theory are not current with it."""
    job = next(own for own in columns_jobs(run) if own.sample == "signal")
    content = written(run.data.manifest)
    (with_it,) = {own.coefficients for own in recipes(run, job.files)}
    content["model"]["theory"][0]["samples"] = ["background"]
    (without,) = {own.coefficients for own in recipes(config.parse(content, "benchmarked"), job.files)}
    assert {with_it, without} == {("c",), ()}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"bounds": [-1, 2.5]}, r"bounds \[-1.0, 2.5\], outside its range of validity \[-1, 2\]"),
        ({"nominal": 0.0}, "has nominal 0, and Benchmarked.theory 0.5"),
        ({"name": "d"}, "'d' is no coefficient of Benchmarked.theory"),
    ],
)
def test_coefficients_that_the_analysis_has_not_are_refused(run, changed, reason):
    content = written(run.data.manifest, **changed)
    content["model"]["poi"] = changed.get("name", "c")
    with pytest.raises(ConfigError, match=reason):
        analysis_of(config.parse(content, "benchmarked"))
