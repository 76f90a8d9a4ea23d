"""Where the events of a cut end, beside the range in which it is free: at its bound, or well inside it.

A smooth cut at t keeps less than all of the events just above t, and some of those below make up for it. Where the
preselection, or the nature of the quantity, has left none below, nothing does. And where events end inside the range,
the cut is free only beyond that end: on the other side it keeps everything, wherever it is.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from pipeline.analysis import Free
from pipeline.cli.check.cut_values import GREATER, Cut, Cuts

LEAST = 8  # values within a width of a bound: fewer may well have none beyond it by chance
INSIDE, EDGE = (
    0.02,
    0.05,
)  # of the range: an end further inside than the one; values as near to an end as the other
CROWD = 0.02  # of all values: so many as near to an end as that are cut off there; a tail has fewer


def at_bounds(cuts: Cuts, free: Mapping[str, Free]) -> Iterator[str]:
    """Yield a note on each bound near which events end, in final widths of the cut."""
    for (name, side), cut in cuts.items():
        if name in free and (note := _at_bound(name, side, free[name], cut)) is not None:
            yield note


def inside_ranges(cuts: Cuts, free: Mapping[str, Free]) -> Iterator[str]:
    """Yield a note on each range inside which something else cuts the events off."""
    for (name, side), cut in cuts.items():
        if name in free and (note := _inside_range(name, side, free[name], cut)) is not None:
            yield note


def _at_bound(name: str, side: float, free: Free, cut: Cut) -> str | None:
    """Return the note on the bound at which a cut keeps most, where events end within a width of it."""
    bound = free.bounds[0] if side == GREATER else free.bounds[1]
    inside = side * (cut.values - bound) / cut.width  # in widths, above 0 where a hard cut keeps all
    near = int(np.sum((inside > 0) & (inside <= 1)))
    if near < LEAST or inside.min() < -1:
        return None
    where, end, beyond = _words(side)
    last = bound + side * cut.width * inside.min()
    return (
        f"parameter {name!r}: its {where} bound {bound:g}{_unit(free)} is where the events end: of {len(inside)} "
        f"values the {end} is {last:.4g}, and {near} are within its final width {cut.width:.4g} of the bound. A smooth "
        f"cut there loses events that a hard one keeps, and none further {beyond} make up for them; let columns() keep "
        "events some widths further, or, where there are none by nature, move the bound as far away"
    )


def _inside_range(name: str, side: float, free: Free, cut: Cut) -> str | None:
    """Return the note on a range that reaches beyond where values end, where many end together."""
    low, high = free.bounds
    bound, span = (low if side == GREATER else high), high - low
    inside = np.sort(side * (cut.values - bound) / span)  # in units of the range, above 0 inside of it
    crowd = int(np.searchsorted(inside, inside[0] + EDGE, side="right"))
    if not INSIDE < inside[0] < 1 or crowd < max(LEAST, CROWD * len(inside)):
        return None
    where, end, beyond = _words(side)
    last = bound + side * span * inside[0]
    return (
        f"parameter {name!r}: it is free from {low:g} to {high:g}{_unit(free)}, but of {len(inside)} values that it "
        f"cuts the {end} is {last:.4g}, and {crowd} are so near to that that something cuts there already. The "
        f"parameter changes nothing {beyond} {last:.4g}; let columns() keep events as far as its {where} bound and "
        "some widths further, or, where there are none by nature, move the bound"
    )


def _words(side: float) -> tuple[str, str, str]:
    return ("lower", "least", "below") if side == GREATER else ("upper", "largest", "above")


def _unit(free: Free) -> str:
    return f" {free.unit}" if free.unit else ""
