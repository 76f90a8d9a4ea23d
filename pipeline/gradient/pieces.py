"""Events in pieces, each judged by parameters of its own, and the templates of them all.

Templates of disjoint events add. So where every event is to be judged by parameters that never saw it, there is a piece
for each fold: its events, with the parameters of the optimisation outside of it. Channels are added bin by bin, also
where the pieces have other bin edges.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pipeline.containers import AnyArray, Templates
from pipeline.gradient.sweeps import Executor, FreeValues, forward
from pipeline.gradient.work import Work
from pipeline.templates.fill import Mode


class Piece(NamedTuple):
    """Some events and the parameters that judge them; ``factors`` are on the weights of each sample, None: 1."""

    work: Work
    parameters: FreeValues
    factors: Float[np.ndarray, " samples"] | None = None


Pieces = Sequence[Piece]


def added(executor: Executor, pieces: Pieces, mode: Mode, *, replica: int | None = None) -> Templates:
    """Return the templates of all pieces, added up in their order.

    Args:
        replica: number of a bootstrap sample of the events; None for the events themselves.
    """
    return sum_of_templates(
        [
            scaled(forward(executor, own.work, own.parameters, mode, replica=replica), own.factors)
            for own in pieces
        ]
    )


def sum_of_templates(parts: Sequence[Templates]) -> Templates:
    """Return the templates of disjoint events together, added in their order."""
    first = parts[0]
    return Templates(
        {channel: sum_of([t.yields[channel] for t in parts]) for channel in first.yields},
        {channel: sum_of([t.sumw2[channel] for t in parts]) for channel in first.sumw2},
    )


def scaled(templates: Templates, factors: Float[np.ndarray, " samples"] | None) -> Templates:
    """Return templates whose events have a factor on their weights, by sample."""
    if factors is None:
        return templates
    return Templates(
        {c: factors[:, None, None] * np.asarray(array) for c, array in templates.yields.items()},
        {c: factors[:, None] ** 2 * np.asarray(array) for c, array in templates.sumw2.items()},
    )


def sum_of(arrays: Sequence[AnyArray]) -> np.ndarray:
    """Return the sum of arrays, in their order; of one, that one."""
    return functools.reduce(np.add, map(np.asarray, arrays))


def events(pieces: Pieces) -> int:
    """Return the preselected events of all pieces."""
    return sum(own.work.events for own in pieces)
