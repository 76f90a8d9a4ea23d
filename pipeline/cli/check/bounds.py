"""Bounds of a cut where a preselection already ends the events: the smooth cut loses some there that a hard one keeps.

A smooth cut at t keeps less than all of the events just above t, and some of those below make up for it. Where the
preselection, or the nature of the quantity, has left none below, nothing does.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from pipeline.analysis import EVENT_NUMBER, Free
from pipeline.containers import Columns, Parameters
from pipeline.data import column_file
from pipeline.gradient.compiled import FreeValues, in_precision, mixed_as_numpy_does
from pipeline.gradient.work import Problem, Work
from pipeline.relax import Relaxed
from pipeline.relax.widths import Asked, Width, named_like
from pipeline.templates.fill import Widths
from pipeline.templates.variations import Observer, observe

LEAST = 8  # values within a width of a bound: fewer may well have none beyond it by chance
GREATER, LESS = 1.0, -1.0  # the side on which a cut keeps events
SIDES = {"greater": GREATER, "less": LESS}


@dataclasses.dataclass
class _Cut:
    """The values that are cut on one side of a free parameter, and the width of the cut."""

    width: float
    values: list[np.ndarray] = dataclasses.field(default_factory=list)


Cuts = dict[tuple[str, float], _Cut]


class _Cutting(Relaxed):
    """The smooth operations, which write down the values that they cut on free parameters."""

    cuts: Cuts = eqx.field(kw_only=True)

    def _width(self, asked: Asked) -> Width:
        found = super()._width(asked)
        if asked.operation in SIDES:
            self._note(asked, found)
        return found

    def _note(self, asked: Asked, width: Width) -> None:
        name = named_like(asked.threshold, self.thresholds)
        if name is None or any(isinstance(array, jax.core.Tracer) for array in (asked.x, asked.mask, width)):
            return
        values = np.asarray(asked.x, dtype=float)
        there = True if asked.objects is None else np.asarray(asked.objects) > 0
        cut = self.cuts.setdefault((name, SIDES[asked.operation]), _Cut(np.asarray(width).item()))
        cut.values.append(values[np.broadcast_to(there, values.shape)])


def at_bounds(work: Work, parameters: FreeValues, widths: Widths) -> Iterator[str]:
    """Yield a note on each bound near which events end, as the events of a work are cut at some parameters."""
    problem, cuts = work.problem, Cuts()
    for columns in _columns(work):
        _watch(problem, parameters, widths, columns, cuts)
    for (name, side), cut in cuts.items():
        note = _note_on(name, side, problem.analysis.parameters, cut)
        if note is not None:
            yield note


def _watch(
    problem: Problem, parameters: FreeValues, widths: Widths, columns: Mapping[str, np.ndarray], cuts: Cuts
) -> None:
    """Observe events one operation after the other, without a compiled program, so that values are seen."""
    with mixed_as_numpy_does():
        arrays = in_precision(problem, {n: a for n, a in columns.items() if n != EVENT_NUMBER})
        p = Parameters({n: jnp.asarray(a) for n, a in in_precision(problem, dict(parameters)).items()})
        relax = _Cutting(dict(widths.operations), thresholds=p.arrays, cuts=cuts)
        observe(Observer(problem.analysis, problem.binnings, p, relax), Columns(arrays))


def _columns(work: Work) -> Iterator[dict[str, np.ndarray]]:
    """Yield the columns of all events, those of one shape together: each shape is compiled for."""
    alike: dict[tuple[object, ...], list[dict[str, np.ndarray]]] = {}
    for group in work.groups:
        for file in group.files:
            for _, arrays in column_file.read_sources(
                Path(file.path), [file.source], group.folds, file.content
            ):
                shapes = tuple((name, array.shape[1:]) for name, array in sorted(arrays.items()))
                alike.setdefault(shapes, []).append(arrays)
    for own in alike.values():
        yield {name: np.concatenate([arrays[name] for arrays in own]) for name in own[0]}


def _note_on(name: str, side: float, free: Mapping[str, Free], cut: _Cut) -> str | None:
    """Return the note on the bound at which a cut keeps most, where events end within a width of it."""
    if name not in free:
        return None
    low, high = free[name].bounds
    bound, unit = (low, high)[side == LESS], f" {free[name].unit}" if free[name].unit else ""
    inside = (
        side * (np.concatenate(cut.values) - bound) / cut.width
    )  # in widths, above 0 where a hard cut keeps all
    near = int(np.sum((inside > 0) & (inside <= 1)))
    if near < LEAST or inside.min() < -1:
        return None
    where, end, beyond = ("lower", "least", "below") if side == GREATER else ("upper", "largest", "above")
    last = bound + side * cut.width * inside.min()
    return (
        f"parameter {name!r}: its {where} bound {bound:g}{unit} is where the events end: of {len(inside)} values the "
        f"{end} is {last:.4g}, and {near} are within its final width {cut.width:.4g} of the bound. A smooth cut there "
        f"loses events that a hard one keeps, and none further {beyond} make up for them; let columns() keep events "
        "some widths further, or, where there are none by nature, move the bound as far away"
    )
