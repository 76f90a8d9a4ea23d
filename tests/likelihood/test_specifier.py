"""Templates to a pyhf specification: one meaning, traced or written."""

import cabinetry
import jax
import jax.numpy as jnp
import numpy as np
import pyhf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline import config as configuration
from pipeline.config.quantities import PoiUncertainty
from pipeline.containers import Templates
from pipeline.errors import ConfigError
from pipeline.gradient.loss import centre
from pipeline.likelihood import HistFactory, templates_from_workspace
from pipeline.likelihood.configured.run_workspace import workspace
from pipeline.likelihood.configured.specifier import Specifier
from pipeline.objective import Inputs, value_of
from pipeline.templates.axes import axes_of, variations_of
from pipeline.templates.shapes import Channels, norm_plus_shape

pytestmark = pytest.mark.usefixtures("compiled_quickly")


BTAG = tuple(f"btag_var_{i}_{direction}" for i in range(4) for direction in ("up", "down"))
VARIATIONS = ("unused", "pt_scale_up", "pt_res_up", "scale_var_up", "scale_var_down", *BTAG)
YIELDS = hnp.arrays(np.float64, 4, elements=st.floats(0.125, 1e4))


@pytest.fixture(scope="module")
def run(request):
    return configuration.load(request.config.rootpath / "config" / "miniature.yaml")


@pytest.fixture(scope="module")
def templates(run):
    generator = np.random.default_rng(1)
    rows = axes_of(run, VARIATIONS)
    shape = (len(rows.samples), len(rows.variations), 3)
    return Templates(
        {name: generator.uniform(1, 50, shape) for name in run.channels},
        {name: generator.uniform(0.1, 5, (shape[0], 3)) for name in run.channels},
    )


def test_axes_hold_what_the_model_uses(run):
    assert axes_of(run, VARIATIONS).variations == ("nominal", *VARIATIONS[1:])
    assert variations_of(run, "ttbar") == ("pt_scale_up", "pt_res_up", *BTAG)
    assert variations_of(run, "wjets") == (
        "pt_scale_up",
        "pt_res_up",
        *BTAG,
        "scale_var_up",
        "scale_var_down",
    )


def test_the_written_workspace_is_the_traced_specification(run, templates):
    rows = axes_of(run, VARIATIONS)
    written = templates_from_workspace(workspace(templates, rows, run))
    traced = jax.jit(Specifier.of(templates, rows, run).named)(jax.tree.map(jnp.asarray, templates))
    assert jax.tree.structure(written) == jax.tree.structure(traced)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-14), written, traced)


def freed(run):
    """The run with one constraint switched off and another one wider."""
    widths = {"Jet energy scale": "none", "tW normalisation": 2.5}
    systematics = tuple(
        s.model_copy(update={"constraint_width": widths.get(s.name, 1.0)}) for s in run.model.systematics
    )
    return run.model_copy(update={"model": run.model.model_copy(update={"systematics": systematics})})


@pytest.mark.slow
def test_constraint_widths_are_optimised_but_never_dropped_from_a_workspace(run, templates):
    other, rows = freed(run), axes_of(run, VARIATIONS)
    with pytest.raises(
        ConfigError, match="constraint_width of 'Jet energy scale', 'tW normalisation' is not 1; a pyhf"
    ):
        workspace(templates, rows, other)
    objective, cotangent, _ = centre(other, rows)(templates, {})
    model = HistFactory.from_workspace(
        workspace(templates, rows, run), constraint_widths={"Jet energy scale": None, "tW normalisation": 2.5}
    )
    value = value_of(PoiUncertainty(), Inputs(model, model.templates)).value
    np.testing.assert_allclose(objective, value, rtol=1e-10)
    assert objective > centre(run, rows)(templates, {})[0]  # less is known
    assert all(np.all(np.isfinite(c)) for c in cotangent.yields.values())


def test_one_compilation_however_many_epochs(run, templates):
    """Other numbers, and a bin that empties, which fixes its staterror parameter, are the same program."""
    evaluate = centre(run, axes_of(run, VARIATIONS))
    evaluate(templates, {})
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    )
    try:
        moved = jax.tree.map(lambda a: 1.1 * a, templates)
        evaluate(moved, {})
        moved.sumw2["4j1b"][:, 1] = 0.0
        evaluate(moved, {})
        assert not compiled
        jax.jit(lambda x: x + len(compiled))(1.0)
        assert compiled  # the listener does hear compilations
    finally:
        jax.monitoring.clear_event_listeners()


def test_pyhf_and_ours_agree_on_it(run, templates):
    spec = workspace(templates, axes_of(run, VARIATIONS), run)
    model, data = cabinetry.model_utils.model_and_data(spec)
    ours = HistFactory.from_workspace(spec)
    assert list(ours.parameter_names) == model.config.par_names
    start = np.array(model.config.suggested_init())
    np.testing.assert_allclose(ours.expected_data(ours.initial), model.expected_data(start), rtol=1e-12)
    np.testing.assert_allclose(
        data[: len(spec["observations"][0]["data"]) * 2], model.expected_data(start)[:6]
    )
    moved = start + 0.1
    np.testing.assert_allclose(
        ours.logpdf(jnp.asarray(moved), jnp.asarray(data)),
        model.logpdf(moved, pyhf.tensorlib.astensor(data))[0],
    )


@given(YIELDS, YIELDS, YIELDS)
def test_ratio_times_shape_is_the_template(nominal, up, down):
    """Of two channels side by side, each with a ratio of its own."""
    half = Channels.of_sizes([nominal.size, nominal.size])
    twice = [np.concatenate([a, 2 * a])[None] for a in (nominal, up, down)]
    found = norm_plus_shape(*twice, twice[0][0] > 0, half)
    np.testing.assert_allclose(half.over_bins(found.hi) * found.hi_data, twice[1])
    np.testing.assert_allclose(half.over_bins(found.lo) * found.lo_data, twice[2])
    np.testing.assert_allclose(half.sums(found.hi_data), half.sums(twice[0]))


@given(YIELDS, YIELDS)
def test_a_missing_down_template_is_the_mirror(nominal, up):
    one = Channels.of_sizes([nominal.size])
    found = norm_plus_shape(nominal[None], up[None], None, nominal > 0, one)
    np.testing.assert_allclose(found.lo, np.maximum(2.0 - found.hi, 0.01))
    middle = (found.hi_data + found.lo_data)[0] / 2
    np.testing.assert_allclose(middle, nominal, atol=1e-9 * nominal.max())


@pytest.mark.slow
def test_empty_templates_have_finite_derivatives(run, templates):
    rows = axes_of(run, VARIATIONS)
    empty = jax.tree.map(lambda x: jnp.zeros_like(x), templates)

    def total(t):
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(Specifier.of(t, rows, run).named(t)))

    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(jax.grad(total)(empty)))
