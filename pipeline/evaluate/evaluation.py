"""The evaluation of a run: what every point is worth on every fold, and what was found on the way."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pydantic

from pipeline.containers import Templates
from pipeline.data import results
from pipeline.data.names import OPTIMISED, Fold, Part, Point
from pipeline.data.record import PrunedPart
from pipeline.data.written import Written, parsed
from pipeline.errors import InputError
from pipeline.evaluate.robustness.together import Robustness
from pipeline.evaluate.variation_noise import VariationNoise
from pipeline.fit.breakdown import Breakdown
from pipeline.fit.contour import Contour
from pipeline.fit.impacts import Impact
from pipeline.fit.interval import Method
from pipeline.gradient.loss import Described
from pipeline.optimise.plateaus import Plateau
from pipeline.templates.axes import Axes
from pipeline.templates.cautions import Caution

Number = float | None  # None where there is none
EvaluatedKind = Literal["exact", "relaxed", "pyhf"]
CURE = "run `evaluate` again"


class PyhfFit(Written):
    """pyhf's fit of a workspace to its Asimov data; parameters in the order of ``labels``.

    ``interval`` is the POI's, both ends relative to the best fit, and ``interval_method`` how each was found; where
    there is none, ``interval_missing`` says why. ``prefit_stdev`` is the total uncertainty of each bin of a channel.
    """

    labels: tuple[str, ...]
    impacts: tuple[Impact, ...]
    prefit_stdev: dict[str, tuple[float, ...]]
    interval: tuple[float, float] | None
    interval_method: dict[Literal["down", "up"], Method] | None
    interval_missing: str
    bestfit: tuple[float, ...]
    uncertainty: tuple[float, ...]
    correlation: tuple[tuple[float, ...], ...]
    twice_nll: float
    objective: Number


class FittedParameter(Written):
    """A parameter that fits the pseudodata: by pyhf with iminuit's uncertainty, by our fit with the exact Hessian."""

    label: str
    bestfit: float
    uncertainty: float
    ours: float
    hessian: float


class YieldTables(Written):
    """Channel -> sample -> variation -> bins, and channel -> sample -> sums of squared weights."""

    yields: dict[str, dict[str, dict[str, tuple[float, ...]]]]
    sumw2: dict[str, dict[str, tuple[float, ...]]]

    @classmethod
    def of(cls, templates: Templates, axes: Axes, variations: Mapping[str, Sequence[str]]) -> "YieldTables":
        """Return the tables of some samples, with the variations of each, the nominal one among them."""
        return cls(
            yields={
                channel: {
                    sample: {
                        name: tuple(np.asarray(array)[axes.row(sample, name)].tolist()) for name in names
                    }
                    for sample, names in variations.items()
                }
                for channel, array in templates.yields.items()
            },
            sumw2={
                channel: {
                    sample: tuple(np.asarray(array)[axes.samples.index(sample)].tolist())
                    for sample in variations
                }
                for channel, array in templates.sumw2.items()
            },
        )


class Numbers(Written):
    """The objective with hard cuts, with soft ones at their final widths, and by pyhf."""

    exact: Number
    relaxed: Number
    pyhf: Number

    def of(self, kind: EvaluatedKind) -> Number:
        """Return the number of a kind."""
        return {"exact": self.exact, "relaxed": self.relaxed, "pyhf": self.pyhf}[kind]


class Further(Numbers):
    """The numbers of a further model, with the label of its objective."""

    label: str


class Missing(Written):
    """A number that could be there and is not; of a further model where one is named."""

    kind: EvaluatedKind
    model: str | None
    reason: str

    def __str__(self) -> str:
        return f"{self.kind}{'' if self.model is None else f' by {self.model!r}'}: {self.reason}"


class PrunedModel(Written):
    """What pruning leaves out of the systematics: parts, of how many, and parameters of which nothing is left.

    ``before`` and ``after`` are the relative uncertainty of each bin of a channel by all systematics before a fit, with
    all parts and without those that are left out.
    """

    parts: tuple[PrunedPart, ...]
    of: int
    gone: tuple[str, ...]
    before: dict[str, tuple[float, ...]]
    after: dict[str, tuple[float, ...]]


class PruningSummary(Written):
    """How many parts of systematics are left out, of how many, and the parameters of which nothing is left."""

    parts: int
    of: int
    gone: tuple[str, ...]


class AtCoefficients(Written):
    """-2 ln L with the coefficients fixed and all else fitted, by our likelihood and by pyhf.

    ``density_apart`` is the difference of the two ln L at the parameters that pyhf found.
    """

    coefficients: dict[str, float]
    ours: float
    pyhf: float
    density_apart: float


