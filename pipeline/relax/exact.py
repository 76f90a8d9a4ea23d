"""The hard operations, event by event what NumPy does: the limit of width 0 of ``Relaxed``.

Also where a value lies on a threshold or an edge: a single threshold acts as a Python number does in NumPy, in the
dtype of the values; edges and values are compared in the wider of their dtypes, as by ``np.histogram``.
"""

import equinox as eqx

from pipeline.relax import choice, cuts, multiplicity, ordering
from pipeline.relax.arrays import Decisions, Floats, Mask, RealArrays, as_float
from pipeline.relax.histogram import Flow, hard_histogram
from pipeline.relax.widths import Width


class Exact(eqx.Module):
    """The hard operations, the limit of width 0 of ``Relaxed``; ``width`` and ``bandwidth`` are ignored.

    Decisions are 0 or 1 in the dtype of the values. Decisions that come in are rounded at 1/2.
    """

    def greater(
        self, x: RealArrays, threshold: RealArrays, *, width: str | Width | None = None, mask: Mask = None
    ) -> Floats:
        """Decide ``x > threshold``, strictly (``cuts.hard_greater``)."""
        return cuts.hard_greater(x, threshold, mask=mask)

    def less(
        self, x: RealArrays, threshold: RealArrays, *, width: str | Width | None = None, mask: Mask = None
    ) -> Floats:
        """Decide ``x < threshold``, strictly (``cuts.hard_less``)."""
        return cuts.hard_less(x, threshold, mask=mask)

    def between(
        self,
        x: RealArrays,
        low: RealArrays,
        high: RealArrays,
        *,
        width: str | Width | None = None,
        mask: Mask = None,
    ) -> Floats:
        """Decide ``low < x < high``, both strictly (``cuts.hard_between``)."""
        return cuts.hard_between(x, low, high, mask=mask)

    def all(self, *decisions: Decisions) -> Floats:
        """Decide that all of the decisions, of one shape, pass."""
        return cuts.soft_all(*(cuts.harden(decision) for decision in decisions))

    def any(self, *decisions: Decisions) -> Floats:
        """Decide that any of the decisions, of one shape, passes."""
        return cuts.soft_any(*(cuts.harden(decision) for decision in decisions))

    def not_(self, decision: Decisions) -> Floats:
        """Decide the opposite."""
        return cuts.soft_not(cuts.harden(decision))

    def sum(self, x: RealArrays) -> Floats:
        """Sum over the objects."""
        return as_float(x).sum(axis=-1)

    def count(self, passes: Decisions) -> Floats:
        """Return the number of objects that pass (``multiplicity.hard_count``)."""
        return multiplicity.hard_count(as_float(passes))

    def exactly(self, passes: Decisions, n: int) -> Floats:
        """Decide that exactly ``n`` objects pass (``multiplicity.hard_exactly``)."""
        return multiplicity.hard_exactly(as_float(passes), n)

    def at_least(self, passes: Decisions, n: int) -> Floats:
        """Decide that at least ``n`` objects pass (``multiplicity.hard_at_least``)."""
        return multiplicity.hard_at_least(as_float(passes), n)

    def at_most(self, passes: Decisions, n: int) -> Floats:
        """Decide that at most ``n`` objects pass (``multiplicity.hard_at_most``)."""
        return multiplicity.hard_at_most(as_float(passes), n)

    def nth_passing(self, passes: Decisions, n: int) -> Floats:
        """Return 1 at the ``n``-th that passes, from 1, as they come (``multiplicity.hard_nth_passing``)."""
        return multiplicity.hard_nth_passing(as_float(passes), n)

    def choose(
        self,
        scores: RealArrays,
        *,
        width: str | Width | None = None,
        mask: Mask = None,
        eligible: Decisions | None = None,
    ) -> Floats:
        """Return 1 at the first object with the largest score, else 0 (``choice.hard_choose``)."""
        return choice.hard_choose(scores, mask=mask, eligible=eligible)

    def assign(self, scores: RealArrays, *, width: str | Width | None = None) -> Floats:
        """Return 1 at the bin with the largest of K scores, the last axis, else 0."""
        return choice.hard_choose(scores)

    def take(self, attribute: RealArrays, weights: Floats) -> Floats:
        """Return the attribute of the chosen object (``choice.take``)."""
        return choice.take(attribute, weights)

    def max(
        self, x: RealArrays, *, width: str | Width | None = None, mask: Mask = None, empty: Width = 0.0
    ) -> Floats:
        """Return the largest over the objects; ``empty`` without objects."""
        return choice.extreme(x, choice.hard_choose(x, mask=mask), empty=empty)

    def min(
        self, x: RealArrays, *, width: str | Width | None = None, mask: Mask = None, empty: Width = 0.0
    ) -> Floats:
        """Return the smallest over the objects; ``empty`` without objects."""
        return choice.extreme(x, choice.hard_choose(-as_float(x), mask=mask), empty=empty)

    def mixture(
        self, alternatives: RealArrays, logits: RealArrays, *, width: str | Width | None = None
    ) -> Floats:
        """Return the alternative with the largest logit, the first of equal ones."""
        return choice.over_alternatives(alternatives, choice.hard_choose(logits))

    def sort(
        self,
        x: RealArrays,
        *,
        width: str | Width | None = None,
        mask: Mask = None,
        descending: bool = False,
        empty: Width = 0.0,
    ) -> Floats:
        """Return the objects in order, padded ones last (``ordering.hard_sort``)."""
        return ordering.hard_sort(x, mask=mask, descending=descending, empty=empty)

    def rank(
        self,
        x: RealArrays,
        *,
        width: str | Width | None = None,
        mask: Mask = None,
        descending: bool = False,
    ) -> Floats:
        """Return the ranks from 1, 0 for padded objects (``ordering.hard_rank``)."""
        return ordering.hard_rank(x, mask=mask, descending=descending)

    def top(self, x: RealArrays, k: int, *, width: str | Width | None = None, mask: Mask = None) -> Floats:
        """Decide of each object whether it is one of the ``k`` largest (``ordering.hard_top``)."""
        return ordering.hard_top(x, k, mask=mask)

    def nth(self, x: RealArrays, n: int, *, width: str | Width | None = None, mask: Mask = None) -> Floats:
        """Return 1 at the ``n``-th largest object, from 1, else 0 (``ordering.hard_nth``)."""
        return ordering.hard_nth(x, n, mask=mask)

    def histogram(
        self,
        values: RealArrays,
        edges: RealArrays,
        *,
        bandwidth: RealArrays | None = None,
        weights: RealArrays | None = None,
        flow: Flow = "drop",
    ) -> Floats:
        """Return the contents of ``np.histogram`` (``histogram.hard_histogram``)."""
        return hard_histogram(values, edges, weights=weights, flow=flow)

    def sumw2(
        self,
        values: RealArrays,
        edges: RealArrays,
        *,
        bandwidth: RealArrays | None = None,
        weights: RealArrays | None = None,
        flow: Flow = "drop",
    ) -> Floats:
        """Return the sums of squared weights."""
        squared = None if weights is None else as_float(weights) ** 2
        return hard_histogram(values, edges, weights=squared, flow=flow)
