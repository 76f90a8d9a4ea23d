"""The smooth operations an analysis is written against; ``Exact`` has the same ones, hard.

They hold widths and dispatch; the formulas are in the concept modules. Objects (jets ...) are the last axis.
"""

from collections.abc import Callable, Mapping
from functools import partial

import equinox as eqx

from pipeline.relax import choice, cuts, multiplicity, ordering
from pipeline.relax.arrays import Decisions, Floats, Mask, RealArrays, as_float
from pipeline.relax.histogram import Flow, histogram, sumw2
from pipeline.relax.widths import Asked, Width, find_width, named_like


class Relaxed(eqx.Module):
    """The smooth operations.

    - ``widths``: one width for everything, or a width per name; may be traced
    - ``thresholds``: the free parameters of the analysis by name. A cut on one of these very arrays uses
      the width of that name. Identity does not survive a ``jit`` boundary: build this object inside the
      traced function
    - ``edge``: ``"logistic"`` or ``"gaussian"``, the shape of all cuts
    - ``straight_through``: choices (choose, assign, mixture, max, min, top, nth) are exact, with the derivative
      of the relaxed ones; see ``choice.straight_through``

    Every ``width=`` is a name, a number, or None for the above. A width has the unit of the values it acts
    on.
    """

    widths: Width | Mapping[str, Width]
    thresholds: Mapping[str, object] | None = None
    edge: cuts.Edge = eqx.field(default="logistic", static=True, kw_only=True)
    straight_through: bool = eqx.field(default=False, static=True, kw_only=True)

    def __check_init__(self) -> None:
        if self.edge not in cuts.EDGES:
            raise ValueError(
                f"Relaxed: edge '{self.edge}'; allowed: {', '.join(cuts.EDGES)}; 'logistic' is usual"
            )

    def _width(self, asked: Asked) -> Width:
        """Return the width of one call; what it acts on is for those who watch."""
        return find_width(asked.operation, asked.width, self.widths, asked.threshold, self.thresholds)

    def greater(
        self, x: RealArrays, threshold: RealArrays, *, width: str | Width | None = None, mask: Mask = None
    ) -> Floats:
        """Decide ``x > threshold`` (``cuts.soft_greater``)."""
        found = self._width(Asked("greater", width, x, threshold, mask))
        return cuts.soft_greater(x, threshold, width=found, edge=self.edge, mask=mask)

    def less(
        self, x: RealArrays, threshold: RealArrays, *, width: str | Width | None = None, mask: Mask = None
    ) -> Floats:
        """Decide ``x < threshold`` (``cuts.soft_less``)."""
        found = self._width(Asked("less", width, x, threshold, mask))
        return cuts.soft_less(x, threshold, width=found, edge=self.edge, mask=mask)

    def between(
        self,
        x: RealArrays,
        low: RealArrays,
        high: RealArrays,
        *,
        width: str | Width | None = None,
        mask: Mask = None,
    ) -> Floats:
        """Decide ``low < x < high`` (``cuts.soft_between``).

        Without ``width`` each edge takes the width of its own parameter, and an edge that is no parameter
        takes the width of the other edge.
        """
        free_low = named_like(low, self.thresholds) is not None
        free_high = named_like(high, self.thresholds) is not None
        widths = (
            self._width(Asked("between", width, x, high if free_high and not free_low else low, mask)),
            self._width(Asked("between", width, x, low if free_low and not free_high else high, mask)),
        )
        return cuts.soft_between(x, low, high, widths=widths, edge=self.edge, mask=mask)

    def all(self, *decisions: Decisions) -> Floats:
        """Decide that all of the decisions, of one shape, pass (``cuts.soft_all``)."""
        return cuts.soft_all(*decisions)

    def any(self, *decisions: Decisions) -> Floats:
        """Decide that any of the decisions, of one shape, passes (``cuts.soft_any``)."""
        return cuts.soft_any(*decisions)

    def not_(self, decision: Decisions) -> Floats:
        """Decide the opposite (``cuts.soft_not``)."""
        return cuts.soft_not(decision)

    def sum(self, x: RealArrays) -> Floats:
        """Sum over the objects."""
        return as_float(x).sum(axis=-1)

    def count(self, passes: Decisions) -> Floats:
        """Return the expected number of objects that pass (``multiplicity.count``)."""
        return multiplicity.count(as_float(passes))

    def exactly(self, passes: Decisions, n: int) -> Floats:
        """Return the probability that exactly ``n`` objects pass (``multiplicity.exactly``)."""
        return multiplicity.exactly(as_float(passes), n)

    def at_least(self, passes: Decisions, n: int) -> Floats:
        """Return the probability that at least ``n`` objects pass (``multiplicity.at_least``)."""
        return multiplicity.at_least(as_float(passes), n)

    def at_most(self, passes: Decisions, n: int) -> Floats:
        """Return the probability that at most ``n`` objects pass (``multiplicity.at_most``)."""
        return multiplicity.at_most(as_float(passes), n)

    def nth_passing(self, passes: Decisions, n: int) -> Floats:
        """Return the weights of the ``n``-th that passes, from 1, as they come (``multiplicity.nth_passing``)."""
        return multiplicity.nth_passing(as_float(passes), n)

    def _choose(
        self,
        operation: str,
        scores: RealArrays,
        width: str | Width | None,
        mask: Mask = None,
        eligible: Decisions | None = None,
    ) -> Floats:
        found = self._width(Asked(operation, width, scores, scores, mask))
        soft = choice.soft_choose(scores, width=found, mask=mask, eligible=eligible)
        return self._forward(soft, partial(choice.hard_choose, scores, mask=mask, eligible=eligible))

    def _forward(self, soft: Floats, hard: Callable[[], Floats]) -> Floats:
        """Return the relaxed choice, or the exact one with its derivative."""
        if not self.straight_through:
            return soft
        forward: Floats = choice.straight_through(hard(), soft)
        return forward

    def choose(
        self,
        scores: RealArrays,
        *,
        width: str | Width | None = None,
        mask: Mask = None,
        eligible: Decisions | None = None,
    ) -> Floats:
        """Return the weights of the object with the largest score, its argmax (``choice.soft_choose``)."""
        return self._choose("choose", scores, width, mask, eligible)

    def assign(self, scores: RealArrays, *, width: str | Width | None = None) -> Floats:
        """Return the share of each event in K bins by the softmax of K scores, the last axis."""
        return self._choose("assign", scores, width)

    def take(self, attribute: RealArrays, weights: Floats) -> Floats:
        """Return the attribute of the chosen object (``choice.take``)."""
        return choice.take(attribute, weights)

    def max(
        self, x: RealArrays, *, width: str | Width | None = None, mask: Mask = None, empty: Width = 0.0
    ) -> Floats:
        """Return the softmax-weighted mean, never above the maximum; ``empty`` without objects."""
        return choice.extreme(x, self._choose("max", x, width, mask), empty=empty)

    def min(
        self, x: RealArrays, *, width: str | Width | None = None, mask: Mask = None, empty: Width = 0.0
    ) -> Floats:
        """Return the softmax(-x)-weighted mean, never below the minimum; ``empty`` without objects."""
        return choice.extreme(x, self._choose("min", -as_float(x), width, mask), empty=empty)

    def mixture(
        self, alternatives: RealArrays, logits: RealArrays, *, width: str | Width | None = None
    ) -> Floats:
        """Mix K alternatives, the last axis, by the softmax of K logits; it anneals to one of them."""
        return choice.over_alternatives(alternatives, self._choose("mixture", logits, width))

    def sort(
        self,
        x: RealArrays,
        *,
        width: str | Width | None = None,
        mask: Mask = None,
        descending: bool = False,
        empty: Width = 0.0,
    ) -> Floats:
        """Return the objects in order, padded ones last (``ordering.soft_sort``).

        Its width has the inverse unit of ``x``, so it is always given, never the one for everything.
        """
        if width is None:
            raise ValueError(
                "sort: no width given; allowed: a name or a number, in the inverse unit of the values; "
                "give width=, e.g. 0.01 where neighbours are at most 100 apart"
            )
        found = self._width(Asked("sort", width, x, mask=mask))
        return ordering.soft_sort(x, width=found, mask=mask, descending=descending, empty=empty)

    def rank(
        self,
        x: RealArrays,
        *,
        width: str | Width | None = None,
        mask: Mask = None,
        descending: bool = False,
    ) -> Floats:
        """Return the ranks from 1, 0 for padded objects (``ordering.soft_rank``)."""
        return ordering.soft_rank(
            x, width=self._width(Asked("rank", width, x, x, mask)), mask=mask, descending=descending
        )

    def top(self, x: RealArrays, k: int, *, width: str | Width | None = None, mask: Mask = None) -> Floats:
        """Decide of each object whether it is one of the ``k`` largest (``ordering.soft_top``)."""
        soft = ordering.soft_top(x, k, width=self._width(Asked("top", width, x, x, mask)), mask=mask)
        return self._forward(soft, partial(ordering.hard_top, x, k, mask=mask))

    def nth(self, x: RealArrays, n: int, *, width: str | Width | None = None, mask: Mask = None) -> Floats:
        """Return the weights of the ``n``-th largest object, from 1 (``ordering.soft_nth``)."""
        soft = ordering.soft_nth(x, n, width=self._width(Asked("nth", width, x, x, mask)), mask=mask)
        return self._forward(soft, partial(ordering.hard_nth, x, n, mask=mask))

    def histogram(
        self,
        values: RealArrays,
        edges: RealArrays,
        *,
        bandwidth: RealArrays,
        weights: RealArrays | None = None,
        flow: Flow = "drop",
    ) -> Floats:
        """Return the differentiable bin contents (``histogram.histogram``)."""
        return histogram(values, edges, bandwidth=bandwidth, weights=weights, flow=flow)

    def sumw2(
        self,
        values: RealArrays,
        edges: RealArrays,
        *,
        bandwidth: RealArrays,
        weights: RealArrays | None = None,
        flow: Flow = "drop",
    ) -> Floats:
        """Return the sums of squared weights (``histogram.sumw2``)."""
        return sumw2(values, edges, bandwidth=bandwidth, weights=weights, flow=flow)