class EvaluatedPoint(Numbers):
    """What a point is worth on a fold of so many preselected events; no ``fit`` where pyhf has none.

    ``breakdowns`` are those of the parameters of interest, by name, in the fit with hard cuts; where there are none,
    ``breakdown_missing`` says why. ``contours`` are those of each pair of them. ``pruned``: None where no threshold is
    set. ``at_coefficients`` compares a model
    with coefficients of a theory, whose number is that of our likelihood, with pyhf where these are fixed.
    """

    point: Point
    fold: Fold
    events: int
    missing: tuple[Missing, ...]
    also: dict[str, Further]
    cautions: tuple[Caution, ...]
    templates: YieldTables
    fit: PyhfFit | None
    breakdowns: dict[str, Breakdown] = pydantic.Field(default_factory=dict)
    breakdown_missing: str = ""
    contours: tuple[Contour, ...] = ()
    contours_missing: str = ""
    pruned: PrunedModel | None = None
    at_coefficients: tuple[AtCoefficients, ...] = ()


class Place(Written):
    """A point: its parameters but for arrays, the bin edges, and what fits the pseudodata, where there are such."""

    parameters: dict[str, float]
    edges: dict[str, tuple[float, ...] | None]
    pseudodata: tuple[FittedParameter, ...] | None


class Bootstrap(Written):
    """The exact objective of each point on resampled events; ``failed`` resamplings without a fit are left out.

    ``variations`` is what they say of the templates at the optimised point.
    """

    values: dict[Point, tuple[float, ...]]
    failed: int
    variations: tuple[VariationNoise, ...] = ()


class FoldResult(Written):
    """The optimisation that never saw a fold: so many events inside and outside of it, preselected, and what it found.

    ``training`` is what a point is worth on the events outside, those that it was optimised on.
    """

    fold: Part
    inside: int
    outside: int
    optimised: Place
    training: dict[Point, Numbers]


class CutWidth(Written):
    """The width of the smooth cuts of a name, at the first epoch and at the end."""

    initial: float
    final: float


class Evaluation(Written):
    """Everything that the stage ``evaluate`` finds.

    With ``data.folds`` there is a result of each; the optimised point has the means of their parameters and edges, and
    the rows of training events are means over the optimisations. ``whole`` has the nominal templates of all events,
    training and held-out together, where some are held out. ``widths`` are those of the relaxed numbers.
    """

    objective: Described
    points: dict[Point, Place]
    rows: tuple[EvaluatedPoint, ...]
    bootstrap: Bootstrap | None
    plateaus: tuple[Plateau, ...] = ()
    folds: tuple[FoldResult, ...] = ()
    robustness: Robustness = Robustness()
    whole: dict[Point, YieldTables] = pydantic.Field(default_factory=dict)
    widths: dict[str, CutWidth] = pydantic.Field(default_factory=dict)

    def at(self, point: Point, fold: Fold) -> EvaluatedPoint:
        """Return the row of a point and a fold."""
        return next(row for row in self.rows if (row.point, row.fold) == (point, fold))

    @property
    def last_fold(self) -> Fold:
        """The held-out events, all of them cross-fitted, or the training events where none are held out."""
        return self.rows[-1].fold

    @property
    def pruning(self) -> dict[Point, dict[Fold, PruningSummary]]:
        """What is left out of the systematics, in few numbers."""
        found: dict[Point, dict[Fold, PruningSummary]] = {}
        for row in self.rows:
            if row.pruned is not None:
                brief = PruningSummary(parts=len(row.pruned.parts), of=row.pruned.of, gone=row.pruned.gone)
                found.setdefault(row.point, {})[row.fold] = brief
        return found

    @property
    def at_coefficients(self) -> dict[Fold, tuple[AtCoefficients, ...]]:
        """The comparison with pyhf at fixed coefficients of a theory, of the optimised point by fold."""
        of_result = (row for row in self.rows if row.point == OPTIMISED and row.at_coefficients)
        return {row.fold: row.at_coefficients for row in of_result}


def write(path: Path, evaluation: Evaluation, header: Mapping[str, str]) -> None:
    """Write an evaluation, with a header that says which run it is of."""
    results.write(path, evaluation.as_json(), header)


def read(path: Path, expected: Mapping[str, str]) -> Evaluation:
    """Return the evaluation of the run that is expected.

    Raises:
        InputError: another run's, altered, or of another version.
    """
    found = parsed(Evaluation, results.read(path, expected), f"evaluation {path}", CURE)
    if not found.rows:
        raise InputError(f"evaluation {path}: key 'rows' is empty; {CURE}")
    return found
