"""A run's templates -> the stacked arrays of its likelihood, traced or written as workspace JSON.

The same arrays serve both: the optimisation differentiates through the very templates that the final workspace
hands to pyhf, with cabinetry's meaning of each systematic type. What stands where is decided once per run, from
names alone; what is traced are a few operations on whole arrays.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from pipeline.config import (
    Config,
    MedianSmoothing,
    NormalizationSystematic,
    NormPlusShapeSystematic,
    Smoothing,
)
from pipeline.config.fit.theory import is_component, whole
from pipeline.containers import AnyArray, Templates
from pipeline.data.datasets import NOMINAL
from pipeline.likelihood.configured.correlated import Correlated, Effects
from pipeline.likelihood.configured.estimates import estimates_of
from pipeline.likelihood.configured.joined import JoinedChannels, given
from pipeline.likelihood.configured.pruning import Decision, EffectArrays, Pruned, Pruner
from pipeline.likelihood.configured.vocabulary import measurement, structure
from pipeline.likelihood.histfactory import HistFactory
from pipeline.likelihood.stacked import StackedTemplates
from pipeline.likelihood.workspace import Specification
from pipeline.templates.axes import Axes, affecting
from pipeline.templates.binning import binnings_of
from pipeline.templates.shapes import Channels, Symmetry, norm_plus_shape, symmetrised
from pipeline.templates.smoothing import smoothed_by


class FitYields(NamedTuple):
    """The templates of all channels in the fit side by side: bins in the order of the likelihood."""

    yields: Float[AnyArray, "samples variations bins"]
    sumw2: Float[AnyArray, "samples bins"]


class _Kind(NamedTuple):
    """Rows whose templates are made alike: smoothed, symmetrised in one way or not, with a down template or without."""

    smoothing: Smoothing | MedianSmoothing | None
    how: Symmetry | None
    has_down: bool
    rows: Int[np.ndarray, " own"]
    sample: Int[np.ndarray, " own"]  # of the likelihood
    up: Int[np.ndarray, "2 own"]  # sample and variation of the templates
    down: Int[np.ndarray, "2 own"]
    ratio_of: Int[np.ndarray, " own"] | None  # the row of the whole sample, where some are components of one


class Specifier:
    """How the arrays of a run's likelihood are made of its templates; and that likelihood, without numbers."""

    def __init__(self, config: Config, axes: Axes, sizes: Mapping[str, int]):
        """Build the structure from the number of bins by channel."""
        self.regions = sorted(config.regions)
        self._sizes = [sizes[name] for name in self.regions]
        by_channel = dict(zip(self.regions, self._sizes, strict=True))
        empty = structure(config, by_channel)
        self.measurement, widths = measurement(config.model, by_channel), config.model.constraint_widths
        own = HistFactory.from_templates(empty, self.measurement, constraint_widths=widths, is_structure=True)
        self.model, self.joined = own, None
        if config.model.joined is not None:
            other = given(config.model.joined)
            correlated = {name for entry in config.model.correlations for name in entry.between}
            self.joined = JoinedChannels(own, empty, self.measurement, widths, other, correlated)
            self.model, self.measurement = self.joined.model, self.joined.measurement
        self._channels = Channels.of_sizes(self._sizes)
        names = own.stacking.names
        self._rows = np.array([row_of(axes, name, NOMINAL) for name in names.samples]).T
        self._wholes = np.array([not is_component(name) for name in names.samples])
        systematics = {
            (sample, systematic.name): systematic
            for sample in names.samples
            for systematic in affecting(config.model, whole(sample))
        }
        effects = Effects.of(config.model, names.samples, by_channel)
        self._kinds = _kinds(effects.shapes, systematics, axes, names.sample)
        self._constant, self._split = _factors(effects.norms, effects.shapes, systematics)
        self._correlated = Correlated.of(config.model, effects, names)
        self._shape_samples = np.array([names.sample[sample] for sample, _ in effects.shapes], dtype=int)
        self._pruner = Pruner(config, effects, systematics, empty, names)
        self._errors = _errors(names.uncertainties, names.sample, names.slices)
        self._relative = _relative(config, names.uncertainties)
        self._estimates = estimates_of(config, names.sample, names.slices)

    @classmethod
    def of_run(cls, config: Config, axes: Axes) -> "Specifier | None":
        """Return the specifier of a run's model with the bins of its configuration; None for a run without a fit."""
        sizes = {binning.channel: binning.bins for binning in binnings_of(config)}
        return cls(config, axes, sizes) if config.model.is_fitted else None

    @classmethod
    def of(cls, templates: Templates, axes: Axes, config: Config) -> "Specifier":
        """Return the specifier with the bins of these templates."""
        return cls(config, axes, {name: array.shape[-1] for name, array in templates.yields.items()})

    def named(self, templates: Templates) -> Specification:
        """Return the channels of a pyhf specification, keyed by names."""
        return self.model.stacking.named(self.stacked(self.side_by_side(templates)))

    def side_by_side(self, templates: Templates) -> FitYields:
        """Return the channels in the fit; NumPy stays NumPy, so that no program of many arrays is compiled."""

        def joined(arrays: Mapping[str, AnyArray]) -> AnyArray:
            own = [arrays[name] for name in self.regions]
            traced = any(isinstance(array, jax.Array) for array in own)
            return jnp.concatenate(own, axis=-1) if traced else np.concatenate(own, axis=-1)

        return FitYields(joined(templates.yields), joined(templates.sumw2))

    def apart(self, found: FitYields) -> Templates:
        """Return the channels by name again, as of a derivative with respect to what ``side_by_side`` gives."""
        ends = np.cumsum(self._sizes)[:-1]
        yields, sumw2 = (
            dict(zip(self.regions, np.split(np.asarray(array), ends, axis=-1), strict=True))
            for array in found
        )
        return Templates(yields, sumw2)

    def stacked(self, found: FitYields, pruned: Pruned | None = None) -> StackedTemplates:
        """Return the arrays of the likelihood, without what is pruned; differentiable."""
        nominal, sumw2 = self._nominal(found)
        effects = self._effects(found, nominal)
        if pruned is not None:
            effects = effects.without(pruned, self._channels)
        own, high, low, factors = effects
        if self._correlated is not None:
            high, low = self._correlated.shapes.templates(high, low, own)
            factors = self._correlated.norms.factors(factors)
        stacked = StackedTemplates(nominal, high, low, factors, self._uncertainties(nominal, sumw2))
        return stacked if self.joined is None else self.joined.stacked(stacked)

    def decided(self, templates: Templates) -> Decision | None:
        """Return which parts of systematics are left out of concrete templates; None where no threshold is set."""
        if not self._pruner.has_thresholds:
            return None
        found = self.side_by_side(templates)
        elsewhere = {} if self.joined is None else self.joined.structure
        nominal, _ = self._nominal(found)
        return self._pruner.decided(self._effects(found, nominal), nominal, self._channels, elsewhere)

    def reduced(self, specification: Specification, pruned: Pruned | None) -> Specification:
        """Return a specification without the modifiers that are left out."""
        return specification if pruned is None else self._pruner.reduced(specification, pruned)

    def _nominal(
        self, found: FitYields
    ) -> tuple[Float[Array, "own_samples bins"], Float[Array, "own_samples bins"]]:
        """Return nominal templates and squares of their errors, estimates in the place of simulation."""
        nominal = jnp.asarray(found.yields)[self._rows[0], self._rows[1]]
        sumw2 = jnp.asarray(found.sumw2)[self._rows[0]]
        for estimate in self._estimates:
            nominal, sumw2 = estimate.made(nominal, sumw2)
        return nominal, sumw2

    def _effects(self, found: FitYields, nominal: Float[Array, "own_samples bins"]) -> EffectArrays:
        """Return the effects of the systematics on the samples."""
        filled = jnp.sum(nominal[self._wholes], axis=0) > 0
        parts = [self._split_of(kind, jnp.asarray(found.yields), nominal, filled) for kind in self._kinds]
        if parts:
            order = np.argsort(np.concatenate([kind.rows for kind in self._kinds]))
            hi, lo, high, low = (jnp.concatenate(part)[order] for part in zip(*parts, strict=True))
        else:
            high = low = jnp.zeros((0, nominal.shape[1]), dtype=nominal.dtype)
            hi = lo = jnp.zeros((0, len(self._sizes)), dtype=nominal.dtype)
        return EffectArrays(nominal[self._shape_samples], high, low, self._norms(hi, lo))

    def _split_of(
        self,
        kind: _Kind,
        yields: Float[Array, "samples variations bins"],
        nominal: Float[Array, "own_samples bins"],
        filled: Bool[Array, " bins"],
    ) -> tuple[Array, Array, Array, Array]:
        """Return factors and shapes, above and below, of the rows of one kind."""
        middle = nominal[kind.sample]
        up = yields[kind.up[0], kind.up[1]]
        down = yields[kind.down[0], kind.down[1]] if kind.has_down else None
        if kind.smoothing is not None:
            up = smoothed_by(kind.smoothing, middle, up, self._channels)
            down = None if down is None else smoothed_by(kind.smoothing, middle, down, self._channels)
        ends = (up, down) if kind.how is None else symmetrised(middle, up, down, kind.how)
        found = norm_plus_shape(middle, ends[0], ends[1], filled, self._channels, ratio_of=kind.ratio_of)
        return tuple(map(jnp.asarray, found))  # type: ignore[return-value]

    def _norms(
        self, hi: Float[Array, "shapes channels"], lo: Float[Array, "shapes channels"]
    ) -> Float[Array, "sides norms channels"]:
        """Return the factors of the normsys: those given, and the yield ratios of templates."""
        constant = jnp.asarray(np.repeat(self._constant[:, :, None], hi.shape[1], axis=2), dtype=hi.dtype)
        norms, shapes = self._split
        return constant.at[:, norms].set(jnp.stack([hi, lo])[:, shapes])

    def _uncertainties(
        self, nominal: Float[Array, "samples bins"], sumw2: Float[Array, "samples bins"]
    ) -> Float[Array, " uncertainties"]:
        """Return the uncertainties of each bin: those of the simulated events, and those given."""
        positive = sumw2 > 0  # the square root has no derivative at 0: an empty bin has no uncertainty
        error = jnp.where(positive, jnp.sqrt(jnp.where(positive, sumw2, 1.0)), 0.0)
        statistical, own = error[self._errors[0], self._errors[1]], self._relative
        if not own.any():
            return statistical
        given = jnp.asarray(own, dtype=nominal.dtype) * jnp.maximum(
            nominal[self._errors[0], self._errors[1]], 0.0
        )
        return jnp.where(own > 0, given, statistical)


