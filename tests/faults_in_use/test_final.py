"""The final number: an interval that exists, whose likelihood ours confirms, and words where there is none."""

import json
import math
import re
from pathlib import Path

import cabinetry
import iminuit
import jax.numpy as jnp
import numpy as np
import pyhf
import pytest
import scipy.optimize
from workspaces import counting, modifier, workspace_of

from pipeline import config as configuration
from pipeline.config.quantities import ExpectedLimit, ProfileInterval
from pipeline.containers import Templates
from pipeline.data import datasets
from pipeline.data.datasets import NOMINAL
from pipeline.errors import FitError
from pipeline.evaluate.by_pyhf import interval as pyhf_interval
from pipeline.evaluate.by_pyhf.fit import pyhf_fit, pyhf_objective, require_agreement
from pipeline.fit.interval import End, Interval, end_of
from pipeline.fit.poi import undetermined
from pipeline.gradient.loss import _why
from pipeline.likelihood import HistFactory, patched
from pipeline.likelihood.configured.specifier import Specifier
from pipeline.objective.bounds import beyond_bounds
from pipeline.objective.value import without_fit
from pipeline.templates.axes import Axes

pytestmark = pytest.mark.usefixtures("compiled_quickly")

HELD_OUT = Path(__file__).with_name("agc_optimised_held_out.json")


@pytest.fixture
def run(request):
    """A run with another objective, POI's nominal value and bounds."""

    def make(kind="profile_interval", nominal=1.0, bounds=(0.0, 10.0)):
        found = configuration.load(
            request.config.rootpath / "config" / "neos.yaml", [f"objective.kind={kind}"]
        )
        factor = found.model.normfactors[0].model_copy(update={"nominal": nominal, "bounds": bounds})
        model = found.model.model_copy(update={"normfactors": (factor,), "poi": factor.name})
        return found.model_copy(update={"model": model})

    return make


def experiment(signal, background, nominal=1.0, bounds=(0.0, 10.0)):
    """A counting experiment and its Asimov data."""
    samples = [
        {"name": "s", "data": [signal], "modifiers": [modifier("mu", "normfactor")]},
        {"name": "b", "data": [background], "modifiers": []},
    ]
    poi = {"name": "mu", "inits": [nominal], "bounds": [list(bounds)]}
    return workspace_of(
        [{"name": "bin", "samples": samples}], {"bin": [nominal * signal + background]}, parameters=[poi]
    )


def sides_by_hand(signal, observed):
    """Where -2 ln L of one Poisson number has risen by 1, in units of the signal."""

    def excess(rate):
        return 2 * (rate - observed - observed * math.log(rate / observed)) - 1

    low = scipy.optimize.brentq(excess, 1e-9, observed)
    high = scipy.optimize.brentq(excess, observed, 10 * observed + 10)
    return [(rate - observed) / signal for rate in (low, high)]


A1 = [(5.0, 50.0, 1.0, 1.483), (3.0, 50.0, 1.0, 2.427), (1.0, 100.0, 1.0, 10.05), (10.0, 50.0, 0.0, 0.707)]


@pytest.mark.parametrize(("signal", "background", "nominal", "right"), A1)
def test_a1_an_end_beyond_the_bounds_of_the_poi(run, capfd, signal, background, nominal, right):
    fit = pyhf_fit(run(nominal=nominal), experiment(signal, background, nominal))
    assert fit.objective == pytest.approx(right, rel=0.01)
    np.testing.assert_allclose(fit.interval, sides_by_hand(signal, nominal * signal + background), rtol=1e-3)
    assert fit.uncertainty[0] == pytest.approx(right, rel=0.01)
    assert fit.interval_missing == ""
    assert capfd.readouterr().err == ""  # Minuit's C++ writes past Python's own


@pytest.mark.parametrize("bounds", [(0.0, 1.2), (0.9, 10.0), (0.0, 1.0), (1.0, 10.0)])
def test_a1_bounds_on_either_side_decide_nothing(run, bounds):
    number = pyhf_objective(run(bounds=bounds), experiment(5.0, 50.0, bounds=bounds))
    assert number == pytest.approx(1.484, rel=1e-3)


