"""Coefficients of a theory in the likelihood: exact polynomials, at each point of which pyhf has the same model."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pyhf
import pytest
from modelled import SHAPE, drawn, small

from pipeline.config.fit.theory import component, monomials
from pipeline.containers import Templates
from pipeline.errors import ConfigError, FitError
from pipeline.evaluate.by_pyhf import coefficients
from pipeline.fit import fit, profile
from pipeline.fit.breakdown import breakdown
from pipeline.fit.contour import contours
from pipeline.likelihood.cells import cells_at
from pipeline.likelihood.configured.at_coefficients import at_coefficients
from pipeline.likelihood.configured.run_workspace import likelihood, workspace
from pipeline.likelihood.configured.specifier import Specifier
from pipeline.likelihood.derivatives import derivatives
from pipeline.likelihood.lane_templates import has_lanes, lane_templates
from pipeline.likelihood.lanes import lanes_at
from pipeline.templates.axes import axes_of, variations_of, with_all_variations
from pipeline.templates.polynomial import polynomial_of, require_positive

pytestmark = pytest.mark.usefixtures("compiled_quickly")

MODEL = {
    "poi": "c",
    "further_pois": ["d"],
    "theory": [
        {"name": "c", "samples": ["signal"], "bounds": [-1, 2]},
        {"name": "d", "samples": ["signal", "top"], "nominal": 0.5, "bounds": [-1.5, 1.5]},
    ],
    "normfactors": [{"name": "k_qcd", "samples": ["qcd"]}],
    "systematics": [
        {"name": "scale", **SHAPE},
        {"name": "tune", "type": "NormPlusShape", "up": "tune_up", "samples": ["signal", "qcd"]},
        {"name": "norm", "type": "Normalization", "up": 0.1, "down": -0.08, "samples": ["signal"]},
    ],
    "luminosity_uncertainty": 0.02,
}
VARIATIONS = ("scale_up", "scale_down", "tune_up")
PARTS = tuple(
    component(name, monomial) for name in ("nominal", *VARIATIONS) for monomial in monomials(["c", "d"])
)


@pytest.fixture(scope="module")
def run():
    return small(MODEL, bins={"C": 2})


@pytest.fixture(scope="module")
def found(run):
    """Axes and templates: squares of amplitudes that are linear in the coefficients, so nothing is negative."""
    _, base = drawn(run)
    axes = axes_of(run, (*VARIATIONS, *PARTS))
    generator = np.random.default_rng(5)
    yields = {}
    for channel, array in base.yields.items():
        made = np.zeros((array.shape[0], len(axes.variations), array.shape[2]))
        for row, sample in enumerate(axes.samples):
            for name in ("nominal", *VARIATIONS):
                place = ("nominal", *VARIATIONS).index(name)
                nominal = array[row, place]
                made[row, axes.variations.index(name)] = nominal
                slope = generator.uniform(
                    -0.4, 0.4, (2, 2, array.shape[2])
                )  # of a real and an imaginary part
                slope[1] = np.abs(slope[1])
                for monomial in monomials(["c", "d"]):
                    own = [("c", "d").index(n) for n in monomial]
                    if (sample == "top" and "c" in monomial) or sample == "qcd":
                        continue
                    part = (
                        2 * slope[0, own[0]]
                        if len(own) == 1
                        else (slope[:, own[0]] * slope[:, own[1]]).sum(0)
                    )
                    part = part * (2.0 if len(set(own)) == 2 else 1.0)
                    made[row, axes.variations.index(component(name, monomial))] = nominal * part
        yields[channel] = made
    return axes, Templates(yields, base.sumw2)


@pytest.fixture(scope="module")
def made(run, found):
    axes, templates = found
    specifier = Specifier.of(templates, axes, run)
    return specifier, likelihood(templates, specifier)


def values(model, point):
    return dict(zip(model.parameter_names, np.asarray(point), strict=True))


def reduced(model, theirs, point):
    """A point of ours as pyhf's model at fixed coefficients has it."""
    own = values(model, point)
    return np.array([own[name] for name in theirs.config.par_names])


GRID = [{"c": c, "d": d} for c, d in ((0.0, 0.5), (-1.0, 0.5), (2.0, -1.5), (0.7, 1.5), (1.3, -0.2))]