def _kinds(
    rows: Mapping[tuple[str, str], int],
    systematics: Mapping[tuple[str, str], NormalizationSystematic | NormPlusShapeSystematic],
    axes: Axes,
    sample: Mapping[str, int],
) -> list[_Kind]:
    """Return the rows of histosys, sorted by what is done with their templates."""
    found: dict[tuple[Smoothing | MedianSmoothing | None, Symmetry | None, bool], list[tuple[int, ...]]] = {}
    for key, row in rows.items():
        systematic = systematics[key]
        assert isinstance(systematic, NormPlusShapeSystematic)
        up = row_of(axes, key[0], systematic.up)
        down = up if systematic.down is None else row_of(axes, key[0], systematic.down)
        kind = systematic.smoothing, systematic.symmetrise, systematic.down is not None
        found.setdefault(kind, []).append((row, sample[key[0]], *up, *down))
    made, keys = [], {row: key for key, row in rows.items()}
    for (smoothing, how, has_down), entries in found.items():
        table = np.array(entries).T
        of_whole = [rows[whole(sample), name] for sample, name in map(keys.__getitem__, table[0].tolist())]
        ratio_of = None if of_whole == table[0].tolist() else np.searchsorted(table[0], of_whole)
        made.append(_Kind(smoothing, how, has_down, table[0], table[1], table[2:4], table[4:6], ratio_of))
    return made