def test_a1_a_bound_of_the_model_makes_one_side(run):
    """No background and no signal: below mu = 0 the bin would expect fewer than no events, -2 ln L is 2 mu S above."""
    fit = pyhf_fit(run(nominal=0.0), experiment(5.0, 0.0, 0.0))
    assert fit.interval_method == {"down": "bound", "up": "profile"}
    np.testing.assert_allclose(fit.interval, [0.0, 0.1], atol=1e-4)
    assert fit.objective == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize("away", [1e-3, 0.3, 30.0])
def test_a1_ends_are_found_from_any_guess(away):
    assert end_of(lambda x: (x / 2.0) ** 2, 2.0 * away).distance == pytest.approx(2.0, rel=1e-3)
    assert end_of(lambda x: None if x > 1 else 0.5 * x, 2.0 * away).method == "bound"
    assert end_of(lambda x: 0.0, away) is None


def test_a2_the_optimised_analysis_of_make():
    """MINOS finds no upper end there and iminuit gives 0.15437, the parabolic error, on both sides."""
    model, data = cabinetry.model_utils.model_and_data(json.loads(HELD_OUT.read_text()))
    fitted = pyhf_interval.valid_fit(model, data, (0, 1, 2))
    assert pyhf_interval._minos(fitted) is None
    near = Interval(End(0.1505, "profile"), End(0.16696, "profile"))
    found = pyhf_interval._profiled(model, data, fitted, near)
    np.testing.assert_allclose(found.signed, [-0.1506, 0.1668], rtol=5e-3)
    assert found.half == pytest.approx(0.1587, rel=0.01)


YIELDS = {"signal": [1.697, 1.443, 2.216, 14.644], "background": [92.724, 3.619, 2.152, 1.505]}


def shaped(high, low):
    """Four bins with a shape uncertainty of the background."""
    histosys = modifier("gamma", "histosys", {"hi_data": high, "lo_data": low})
    samples = [
        {"name": "signal", "data": YIELDS["signal"], "modifiers": [modifier("mu", "normfactor")]},
        {"name": "background", "data": YIELDS["background"], "modifiers": [histosys]},
    ]
    return workspace_of(
        [{"name": "output", "samples": samples}], {"output": np.sum(list(YIELDS.values()), axis=0).tolist()}
    )


@pytest.mark.parametrize(
    ("high", "low"),
    [
        ([92.0, 7.0, 5.0, 30.0], [92.0, 0.1, -3.0, -20.0]),  # NaN below -0.8 sigma
        ([68.308, 5.766, 5.816, 20.111], [61.593, 14.143, 7.854, 16.41]),  # both on one side: valleys
    ],
    ids=["not_finite", "valleys"],
)
def test_a3_a_likelihood_that_ends_or_has_valleys(run, capfd, high, low):
    """Against a scan of the plain formula, on a grid of the one nuisance parameter."""
    spec = shaped(high, low)
    fit = pyhf_fit(run(), spec)
    theirs = pyhf.Workspace(spec).model()
    order = [theirs.config.par_slice(name).start for name in ("mu", "gamma")]
    data = pyhf.Workspace(spec).data(theirs)
    grid = np.linspace(-3, 3, 2401)

    def profiled(mu):
        with np.errstate(all="ignore"):
            points = [[mu, gamma] if order == [0, 1] else [gamma, mu] for gamma in grid]
            values = np.array([-2 * float(theirs.logpdf(point, data)[0]) for point in points])
        return values[np.isfinite(values)].min()

    lowest = profiled(1.0)
    for side in fit.interval:
        assert profiled(1.0 + side) - lowest == pytest.approx(1.0, abs=0.02)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("kind", "ours", "worse"), [("discovery", 2.02, "ours"), ("cls", -3.1, "ours")])
