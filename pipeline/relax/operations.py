"""The operations an analysis is written against, ``Relaxed`` and ``Exact``: same names, same calls.

They hold widths and dispatch; the formulas are in the concept modules. Objects (jets ...) are the last axis.
"""

from collections.abc import Mapping

import equinox as eqx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Real, Shaped

from pipeline.relax import choice, counting, cuts
from pipeline.relax.arrays import as_float
from pipeline.relax.histogram import Flow, hard_histogram, histogram
from pipeline.relax.widths import Width, Widths, find_width, named_like

Numbers = Real[ArrayLike, "..."]
Decisions = Shaped[ArrayLike, "..."]
Mask = Shaped[ArrayLike, "..."] | None
Floats = Float[Array, "..."]


class Relaxed(eqx.Module):
    """The smooth operations.

    - ``widths``: one width for everything, or a width per name; may be traced
    - ``thresholds``: the free parameters of the analysis by name. A cut on one of these very arrays uses
      the width of that name. Identity does not survive a ``jit`` boundary: build this object inside the
      traced function
    - ``edge``: ``"logistic"`` or ``"gaussian"``, the shape of all cuts

    Every ``width=`` is a name, a number, or None for the above. A width has the unit of the values it acts
    on.
    """

    widths: Widths
    thresholds: Mapping[str, object] | None = None
    edge: cuts.Edge = eqx.field(default="logistic", static=True, kw_only=True)

    def __check_init__(self) -> None:
        if self.edge not in cuts.EDGES:
            raise ValueError(
                f"Relaxed: edge '{self.edge}'; allowed: {', '.join(cuts.EDGES)}; 'logistic' is usual"
            )

    def _width(self, operation: str, width: str | Width | None, threshold: object = None) -> Width:
        return find_width(operation, width, self.widths, threshold, self.thresholds)

    def greater(
        self, x: Numbers, threshold: Numbers, *, width: str | Width | None = None, mask: Mask = None
    ) -> Floats:
        """Decide ``x > threshold`` (:func:`cuts.soft_greater`)."""
        found = self._width("greater", width, threshold)
        return cuts.soft_greater(x, threshold, width=found, edge=self.edge, mask=mask)

    def less(
        self, x: Numbers, threshold: Numbers, *, width: str | Width | None = None, mask: Mask = None
    ) -> Floats:
        """Decide ``x < threshold`` (:func:`cuts.soft_less`)."""
        found = self._width("less", width, threshold)
        return cuts.soft_less(x, threshold, width=found, edge=self.edge, mask=mask)

    def between(
        self, x: Numbers, low: Numbers, high: Numbers, *, width: str | Width | None = None, mask: Mask = None
    ) -> Floats:
        """Decide ``low < x < high`` (:func:`cuts.soft_between`).

        Without ``width`` each edge takes the width of its own parameter, and an edge that is no parameter
        takes the width of the other edge.
        """
        free_low = named_like(low, self.thresholds) is not None
        free_high = named_like(high, self.thresholds) is not None
        widths = (
            self._width("between", width, high if free_high and not free_low else low),
            self._width("between", width, low if free_low and not free_high else high),
        )
        return cuts.soft_between(x, low, high, widths=widths, edge=self.edge, mask=mask)

    def all(self, *decisions: Decisions) -> Floats:
        """Decide that all of the decisions, of one shape, pass (:func:`cuts.soft_all`)."""
        return cuts.soft_all(*decisions)

    def any(self, *decisions: Decisions) -> Floats:
        """Decide that any of the decisions, of one shape, passes (:func:`cuts.soft_any`)."""
        return cuts.soft_any(*decisions)

    def not_(self, decision: Decisions) -> Floats:
        """Decide the opposite (:func:`cuts.soft_not`)."""
        return cuts.soft_not(decision)

    def sum(self, x: Numbers) -> Floats:
        """Sum over the objects."""
        return as_float(x).sum(axis=-1)

    def count(self, passes: Decisions) -> Floats:
        """Return the expected number of objects that pass (:func:`counting.count`)."""
        return counting.count(as_float(passes))

    def exactly(self, passes: Decisions, n: int) -> Floats:
        """Return the probability that exactly ``n`` objects pass (:func:`counting.exactly`)."""
        return counting.exactly(as_float(passes), n)

    def at_least(self, passes: Decisions, n: int) -> Floats:
        """Return the probability that at least ``n`` objects pass (:func:`counting.at_least`)."""
        return counting.at_least(as_float(passes), n)

    def at_most(self, passes: Decisions, n: int) -> Floats:
        """Return the probability that at most ``n`` objects pass (:func:`counting.at_most`)."""
        return counting.at_most(as_float(passes), n)

    def choose(
        self,
        scores: Numbers,
        *,
        width: str | Width | None = None,
        mask: Mask = None,
        eligible: Decisions | None = None,
    ) -> Floats:
        """Return the weights of the object with the largest score (:func:`choice.soft_choose`)."""
        found = self._width("choose", width, scores)
        return choice.soft_choose(scores, width=found, mask=mask, eligible=eligible)

    def take(self, attribute: Numbers, weights: Floats) -> Floats:
        """Return the attribute of the chosen object (:func:`choice.take`)."""
        return choice.take(attribute, weights)

    def max(
        self,
        x: Numbers,
        *,
        width: str | Width | None = None,
        mask: Mask = None,
        empty: Width = 0.0,
    ) -> Floats:
        """Return the softmax-weighted mean, never above the maximum; ``empty`` without objects."""
        weights = choice.soft_choose(x, width=self._width("max", width), mask=mask)
        return choice.extreme(x, weights, empty=empty)

    def min(
        self,
        x: Numbers,
        *,
        width: str | Width | None = None,
        mask: Mask = None,
        empty: Width = 0.0,
    ) -> Floats:
        """Return the softmax(-x)-weighted mean, never below the minimum; ``empty`` without objects."""
        weights = choice.soft_choose(-as_float(x), width=self._width("min", width), mask=mask)
        return choice.extreme(x, weights, empty=empty)

    def mixture(self, alternatives: Numbers, logits: Numbers, *, width: str | Width | None = None) -> Floats:
        """Mix K alternatives, the last axis, by the softmax of K logits (:func:`choice.soft_mixture`)."""
        return choice.soft_mixture(alternatives, logits, width=self._width("mixture", width, logits))

    def histogram(
        self,
        values: Numbers,
        edges: Numbers,
        *,
        bandwidth: Numbers,
        weights: Numbers | None = None,
        flow: Flow = "drop",
    ) -> Floats:
        """Return the differentiable bin contents (:func:`histogram.histogram`)."""
        return histogram(values, edges, bandwidth=bandwidth, weights=weights, flow=flow)