def row_of(axes: Axes, sample: str, variation: str) -> tuple[int, int]:
    """Return where the templates hold a variation of a sample of the likelihood, or of a component of one."""
    monomial = sample.removeprefix(whole(sample))
    return axes.row(whole(sample), f"{variation}{monomial}")


def _factors(
    norms: Mapping[tuple[str, str], int],
    shapes: Mapping[tuple[str, str], int],
    systematics: Mapping[tuple[str, str], NormalizationSystematic | NormPlusShapeSystematic],
) -> tuple[Float[np.ndarray, "sides norms"], Int[np.ndarray, "2 split"]]:
    """Return the given factors by row of normsys, and which rows come from templates.

    The latter are rows of normsys and of histosys.
    """
    constant = np.ones((2, len(norms)))
    split = []
    for key, row in norms.items():
        systematic = systematics[key]
        if isinstance(systematic, NormalizationSystematic):
            constant[:, row] = 1 + systematic.up, 1 + systematic.down
        else:
            split.append((row, shapes[key]))
    return constant, np.array(split, dtype=int).reshape(-1, 2).T


def _errors(
    places: Mapping[tuple[str, str, str], slice],
    sample: Mapping[str, int],
    bins: Mapping[str, slice],
) -> Int[np.ndarray, "2 uncertainties"]:
    """Return sample and bin of each statistical uncertainty."""
    found = [
        (sample[own], number)
        for channel, own, _ in places
        for number in range(bins[channel].start, bins[channel].stop)
    ]
    return np.array(found, dtype=int).reshape(-1, 2).T


def _relative(
    config: Config, places: Mapping[tuple[str, str, str], slice]
) -> Float[np.ndarray, " uncertainties"]:
    """Return the given relative size of each uncertainty; 0 for those of the simulated events."""
    found = np.zeros(sum(place.stop - place.start for place in places.values()))
    for own in config.model.shape_uncertainties:
        for (channel, sample, name), place in places.items():
            if own.acts_on(sample, channel) and name == own.parameter(channel) and not own.is_statistical:
                found[place] = own.size
    return found
