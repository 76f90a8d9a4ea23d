"""Evaluate one point on one fold: exact cuts, their workspace, and the objective by our likelihood and by pyhf."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from pipeline.config import Config
from pipeline.containers import Templates
from pipeline.errors import ConfigError, FitError
from pipeline.evaluate.by_pyhf.coefficients import compared
from pipeline.evaluate.by_pyhf.fit import pyhf_fit, pyhf_objective, require_agreement
from pipeline.evaluate.evaluation import AtCoefficients, EvaluatedKind, Missing, Number, Numbers, PyhfFit
from pipeline.fit.breakdown import Breakdown, breakdown
from pipeline.fit.contour import Contour, contours
from pipeline.gradient.loss import Judge, judge
from pipeline.gradient.pieces import Piece, Pieces, added
from pipeline.gradient.sweeps import Executor, FreeValues
from pipeline.gradient.work import Work, prepare_work
from pipeline.likelihood.configured.pruning import Decision
from pipeline.likelihood.configured.run_workspace import beyond_pyhf, likelihood, workspace
from pipeline.likelihood.configured.specifier import Specifier
from pipeline.likelihood.workspace import Workspace
from pipeline.optimise.schedule import widths_at
from pipeline.templates.axes import Axes, with_all_variations
from pipeline.templates.fill import EXACT
from pipeline.templates.polynomial import require_positive

Found = TypeVar("Found")


class ModelPieces(NamedTuple):
    """What is made once for a model: its objective, compiled, and the structure of its likelihood, if it has any."""

    judge: Judge
    specifier: Specifier | None
    of_parameters: bool  # whether the objective looks at them, too

    def decided(self, decision: Decision | None) -> "ModelPieces":
        """Return the same with a decision on what is pruned, which holds."""
        return self._replace(judge=self.judge.decided(decision))

    def at(self, templates: Templates, pieces: Pieces) -> float:
        """Return the objective of templates, those of all pieces together.

        Of what looks at parameters too, it is the mean over those of the pieces.
        """
        several = pieces if self.of_parameters else pieces[:1]
        return float(np.mean([self.judge(templates, own.parameters).objective for own in several]))


class Objectives(NamedTuple):
    """Of the run's model, and of its further models by name."""

    own: ModelPieces
    others: dict[str, ModelPieces]


class UncertaintyParts(NamedTuple):
    """The breakdown of each parameter of interest, the contours of each pair of them; or why there are none."""

    breakdowns: dict[str, Breakdown]
    no_breakdown: str = ""
    contours: tuple[Contour, ...] = ()
    no_contours: str = ""


class Verdict(NamedTuple):
    """Templates with exact cuts, the workspace made of them, the numbers.

    Workspace and pyhf's fit are missing where a workspace cannot say what the model is. ``also`` has exact, relaxed and
    pyhf's number by each further model. ``missing`` says why a number that could be there is not, ``decision`` what
    is pruned by these templates.
    """

    templates: Templates
    workspace: Workspace | None
    exact: Number
    relaxed: Number
    fit: PyhfFit | None
    also: dict[str, Numbers]
    missing: list[Missing]
    parts: UncertaintyParts
    decision: Decision | None
    at_coefficients: tuple[AtCoefficients, ...] = ()

    @property
    def pyhf(self) -> Number:
        """The final number."""
        return None if self.fit is None else self.fit.objective


def objectives_of(config: Config, axes: Axes) -> Objectives:
    """Return the objectives of a run on templates with these axes."""
    others = {name: _pieces(other, axes) for name, other in config.alternatives.items()}
    return Objectives(_pieces(config, axes), others)


def _pieces(config: Config, axes: Axes) -> ModelPieces:
    specifier = Specifier.of_run(config, axes)
    judged = judge(config, axes, specifier)
    return ModelPieces(judged, specifier, config.objective.is_merit)


def work_of_all_models(
    config: Config, columns: Sequence[tuple[str, Path]], fold: str, *, part_of: str | None = None
) -> Work:
    """Return the events of a fold as ``prepare_work`` does, with the variations that any of the run's models needs."""
    return prepare_work(with_all_variations(config), columns, fold, part_of=part_of)


def verdict(
    config: Config,
    executor: Executor,
    events: Work,
    parameters: FreeValues,
    objectives: Objectives,
    *,
    needed: bool = True,
) -> Verdict:
    """Return what some events are worth at parameters, see ``verdict_of``."""
    return verdict_of(config, executor, (Piece(events, parameters),), objectives, needed=needed)