def test_at_fixed_coefficients_it_is_pyhfs_model(run, made):
    """The density at drawn points: nominal yields, both ends of every systematic, the constraint terms."""
    specifier, model = made
    mine = jnp.asarray(np.concatenate([model.observations, model.auxdata()]))
    density = jax.jit(lambda point: model.logpdf(point, mine))
    generator = np.random.default_rng(3)
    for at in GRID:
        judge = pyhf.Workspace(at_coefficients(model, specifier, run, at))
        theirs = judge.model(poi_name=None)
        data = np.asarray(judge.data(theirs))
        np.testing.assert_allclose(data[: sum(model.bins)], model.observations, rtol=1e-14)
        for _ in range(3):
            point = np.asarray(model.initial) + generator.uniform(-0.3, 0.3, model.initial.size)
            point[[model.parameter_names.index(name) for name in at]] = list(at.values())
            expected = theirs.logpdf(reduced(model, theirs, point), data)[0]
            np.testing.assert_allclose(density(jnp.asarray(point)), expected, rtol=1e-10, err_msg=str(at))


def test_profiles_at_fixed_coefficients_are_pyhfs(run, made):
    specifier, model = made
    pyhf.set_backend("numpy", pyhf.optimize.minuit_optimizer(tolerance=1e-4))
    try:
        for at in GRID[3:4]:
            judge = pyhf.Workspace(at_coefficients(model, specifier, run, at))
            theirs = judge.model(poi_name=None)
            _, twice = pyhf.infer.mle.fit(judge.data(theirs), theirs, return_fitted_val=True)
            places = jnp.asarray([model.parameter_names.index(name) for name in at])
            init = model.initial.at[places].set(jnp.asarray(list(at.values())))
            fixed = model.fixed.at[places].set(True)
            ours = profile(model, model.data(), init=init, fixed=fixed)
            assert bool(ours.converged)
            assert ours.twice_nll <= float(twice) + 1e-8
            np.testing.assert_allclose(ours.twice_nll, twice, rtol=1e-7)
    finally:
        pyhf.set_backend("numpy")


def test_derivatives_are_those_of_automatic_differentiation(made):
    """Written out and in lanes; also at the nominal coefficients, where the factors of all components are 0."""
    _, model = made
    dense, data = model.dense(), model.data()

    def nll(point):
        return -model.logpdf(point, data)

    @jax.jit
    def both(point):
        found = derivatives(model, point, data, dense)
        return (found.gradient, found.hessian), (jax.grad(nll)(point), jax.hessian(nll)(point))

    @jax.jit
    def in_lanes(point):
        held = model.fixed[:, None]
        lane = lanes_at(
            lane_templates(model, dense), point[:, None], data[:, None], held, jnp.asarray([False])
        )
        return lane.gradient[:, 0], cells_at(model, point, data, dense, model.fixed)[0]

    generator = np.random.default_rng(1)
    away = model.initial + jnp.asarray(generator.uniform(-0.2, 0.2, model.initial.size))
    assert has_lanes(model)
    for point in (model.initial, away):
        (gradient, hessian), (slope, bend) = both(point)
        np.testing.assert_allclose(gradient, slope, atol=1e-8 * np.abs(slope).max() + 1e-8)
        np.testing.assert_allclose(hessian, bend, atol=1e-9 * np.abs(bend).max())
    lane, moved = in_lanes(away)
    whole = both(moved)[0][0][model.multiplying.kept]
    np.testing.assert_allclose(lane, whole, rtol=1e-9, atol=1e-7)


def test_a_fit_finds_the_coefficients(made):
    _, model = made
    truth = model.initial.at[model.parameter_names.index("c")].set(0.4)
    result = fit(model, model.expected_data(truth))
    assert bool(result.converged)
    assert values(model, result.parameters)["c"] == pytest.approx(0.4, abs=1e-5)


@pytest.mark.slow
def test_contours_and_parts_are_those_of_coefficients(run, made):
    _, model = made
    (contour,) = contours(model, ["c", "d"], levels=[0.68])
    assert contour.parameters == ("c", "d")
    assert len(contour.curves) == 1
    parts = breakdown(model, run.groups, parameter="c")
    total = sum(own.impact**2 for own in parts.groups.values() if own.impact is not None)
    assert total == pytest.approx(parts.total**2, rel=1e-6)