class Exact(eqx.Module):
    """The hard operations, the limit of width 0 of :class:`Relaxed`; ``width`` and ``bandwidth`` are ignored.

    Decisions are 0 or 1 in the dtype of the values. Decisions that come in are rounded at 1/2.
    """

    def greater(
        self, x: Numbers, threshold: Numbers, *, width: str | Width | None = None, mask: Mask = None
    ) -> Floats:
        """Decide ``x > threshold``, strictly (:func:`cuts.hard_greater`)."""
        return cuts.hard_greater(x, threshold, mask=mask)

    def less(
        self, x: Numbers, threshold: Numbers, *, width: str | Width | None = None, mask: Mask = None
    ) -> Floats:
        """Decide ``x < threshold``, strictly (:func:`cuts.hard_less`)."""
        return cuts.hard_less(x, threshold, mask=mask)

    def between(
        self, x: Numbers, low: Numbers, high: Numbers, *, width: str | Width | None = None, mask: Mask = None
    ) -> Floats:
        """Decide ``low < x < high``, both strictly (:func:`cuts.hard_between`)."""
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

    def sum(self, x: Numbers) -> Floats:
        """Sum over the objects."""
        return as_float(x).sum(axis=-1)

    def count(self, passes: Decisions) -> Floats:
        """Return the number of objects that pass (:func:`counting.hard_count`)."""
        return counting.hard_count(as_float(passes))

    def exactly(self, passes: Decisions, n: int) -> Floats:
        """Decide that exactly ``n`` objects pass (:func:`counting.hard_exactly`)."""
        return counting.hard_exactly(as_float(passes), n)

    def at_least(self, passes: Decisions, n: int) -> Floats:
        """Decide that at least ``n`` objects pass (:func:`counting.hard_at_least`)."""
        return counting.hard_at_least(as_float(passes), n)

    def at_most(self, passes: Decisions, n: int) -> Floats:
        """Decide that at most ``n`` objects pass (:func:`counting.hard_at_most`)."""
        return counting.hard_at_most(as_float(passes), n)

    def choose(
        self,
        scores: Numbers,
        *,
        width: str | Width | None = None,
        mask: Mask = None,
        eligible: Decisions | None = None,
    ) -> Floats:
        """Return 1 at the first object with the largest score, else 0 (:func:`choice.hard_choose`)."""
        return choice.hard_choose(scores, mask=mask, eligible=eligible)

    def take(self, attribute: Numbers, weights: Floats) -> Floats:
        """Return the attribute of the chosen object (:func:`choice.take`)."""
        return choice.take(attribute, weights)

    def max(
        self,
        x: Numbers,
        *,
        width: str | Width | None = None,
        mask: Mask = None,
        empty: Width = 0.0,
    ) -> Floats:
        """Return the largest over the objects; ``empty`` without objects."""
        return choice.extreme(x, choice.hard_choose(x, mask=mask), empty=empty)

    def min(
        self,
        x: Numbers,
        *,
        width: str | Width | None = None,
        mask: Mask = None,
        empty: Width = 0.0,
    ) -> Floats:
        """Return the smallest over the objects; ``empty`` without objects."""
        return choice.extreme(x, choice.hard_choose(-as_float(x), mask=mask), empty=empty)

    def mixture(self, alternatives: Numbers, logits: Numbers, *, width: str | Width | None = None) -> Floats:
        """Return the alternative with the largest logit (:func:`choice.hard_mixture`)."""
        return choice.hard_mixture(alternatives, logits)

    def histogram(
        self,
        values: Numbers,
        edges: Numbers,
        *,
        bandwidth: Numbers | None = None,
        weights: Numbers | None = None,
        flow: Flow = "drop",
    ) -> Floats:
        """Return the contents of ``np.histogram`` (:func:`histogram.hard_histogram`)."""
        return hard_histogram(values, edges, weights=weights, flow=flow)
