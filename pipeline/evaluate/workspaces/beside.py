"""What pyhf with Minuit makes of a given workspace: a second opinion, and how long it takes."""

import time
from collections.abc import Callable

import numpy as np
import pyhf

from pipeline.evaluate.by_pyhf.state import minuit, pyhf_with
from pipeline.evaluate.workspaces.given import GivenWorkspace
from pipeline.evaluate.workspaces.results import ByPyhf, WorkspaceFit, WorkspaceLimit, WorkspaceTest, bands

LEAST_MU = 1e-6  # pyhf's CLs of no signal at all may be 0 / 0


def fit_beside(given: GivenWorkspace, ours: WorkspaceFit) -> WorkspaceFit:
    """Return the fit with pyhf's beside it."""

    def ask(model: pyhf.Model) -> ByPyhf:
        found, least = pyhf.infer.mle.fit(
            np.asarray(given.data),
            model,
            **_held(given, model),
            return_uncertainties=True,
            return_fitted_val=True,
        )
        values, uncertainties = np.asarray(found).T
        names = model.config.par_names
        return ByPyhf(
            twice_nll=float(least),
            values=dict(zip(names, values.tolist(), strict=True)),
            uncertainties=dict(zip(names, uncertainties.tolist(), strict=True)),
            seconds=0.0,
        )

    return ours.changed(pyhf=_asked(given, ask))


def cls_beside(given: GivenWorkspace, ours: WorkspaceTest) -> WorkspaceTest:
    """Return the test with pyhf's beside it."""

    def ask(model: pyhf.Model) -> ByPyhf:
        observed, tails, expected = pyhf.infer.hypotest(
            ours.mu,
            np.asarray(given.data),
            model,
            **_held(given, model),
            return_tail_probs=True,
            return_expected_set=True,
        )
        numbers = {"cls": observed, "clsb": tails[0], "clb": tails[1], **bands("cls_expected", expected)}
        return ByPyhf(numbers={name: float(n) for name, n in numbers.items()}, seconds=0.0)

    return ours.changed(pyhf=_asked(given, ask))


def limit_beside(given: GivenWorkspace, ours: WorkspaceLimit) -> WorkspaceLimit:
    """Return the limit with pyhf's beside it, looked for up to twice ours."""

    def ask(model: pyhf.Model) -> ByPyhf:
        least, most = model.config.suggested_bounds()[model.config.poi_index]
        low, high = max(least, LEAST_MU), min(2 * max(ours.observed, *ours.expected), most)
        observed, expected = pyhf.infer.intervals.upper_limits.toms748_scan(
            np.asarray(given.data), model, low, high, level=ours.level, **_held(given, model)
        )
        numbers = {"observed": observed, **bands("expected", expected)}
        return ByPyhf(numbers={name: float(n) for name, n in numbers.items()}, seconds=0.0)

    return ours.changed(pyhf=_asked(given, ask))


def _held(given: GivenWorkspace, model: pyhf.Model) -> dict[str, list[float] | list[bool]]:
    """Return pyhf's arguments for parameters that are held."""
    start = [
        given.fixed.get(n, v)
        for n, v in zip(model.config.par_names, model.config.suggested_init(), strict=True)
    ]
    fixed = [
        n in given.fixed or f
        for n, f in zip(model.config.par_names, model.config.suggested_fixed(), strict=True)
    ]
    return {"init_pars": start, "fixed_params": fixed}


def _asked(given: GivenWorkspace, ask: Callable[[pyhf.Model], ByPyhf]) -> ByPyhf:
    """Return pyhf's answer with its seconds, or why it has none."""
    started = time.perf_counter()
    with pyhf_with(minuit()):
        options = {} if given.poi is None else {"poi_name": given.poi or None}
        try:
            answer = ask(pyhf.Workspace(given.spec).model(measurement_name=given.measurement, **options))
        except Exception as error:  # whatever it is: that is pyhf's answer
            answer = ByPyhf(error=" ".join(f"{type(error).__name__}: {error}".split())[:300], seconds=0.0)
    return answer.changed(seconds=time.perf_counter() - started)
