"""The figures of two parameters of interest: contours of their profile likelihood, before and after."""

from typing import NamedTuple

from pipeline.data.names import INITIAL, OPTIMISED, POINTS, Point
from pipeline.evaluate.evaluation import Evaluation
from pipeline.fit.contour import Contour
from pipeline.report.drawn import Cell, Drawn
from pipeline.report.figures import COLOUR_OF, MARKER_OF, panels_of, settable

HESSIAN = "ellipses of the Hessian"
STYLES = ("-", "--", "-.", ":")  # of levels, the smallest first


class _Pair(NamedTuple):
    """The contours of two parameters at each point that has them."""

    names: tuple[str, str]
    found: dict[Point, Contour]


def figures(evaluation: Evaluation) -> dict[str, Drawn]:
    """Return a figure for each pair of parameters of interest, on the last fold."""
    return {f"contours_{number}": _figure(pair) for number, pair in enumerate(_pairs(evaluation), start=1)}


def _pairs(evaluation: Evaluation) -> list[_Pair]:
    of_points = {
        point: {own.parameters: own for own in evaluation.at(point, evaluation.last_fold).contours}
        for point in POINTS
    }
    return [
        _Pair(names, {point: own[names] for point, own in of_points.items() if names in own})
        for names in of_points[OPTIMISED]
    ]


def _figure(pair: _Pair) -> Drawn:
    """Draw the contours of each level, at the optimised point with the ellipse of the Hessian, and the best fits.

    Of Asimov data both best fits are at the same place: the marker of the initial one is open, and the larger.
    """
    figure, (axes,) = panels_of(1)
    rows: list[tuple[Cell, ...]] = []
    said = []
    for point, own in pair.found.items():
        colour = COLOUR_OF[point]
        filled, size = ("full", 5.0) if point == OPTIMISED else ("none", 10.0)
        axes.plot(*own.best, MARKER_OF[point], color=colour, fillstyle=filled, markersize=size)
        rows.append((point, "best fit", None, *own.best, None))
        for style, (level, curve) in zip(STYLES, own.curves.items(), strict=False):
            closed = [*curve, curve[0]]
            label = f"{point}, {100 * float(level):g} %"
            x, y = [place.x for place in closed], [place.y for place in closed]
            axes.plot(x, y, style, color=colour, label=label, linewidth=1.0 if point == INITIAL else 1.8)
            rows += [
                (point, "contour", float(level), place.x, place.y, int(place.is_bound)) for place in curve
            ]
            ellipse = own.ellipse(float(level))
            rows += [(point, "ellipse", float(level), x, y, None) for x, y in ellipse.T.tolist()]
            said.append(
                f"{label}: {pair.names[0]} {min(x):.4g} to {max(x):.4g}, {pair.names[1]} {min(y):.4g} to {max(y):.4g}"
            )
            if point == OPTIMISED:
                hessian = HESSIAN if style == STYLES[0] else None
                axes.plot(*ellipse, ":", color="black", linewidth=0.8, label=hessian)
    axes.set_xlabel(settable(pair.names[0]))
    axes.set_ylabel(settable(pair.names[1]))
    axes.margins(0.08)
    lines = sorted(zip(*axes.get_legend_handles_labels(), strict=True), key=lambda own: own[1] == HESSIAN)
    figure.legend(*zip(*lines, strict=True), loc="outside right upper")  # inside it would lie on a contour
    alt = f"Contours of {' and '.join(pair.names)} around the best fit. {'; '.join(said)}."
    return Drawn(figure, ("parameters", "curve", "level", *pair.names, "is_bound"), rows, alt)
