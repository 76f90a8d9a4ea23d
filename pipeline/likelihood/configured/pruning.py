"""Parts of systematics that are left out because they hardly change anything: decided once, and then a table.

A systematic on a sample in a channel has a yield ratio r and a shape t of the nominal's yield n, at plus and minus one
standard deviation, as the workspace has them: after smoothing and symmetrising. With the larger of the two sides,

    size of the normalisation = max |r - 1|          size of the shape = max over bins |t - n| / |n|

Where a size is below the threshold of its part (``model.pruning``), r becomes 1, or t becomes n. So the arrays of a
likelihood keep their shapes, their derivative goes on through the nominal templates, and a workspace leaves the
modifier out. Which parts these are is a table of truth values: an argument, which no derivative sees.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from pipeline.config import Config, NormalizationSystematic, NormPlusShapeSystematic
from pipeline.containers import AnyArray
from pipeline.data.record import PrunedPart
from pipeline.likelihood.configured.correlated import Correlated, Effects, Mixing
from pipeline.likelihood.layout import Rows
from pipeline.likelihood.workspace import Specification
from pipeline.templates.shapes import Channels

KindOfPart = Literal["normalisation", "shape"]
Systematics = Mapping[tuple[str, str], NormalizationSystematic | NormPlusShapeSystematic]


class Pruned(NamedTuple):
    """Which effects lose their normalisation in a channel, and which their shape."""

    norms: Bool[AnyArray, "norms channels"]
    shapes: Bool[AnyArray, "shapes channels"]


class EffectArrays(NamedTuple):
    """The numbers of all effects: templates above and below with the nominal ones of their samples, and factors."""

    nominal: Float[Array, "shapes bins"]
    high: Float[Array, "shapes bins"]
    low: Float[Array, "shapes bins"]
    factors: Float[Array, "sides norms channels"]

    def without(self, pruned: Pruned, channels: Channels) -> "EffectArrays":
        """Return the same with no change where a part is left out; differentiable."""
        flat = jnp.asarray(pruned.shapes)[:, channels.channel]
        return EffectArrays(
            self.nominal,
            jnp.where(flat, self.nominal, self.high),
            jnp.where(flat, self.nominal, self.low),
            jnp.where(jnp.asarray(pruned.norms)[None], 1.0, self.factors),
        )


class Decision(NamedTuple):
    """What is left out: as tables and as a list, of how many parts; and parameters of which nothing is left.

    ``before`` and ``after`` are the relative uncertainty of each bin of a channel by all systematics before a fit, with
    all parts and without those that are left out.
    """

    pruned: Pruned
    parts: tuple[PrunedPart, ...]
    of: int
    gone: tuple[str, ...]
    before: dict[str, tuple[float, ...]]
    after: dict[str, tuple[float, ...]]

    @property
    def line(self) -> str:
        """The decision as a line of a log."""
        gone = f"; nothing is left of {', '.join(self.gone)}" if self.gone else ""
        return f"model.pruning leaves out {len(self.parts)} of {self.of} parts of systematics{gone}"


class Pruner:
    """What a run's model may leave out: the thresholds of its effects, and names for what is decided.

    Thresholds are 0 where an effect does not act, and of effects that are never left out.
    """

    def __init__(
        self,
        config: Config,
        effects: Effects,
        systematics: Systematics,
        structure: Specification,
        names: Rows,
    ):
        """Find the thresholds; ``structure`` and ``names`` are those of the likelihood of the run's own channels."""
        self._structure, self._names, channels = structure, names, tuple(structure)
        self._channels = channels
        self._norms, self._shapes = list(effects.norms), list(effects.shapes)
        limits = {key: config.model.thresholds(own) for key, own in systematics.items()}
        acts = effects.norm_acts[[effects.norms[key] for key in self._shapes]].reshape(-1, len(channels))
        self._acts = Pruned(effects.norm_acts, acts)
        self._norm_limits = (
            np.array([limits[key][0] for key in self._norms]).reshape(-1, 1) * effects.norm_acts
        )
        self._shape_limits = np.array([limits[key][1] for key in self._shapes]).reshape(-1, 1) * acts
        # as given: 1 + up - 1 is another number in the last digit, and may be below a threshold that up is equal to
        self._given = np.array([_given(systematics[key]) for key in self._norms]).reshape(-1, 1)
        self._correlated, self._loadings = Correlated.of(config.model, effects, names), config.model.loadings

    @property
    def has_thresholds(self) -> bool:
        """Whether anything may be left out at all."""
        return bool(self._norm_limits.any() or self._shape_limits.any())

    def decided(
        self,
        found: EffectArrays,
        nominal: Float[AnyArray, "samples bins"],
        channels: Channels,
        elsewhere: Specification,
    ) -> Decision:
        """Return what is left out of concrete templates.

        Args:
            nominal: of all samples.
            elsewhere: channels that are not the run's own; their parameters stay.
        """
        factors = np.max(np.abs(np.asarray(found.factors) - 1.0), axis=0)
        norms = np.where(np.isnan(self._given), factors, self._given)
        shapes = _largest(found, channels)
        small_norms, small_shapes = norms < self._norm_limits, shapes < self._shape_limits
        pruned = Pruned(small_norms, small_shapes)
        parts = (
            *self._listed("normalisation", self._norms, small_norms, norms, self._norm_limits),
            *self._listed("shape", self._shapes, small_shapes, shapes, self._shape_limits),
        )
        left = _names(self.reduced(self._structure, pruned)) | _names(elsewhere)
        gone = tuple(sorted(_names(self._structure) - left))
        number = int(np.sum(self._acts.norms) + np.sum(self._acts.shapes))
        before, after = (
            self._uncertainty(own, np.asarray(nominal), channels)
            for own in (found, found.without(pruned, channels))
        )
        return Decision(pruned, parts, number, gone, before, after)

    def reduced(self, specification: Specification, pruned: Pruned) -> Specification:
        """Return a specification without the modifiers of which a part that is left out was all."""
        norms, shapes = self._left_out(pruned)
        places = {"normsys": (self._names.norms, norms), "histosys": (self._names.shapes, shapes)}
        found: Specification = {}
        for channel, samples in specification.items():
            if channel not in self._channels:
                found[channel] = samples
                continue
            column = self._channels.index(channel)
            found[channel] = {}
            for sample, entry in samples.items():
                kept = dict(entry)
                for kind, (rows, out) in places.items():
                    own = {n: v for n, v in entry.get(kind, {}).items() if not out[rows[sample, n], column]}
                    if kind in kept:
                        kept[kind] = own
                    if not own:
                        kept.pop(kind, None)
                found[channel][sample] = kept
        return found

    def _uncertainty(
        self, found: EffectArrays, nominal: Float[np.ndarray, "samples bins"], channels: Channels
    ) -> dict[str, tuple[float, ...]]:
        """Return the relative uncertainty of each bin by all systematics, before a fit.

        Half of the difference of their sides, samples added up; independent parameters in quadrature.
        """
        factors, total = np.asarray(found.factors), nominal.sum(axis=0)
        shapes = {key: row for row, key in enumerate(self._shapes)}
        by_name: dict[str, Float[np.ndarray, " bins"]] = {}
        for row, (sample, name) in enumerate(self._norms):
            own, at = nominal[self._names.sample[sample]], shapes.get((sample, name))
            ends = (own, own) if at is None else (np.asarray(found.high)[at], np.asarray(found.low)[at])
            above, below = (factors[side, row][channels.channel] * ends[side] for side in (0, 1))
            acts = self._acts.norms[row][channels.channel]
            for parameter, size in self._loadings.get(name, {name: 1.0}).items():
                change = np.where(acts, 0.5 * size * (above - below), 0.0)
                by_name[parameter] = by_name.get(parameter, np.zeros_like(total)) + change
        together = np.sqrt(sum((own**2 for own in by_name.values()), start=np.zeros_like(total)))
        relative = np.divide(together, total, out=np.zeros_like(total), where=total > 0)
        return {
            name: tuple(relative[channels.channel == number].tolist())
            for number, name in enumerate(self._channels)
        }

    def _listed(
        self,
        part: KindOfPart,
        keys: Sequence[tuple[str, str]],
        chosen: Bool[np.ndarray, "rows channels"],
        sizes: Float[np.ndarray, "rows channels"],
        limits: Float[np.ndarray, "rows channels"],
    ) -> list[PrunedPart]:
        return [
            PrunedPart(
                systematic=keys[row][1],
                sample=keys[row][0],
                channel=self._channels[column],
                part=part,
                size=float(sizes[row, column]),
                threshold=float(limits[row, column]),
            )
            for row, column in np.argwhere(chosen)
        ]

    def _left_out(self, pruned: Pruned) -> Pruned:
        """Return which modifiers of the likelihood are left out: those made of nothing but what is left out."""
        if self._correlated is None:
            return Pruned(np.asarray(pruned.norms), np.asarray(pruned.shapes))
        norms = np.asarray(self._acts.norms) & ~np.asarray(pruned.norms)
        shapes = np.asarray(self._acts.shapes) & ~np.asarray(pruned.shapes)
        return Pruned(~_any(self._correlated.norms, norms), ~_any(self._correlated.shapes, shapes))