def verdict_of(
    config: Config, executor: Executor, pieces: Pieces, objectives: Objectives, *, needed: bool = True
) -> Verdict:
    """Return pyhf's value of the workspace of hard cuts, and the objective of exact and of relaxed templates.

    Templates are those of all pieces together, relaxed ones at the final widths, those the optimisation ended with.

    Args:
        needed: whether the run's own numbers have to be there. Where an optimisation starts they need not: a network
            that has learnt nothing may put all events into one bin. Those of further models need not anywhere.

    Raises:
        FitError: a fit that is needed, ours or pyhf's, did not converge, or the two differ.
    """
    axes = pieces[0].work.axes
    exact = added(executor, pieces, EXACT)
    if needed:
        require_positive(exact, axes, config)
    relaxed = added(executor, pieces, widths_at(config, config.optimise.epochs))
    missing: list[Missing] = []
    attempt = _Attempt(None, needed, missing)
    decision = attempt("exact", lambda: objectives.own.judge.decide(exact))
    own, spec, number, soft = objectives.own.decided(decision), None, None, None
    if not missing:  # else nothing is left of what the objective is about
        spec = attempt("pyhf", lambda: _workspace(config, own, axes, exact, decision))
        number = attempt("exact", lambda: own.at(exact, pieces))
        soft = attempt("relaxed", lambda: own.at(relaxed, pieces))
    fit = None if spec is None else attempt("pyhf", lambda: _fit(config, spec, number))
    also = {
        name: _numbers(
            other,
            objectives.others[name],
            pieces,
            exact,
            relaxed,
            _Attempt(name, False, missing),
        )
        for name, other in config.alternatives.items()
    }
    parts = parts_of(config, own.specifier, exact, fit, decision)
    fixed = _at_coefficients(config, own.specifier, exact) if needed else ()
    return Verdict(exact, spec, number, soft, fit, also, missing, parts, decision, fixed)


def _at_coefficients(
    config: Config, specifier: Specifier | None, exact: Templates
) -> tuple[AtCoefficients, ...]:
    if specifier is None or not config.model.theory:
        return ()
    return compared(config, specifier, likelihood(exact, specifier))


def parts_of(
    config: Config,
    specifier: Specifier | None,
    exact: Templates,
    fit: PyhfFit | None,
    decision: Decision | None = None,
) -> UncertaintyParts:
    """Return what the uncertainties of the parameters of interest are made of, in the fit with hard cuts."""
    if specifier is None:
        return UncertaintyParts({})
    model, known = likelihood(exact, specifier, decision), None if fit is None else fit.impacts
    gone = () if decision is None else decision.gone
    pois, groups = config.model.pois, config.groups
    found = UncertaintyParts({})
    try:
        breakdowns = {poi: breakdown(model, groups, parameter=poi, known=known).without(gone) for poi in pois}
        found = found._replace(breakdowns=breakdowns)
    except FitError as error:
        found = found._replace(no_breakdown=str(error))
    try:
        return found._replace(contours=tuple(contours(model, pois)) if len(pois) > 1 else ())
    except FitError as error:
        return found._replace(no_contours=str(error))


class _Attempt(NamedTuple):
    """Something that may fail: where it is not needed there is then nothing, and the reason is kept."""

    model: str | None
    needed: bool
    missing: list[Missing]

    def __call__(self, kind: EvaluatedKind, compute: Callable[[], Found]) -> Found | None:
        try:
            return compute()
        except FitError as error:
            if self.needed:
                raise
            self.missing.append(Missing(kind=kind, model=self.model, reason=str(error)))
            return None


def workspace_of(
    config: Config, executor: Executor, pieces: Pieces, *, pseudodata: bool = False
) -> Workspace:
    """Return the pyhf workspace of the run's model with hard cuts, without a fit.

    Args:
        pseudodata: observe those of ``model.pseudodata`` in place of the Asimov data.

    Raises:
        ConfigError: a workspace cannot say what the model is, or the model has no pseudodata.
    """
    if reason := beyond_pyhf(config):
        raise ConfigError(reason)
    if pseudodata and not config.model.pseudodata:
        raise ConfigError(
            "model.pseudodata: it is empty, and the workspace is to observe it; give it factors on samples, as in "
            "pseudodata: {signal: 1, background: 1}, or take the Asimov data"
        )
    return workspace(added(executor, pieces, EXACT), pieces[0].work.axes, config, pseudodata=pseudodata)


def _workspace(
    config: Config, model: ModelPieces, axes: Axes, exact: Templates, decision: Decision | None
) -> Workspace | None:
    if model.specifier is None or beyond_pyhf(config):
        return None
    return workspace(exact, axes, config, specifier=model.specifier, decision=decision)


def _fit(config: Config, spec: Workspace, ours: Number) -> PyhfFit:
    fit = pyhf_fit(config, spec)
    require_agreement(config, spec, ours, fit.objective)
    return fit


def _numbers(
    config: Config,
    model: ModelPieces,
    pieces: Pieces,
    exact: Templates,
    relaxed: Templates,
    attempt: _Attempt,
) -> Numbers:
    """Return the value of the templates in a further model, which prunes by its own thresholds."""
    before = len(attempt.missing)
    decision = attempt("exact", lambda: model.judge.decide(exact))
    if len(attempt.missing) > before:
        return Numbers(exact=None, relaxed=None, pyhf=None)
    model = model.decided(decision)
    ours = attempt("exact", lambda: model.at(exact, pieces))
    soft = attempt("relaxed", lambda: model.at(relaxed, pieces))
    judged = attempt("pyhf", lambda: _judged(config, model, pieces[0].work.axes, exact, ours, decision))
    return Numbers(exact=ours, relaxed=soft, pyhf=judged)


def _judged(
    config: Config, model: ModelPieces, axes: Axes, exact: Templates, ours: Number, decision: Decision | None
) -> Number:
    spec = _workspace(config, model, axes, exact, decision)
    if spec is None:
        return None
    found = pyhf_objective(config, spec)
    require_agreement(config, spec, ours, found)
    return found