def test_a2_one_per_cent_and_whose_fault(run, kind, ours, worse):
    settings, spec = run(kind), experiment(5.0, 50.0)
    pyhfs = {"discovery": 2.0, "cls": -3.0}[kind]
    require_agreement(settings, spec, 0.992 * pyhfs, pyhfs)
    with pytest.raises(FitError, match=rf"the fit of {worse} is not at the lowest -2 ln L"):
        require_agreement(settings, spec, ours * 1.01, pyhfs)
    require_agreement(run("cls"), spec, -0.001, -0.01)  # one per cent of CLs, not of its logarithm


def test_d_pyhfs_state_is_as_it_was(run):
    """Backend, its precision and the optimiser, and how much Minuit prints; also after an error."""
    chosen = pyhf.optimize.minuit_optimizer(tolerance=0.3)
    pyhf.set_backend("numpy", chosen, precision="32b")
    handle = iminuit.Minuit(lambda x: x * x, 1.0)
    handle.print_level = 2
    before = pyhf.get_backend()
    try:
        assert pyhf_objective(run("discovery"), experiment(5.0, 50.0)) == pytest.approx(0.696, rel=1e-2)
        with pytest.raises(FitError):
            pyhf_objective(run(), experiment(0.0, 50.0))
        assert pyhf.get_backend() == before
        assert pyhf.tensorlib.precision == "32b"
        assert handle.print_level == 2
    finally:
        handle.print_level = 0
        pyhf.set_backend("numpy", precision="64b")


def test_b_a_poi_that_nothing_determines(run):
    with pytest.raises(FitError, match=r"no bin depends on the parameter of interest 'mu'"):
        pyhf_fit(run(), experiment(0.0, 50.0))
    spec = counting()
    spec["channels"][0]["samples"][1]["modifiers"] = [modifier("k", "normfactor")]
    assert "'k' can make up for any change of it" in undetermined(HistFactory.from_workspace(spec))
    assert undetermined(HistFactory.from_workspace(counting())) is None


def test_b_an_interval_or_limit_beyond_the_bounds():
    model = HistFactory.from_workspace(experiment(5.0, 50.0, bounds=(0.0, 2.0)))
    assert beyond_bounds(ProfileInterval(), model) is None  # its ends are found whatever the bounds
    limit = beyond_bounds(ExpectedLimit(level=0.05), model)
    assert "'mu', nominally 1, has bounds [0, 2]" in limit
    assert "upper limit at CLs = 0.05 is above 2; widen `bounds` of 'mu' in model.normfactors" in limit
    wide = HistFactory.from_workspace(experiment(5.0, 50.0, bounds=(-5.0, 20.0)))
    assert beyond_bounds(ProfileInterval(), wide) is None
    assert beyond_bounds(ExpectedLimit(), wide) is None


NOT_APPLICABLE = [
    ({"op": "replace", "path": "/channels/7/samples/0/data", "value": [1.0]}, r"/channels/7/samples/0/data"),
    ({"op": "remove", "path": "/channels/0/samples/0/colour"}, r"/channels/0/samples/0/colour"),
    ({"op": "test", "path": "/version", "value": "0"}, r"/version"),
    ({"op": "remove", "path": "/measurements"}, r"is none: .*measurements"),
]


@pytest.mark.parametrize(("operation", "said"), NOT_APPLICABLE)
def test_b_a_patch_that_does_not_apply_is_named(operation, said):
    background = counting()
    patchset = {
        "metadata": {
            "references": {"hepdata": "ins1234567"},
            "description": "signals",
            "labels": ["mass"],
            "digests": {"sha256": pyhf.utils.digest(background)},
        },
        "patches": [{"metadata": {"name": "signal_8", "values": [8]}, "patch": [operation]}],
        "version": "1.0.0",
    }
    with pytest.raises(ValueError, match=rf"patch 'signal_8': .*{said}"):
        patched(background, patchset, "signal_8")


def parameter(**values):
    return lambda w: w["measurements"][0]["config"]["parameters"].append(values)


def entry(place, value):
    def change(workspace):
        *path, last = place
        for step in path:
            workspace = workspace[step]
        workspace[last] = value

    return change