def _any(mixing: Mixing, effects: Bool[np.ndarray, "effects channels"]) -> Bool[np.ndarray, "rows channels"]:
    """Return where any of the effects that a parameter's row is made of is there."""
    found = np.zeros((mixing.rows, effects.shape[1]), dtype=bool)
    np.logical_or.at(found, mixing.parameter, effects[mixing.effect])
    return found


def _given(systematic: NormalizationSystematic | NormPlusShapeSystematic) -> float:
    """Return the size of a given change of yield; NaN of one that templates have."""
    if isinstance(systematic, NormalizationSystematic):
        return max(abs(systematic.up), abs(systematic.down))
    return float("nan")


def _largest(found: EffectArrays, channels: Channels) -> Float[np.ndarray, "shapes channels"]:
    """Return the largest relative change of a bin in each channel; infinite where there is no nominal yield."""
    nominal, high, low = (np.asarray(own) for own in (found.nominal, found.high, found.low))
    change, size = np.maximum(np.abs(high - nominal), np.abs(low - nominal)), np.abs(nominal)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(change == 0.0, 0.0, change / size)
    largest = np.zeros((len(relative), channels.number))
    for number in range(channels.number):
        largest[:, number] = np.max(relative[:, channels.channel == number], axis=1, initial=0.0)
    return largest


def _names(specification: Specification) -> set[str]:
    """Return the names of all normsys and histosys."""
    entries = [entry for samples in specification.values() for entry in samples.values()]
    return {name for entry in entries for kind in ("normsys", "histosys") for name in entry.get(kind, ())}