def test_templates_are_differentiable_to_every_component(run, found, made):
    """The likelihood's derivative with respect to each template against finite differences."""
    _, templates = found
    specifier, model = made
    point = model.initial + 0.1
    side = specifier.side_by_side(templates)

    @eqx.filter_jit
    def density(yields):
        return model.logpdf(point, model.data(), specifier.stacked(side._replace(yields=yields)))

    yields = jnp.asarray(side.yields)
    slope = jax.grad(density)(yields)
    direction = jnp.asarray(np.random.default_rng(2).uniform(-1, 1, yields.shape))
    step = 1e-4
    difference = (density(yields + step * direction) - density(yields - step * direction)) / (2 * step)
    np.testing.assert_allclose(jnp.sum(slope * direction), difference, rtol=1e-7)


def test_a_workspace_cannot_say_it(run, found):
    axes, templates = found
    with pytest.raises(ConfigError, match=r"model.theory: 'c', 'd' .* own likelihood judges"):
        workspace(templates, axes, run)


def test_negative_yields_are_named(run, found):
    axes, templates = found
    require_positive(templates, axes, run)
    polynomial = polynomial_of(templates, axes, run, "A", "signal")
    box = np.array([[-1.0, 2.0], [-2.0, 1.0]])
    lowest, where = polynomial.lowest(box)
    grid = np.array([[c, d] for c in np.linspace(-1, 2, 61) for d in np.linspace(-2, 1, 61)])
    scanned = np.array([polynomial.at(point) for point in grid])
    np.testing.assert_array_less(lowest, scanned.min(axis=0) + 1e-9)
    np.testing.assert_allclose(lowest, scanned.min(axis=0), rtol=0.01, atol=0.01)
    np.testing.assert_allclose(lowest, [polynomial.at(point)[b] for b, point in enumerate(where)])
    yields = {name: array.copy() for name, array in templates.yields.items()}
    row = axes.row("signal", component("nominal", ("c",)))
    yields["A"][row] = -3 * yields["A"][axes.row("signal", "nominal")]
    with pytest.raises(
        FitError, match=r"sample 'signal' has a total weight of -.* in channel 'A' at c = .*, d = .*; a"
    ):
        require_positive(Templates(yields, templates.sumw2), axes, run)


def test_evaluation_compares_with_pyhf_and_names_a_difference(run, made, monkeypatch):
    specifier, model = made
    monkeypatch.setattr(coefficients, "grid", lambda config: [{"c": 0.7, "d": 1.5}])
    (found,) = coefficients.compared(run, specifier, model)
    assert found.ours == pytest.approx(found.pyhf, abs=1e-4)
    wrong = coefficients.at_coefficients
    monkeypatch.setattr(
        coefficients, "at_coefficients", lambda *given: wrong(*given[:-1], {"c": 0.701, "d": 1.5})
    )
    with pytest.raises(
        FitError, match=r"at c = 0.7, d = 1.5 ln L of our likelihood is .* they should be the same"
    ):
        coefficients.compared(run, specifier, model)


def test_a_further_model_may_let_more_samples_depend_on_a_coefficient():
    other = {**MODEL, "theory": [{**MODEL["theory"][0], "samples": ["signal", "top"]}, MODEL["theory"][1]]}
    other["normfactors"] = [{"name": "mu", "samples": ["signal"]}, *MODEL["normfactors"]]
    both = small(
        MODEL, evaluate={"also": {"more": {"objective": {"kind": "poi_uncertainty"}, "model": other}}}
    )
    wanted = {component("nominal", m) for m in monomials(["c", "d"])}
    assert wanted <= set(variations_of(with_all_variations(both), "top"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"objective": {"kind": "upper_limit"}}, "'upper_limit' is of a signal strength, and the POI 'c'"),
        (
            {"objective": {"kind": "poi_uncertainty", "penalties": [{"kind": "pulls"}]}},
            "'pulls' holds 'c' at mu 0, its nominal value",
        ),
        ({"poi": "e"}, r"poi 'e' is not one of the normfactors \['mu', 'k_qcd'\] and of theory \['c', 'd'\]"),
    ],
)
def test_what_a_coefficient_cannot_be_asked_is_refused(changes, reason):
    with pytest.raises(ConfigError, match=reason):
        small(
            {**MODEL, **{k: v for k, v in changes.items() if k != "objective"}},
            **{k: v for k, v in changes.items() if k == "objective"},
        )