BACKGROUND = ("channels", 0, "samples", 1)
NAN, INF = math.nan, math.inf
A19 = {
    "init_outside": (
        parameter(name="mu", inits=[20.0], bounds=[[0.0, 10.0]]),
        "'mu': inits 20 is outside .*0, 10",
    ),
    "default_outside": (parameter(name="mu", bounds=[[2.0, 10.0]]), "'mu': inits 1 is outside"),
    "reversed": (parameter(name="mu", bounds=[[10.0, 0.0]]), r"'mu': bounds \[10, 0\]"),
    "empty": (parameter(name="mu", bounds=[[1.0, 1.0]]), r"'mu': bounds \[1, 1\]"),
    "bound_nan": (parameter(name="norm", bounds=[[NAN, 5.0]]), "'norm': bounds .*nan"),
    "bound_infinite": (parameter(name="norm", bounds=[[-5.0, INF]]), "'norm': bounds .*inf"),
    "init_nan": (parameter(name="norm", inits=[NAN]), "'norm': inits nan"),
    "auxdata_nan": (parameter(name="norm", auxdata=[NAN]), "'norm': auxdata nan"),
    "width_zero": (
        lambda w: (
            w["channels"][0]["samples"][1]["modifiers"].append(modifier("lumi", "lumi")),
            parameter(name="lumi", inits=[1.0], bounds=[[0.5, 1.5]], auxdata=[1.0], sigmas=[0.0])(w),
        ),
        "'lumi': sigmas 0; allowed is a finite number above 0",
    ),
    "data_nan": (entry((*BACKGROUND, "data"), [NAN]), "sample 'b', data: nan in bin 0"),
    "data_infinite": (entry((*BACKGROUND, "data"), [INF]), "sample 'b', data: inf in bin 0"),
    "observed_nan": (entry(("observations", 0, "data"), [NAN]), "observation 'bin': nan in bin 0"),
    "observed_negative": (entry(("observations", 0, "data"), [-1.0]), "observation 'bin': -1 in bin 0"),
    "factor_infinite": (
        entry((*BACKGROUND, "modifiers", 0, "data"), {"hi": INF, "lo": 0.9}),
        "hi = inf, but a normalisation factor",
    ),
    "shape_nan": (
        entry((*BACKGROUND, "modifiers", 0), modifier("t", "histosys", {"hi_data": [NAN], "lo_data": [1.0]})),
        r"'t' \(histosys\), hi_data: nan in bin 0",
    ),
    "error_negative": (
        entry((*BACKGROUND, "modifiers", 0), modifier("stat", "staterror", [-1.0])),
        r"'stat' \(staterror\): -1 in bin 0",
    ),
    "observed_twice": (
        lambda w: w["observations"].append({"name": "bin", "data": [1.0]}),
        "observations: name 'bin' appears twice",
    ),
}


@pytest.mark.parametrize("case", A19)
def test_a19_a_workspace_that_contradicts_itself(case):
    change, message = A19[case]
    workspace = counting()
    change(workspace)
    with pytest.raises(ValueError, match=message):
        HistFactory.from_workspace(workspace)


@pytest.mark.parametrize(
    ("signal", "kind", "said"),
    [
        (0.0, "profile_interval", "no bin depends on the parameter of interest 'mu'"),
        (
            1.0,
            "upper_limit",
            r"'mu', nominally 1, has bounds \[0, 10\], and its upper limit at CLs = 0.05 is above",
        ),
        (1.0, "discovery", "the emptiest bin is bin 3"),
    ],
)
def test_b_the_optimisation_names_the_poi(run, signal, kind, said):
    """The four rows are signal, background and its variations; what the fit said does not matter."""
    settings = run(kind)
    samples = tuple(datasets.sample_names(settings))
    rows = {"signal": signal * np.array([0.1, 0.2, 0.3, 0.4])}
    yields = np.stack([rows.get(name, np.array([50.0, 40.0, 30.0, 20.0])) for name in samples])[:, None]
    templates = Templates({"output": yields}, {"output": yields[:, 0]})
    axes = Axes(samples, (NOMINAL,))
    why = _why(
        settings, Specifier.of_run(settings, axes), axes, templates, without_fit(jnp.asarray(math.nan))
    )
    assert re.search(said, why)
