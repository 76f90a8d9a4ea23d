"""The values that an analysis cuts on its free parameters, seen as the smooth operations see them."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float

from pipeline.analysis import EVENT_NUMBER
from pipeline.containers import Columns, Parameters
from pipeline.data import column_file
from pipeline.gradient.compiled import FreeValues, in_precision, mixed_as_numpy_does
from pipeline.gradient.work import Problem, Work
from pipeline.relax import Relaxed
from pipeline.relax.arrays import Floats, Mask, RealArrays
from pipeline.relax.widths import Asked, Width, named_like
from pipeline.templates.fill import Widths
from pipeline.templates.variations import Observer, observe

GREATER, LESS = 1.0, -1.0  # the side on which a cut keeps events
SIDES = {"greater": GREATER, "less": LESS}


@dataclasses.dataclass
class Cut:
    """The values that are cut on one side of a free parameter, and the width of the cut."""

    width: float
    parts: list[np.ndarray] = dataclasses.field(default_factory=list)

    @property
    def values(self) -> Float[np.ndarray, " values"]:
        """All of them."""
        return np.concatenate(self.parts)


Cuts = dict[tuple[str, float], Cut]


class _Cutting(Relaxed):
    """The smooth operations, which write down the values that they cut on free parameters."""

    cuts: Cuts = eqx.field(kw_only=True)

    def _width(self, asked: Asked) -> Width:
        found = super()._width(asked)
        if asked.operation in SIDES:
            self._note(asked, found)
        return found

    def between(
        self,
        x: RealArrays,
        low: RealArrays,
        high: RealArrays,
        *,
        width: str | Width | None = None,
        mask: Mask = None,
    ) -> Floats:
        for operation, threshold in (("greater", low), ("less", high)):
            if named_like(threshold, self.thresholds) is not None:
                self._width(Asked(operation, width, x, threshold, mask))
        return super().between(x, low, high, width=width, mask=mask)

    def _note(self, asked: Asked, width: Width) -> None:
        name = named_like(asked.threshold, self.thresholds)
        if name is None or any(isinstance(array, jax.core.Tracer) for array in (asked.x, asked.mask, width)):
            return
        values = np.asarray(asked.x, dtype=float)
        there = True if asked.objects is None else np.asarray(asked.objects) > 0
        cut = self.cuts.setdefault((name, SIDES[asked.operation]), Cut(np.asarray(width).item()))
        cut.parts.append(values[np.broadcast_to(there, values.shape)])


def cut_values(work: Work, parameters: FreeValues, widths: Widths) -> Cuts:
    """Return the values that are cut in all events of a work, by free parameter and side."""
    cuts = Cuts()
    for columns in columns_of(work):
        _watch(work.problem, parameters, widths, columns, cuts)
    return {place: cut for place, cut in cuts.items() if len(cut.values)}


def _watch(
    problem: Problem, parameters: FreeValues, widths: Widths, columns: Mapping[str, np.ndarray], cuts: Cuts
) -> None:
    """Observe events one operation after the other, without a compiled program, so that values are seen."""
    with mixed_as_numpy_does():
        p, c = as_observed(problem, parameters, columns)
        relax = _Cutting(dict(widths.operations), thresholds=p.arrays, cuts=cuts)
        observe(Observer(problem.analysis, problem.binnings, p, relax), c)


def as_observed(
    problem: Problem, parameters: FreeValues, columns: Mapping[str, np.ndarray]
) -> tuple[Parameters, Columns]:
    """Return parameters and columns as ``observe`` has them, in the precision of the run."""
    arrays = in_precision(problem, {n: a for n, a in columns.items() if n != EVENT_NUMBER})
    return Parameters(in_precision(problem, dict(parameters))), Columns(arrays)


def columns_of(work: Work) -> Iterator[dict[str, np.ndarray]]:
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
