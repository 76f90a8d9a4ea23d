"""The figures of the result's robustness: the curves around it, and where refits end."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.analysis import Free, analysis_of
from pipeline.config import Config
from pipeline.data.names import OPTIMISED
from pipeline.evaluate.evaluation import Evaluation
from pipeline.evaluate.robustness.certificate import Certificate
from pipeline.evaluate.robustness.refits import Refits
from pipeline.report.drawn import Cell, Drawn
from pipeline.report.figures import AFTER, BEFORE, COLOUR_OF, MARKER_OF, panels_of, with_unit


def figures(config: Config, evaluation: Evaluation) -> dict[str, Drawn]:
    """Return the figures of what the evaluation has."""
    found, free, drawn = evaluation.robustness, analysis_of(config).parameters, {}
    if found.certificate is not None and found.certificate.curves:
        drawn["certificate"] = _curves(found.certificate, free)
    if found.refits is not None and found.refits.parameters:
        drawn["refits"] = _refits(found.refits, evaluation.points[OPTIMISED].parameters, free)
    return drawn


def _curves(certificate: Certificate, free: Mapping[str, Free]) -> Drawn:
    """Draw what is minimised, less what it is at the result, along each parameter; filled: better beyond the error."""
    figure, panels = panels_of(len(certificate.curves))
    for axes, curve in zip(panels, certificate.curves, strict=True):
        there = [point for point in curve.scanned if point.difference is not None]
        values = [point.value for point in there]
        differences = [math.nan if point.difference is None else point.difference for point in there]
        errors = [0.0 if point.error is None else point.error for point in there]
        axes.axhline(0, color=BEFORE, linewidth=1)
        axes.errorbar(
            values, differences, yerr=errors, fmt="o", color=AFTER, markersize=4, capsize=2, fillstyle="none"
        )
        better = [place for place, point in enumerate(there) if point.is_better]
        axes.plot(np.array(values)[better], np.array(differences)[better], "o", color=AFTER)
        axes.plot([curve.centre], [0.0], MARKER_OF[OPTIMISED], color=COLOUR_OF[OPTIMISED])
        axes.set_xlabel(with_unit(curve.parameter, free[curve.parameter].unit))
        axes.set_yscale("symlog", linthresh=_typical(errors))  # a hard cut far away costs orders of magnitude
        axes.set_ylabel("minimised, less the result's")
    rows: list[tuple[Cell, ...]] = [
        (curve.parameter, point.value, point.objective, point.difference, point.error, int(point.is_better))
        for curve in certificate.curves
        for point in curve.scanned
    ]
    best = ", ".join(found.parameter for found in certificate.better)
    alt = (
        f"Points along each of {', '.join(curve.parameter for curve in certificate.curves)}: what is minimised, less "
        f"what it is at the result. Better beyond the error: {best or 'none'}."
    )
    return Drawn(figure, ("parameter", "value", "objective", "difference", "error", "is_better"), rows, alt)


def _typical(errors: Sequence[float]) -> float:
    """Return the median of the errors that there are, 1 without any."""
    there = [error for error in errors if error > 0]
    return float(np.median(there)) if there else 1.0


def _refits(refits: Refits, optimised: Mapping[str, float], free: Mapping[str, Free]) -> Drawn:
    """Draw where each refit ends, parameter by parameter; a line: the result."""
    names = [*refits.parameters]
    figure, panels = panels_of(len(names))
    for axes, name in zip(panels, names, strict=True):
        axes.hist([refit.parameters[name] for refit in refits.done], bins="sturges", color=AFTER, alpha=0.6)
        axes.axvline(optimised[name], color=COLOUR_OF[OPTIMISED])
        axes.set_xlabel(with_unit(name, free[name].unit if name in free else ""))
        axes.set_ylabel("refits")
        axes.set_yticks(np.unique(axes.get_yticks().astype(int)))
    rows: list[tuple[Cell, ...]] = [
        (number, *(refit.parameters[name] for name in names)) for number, refit in enumerate(refits.done)
    ]
    spreads = (f"{name} {own.mean:.4g}" for name, own in refits.parameters.items())
    alt = f"Histograms of where {len(refits.done)} refits end, a line at the result. Means: {', '.join(spreads)}."
    return Drawn(figure, ("refit", *names), rows, alt)
