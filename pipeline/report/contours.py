"""The figures of two parameters of interest: contours of their profile likelihood, before and after."""

from typing import NamedTuple

from pipeline.data.names import INITIAL, OPTIMISED, POINTS, Point
from pipeline.evaluate.evaluation import Evaluation
from pipeline.fit.contour import Contour
from pipeline.report.drawn import Cell, Drawn
from pipeline.report.figures import COLOUR_OF, MARKER_OF, panels_of, settable

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
    """Draw the contours of each level, at the optimised point with the ellipse of the Hessian, and the best fits."""
    figure, (axes,) = panels_of(1)
    rows: list[tuple[Cell, ...]] = []
    said = []
    for point, own in pair.found.items():
        colour = COLOUR_OF[point]
        axes.plot(
            *own.best, MARKER_OF[point], color=colour, fillstyle="full" if point == OPTIMISED else "none"
        )
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
                hessian = "ellipses of the Hessian" if style == STYLES[0] else None
                axes.plot(*ellipse, ":", color="black", linewidth=0.8, label=hessian)
    axes.set_xlabel(settable(pair.names[0]))
    axes.set_ylabel(settable(pair.names[1]))
    axes.margins(0.08)
    axes.legend()
    alt = f"Contours of {' and '.join(pair.names)} around the best fit. {'; '.join(said)}."
    return Drawn(figure, ("parameters", "curve", "level", *pair.names, "is_bound"), rows, alt)
