"""Where each number of the templates stands in the stacked arrays: index arrays, built once from the names.

A histosys or normsys has a row for each sample that it acts on, and none for the others; rows of one sample stand
together. So nothing that is compiled grows with the number of modifiers, samples, channels or bins, but for the sizes
of its arrays.
"""

from collections.abc import Callable, Mapping, Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from pipeline.likelihood.paramsets import Modifiers, Parameter

BIN_BY_BIN = ("shapesys", "staterror")
"""Modifiers with an uncertainty for every bin, in the order in which these are stacked."""
NOWHERE = -1  # a place that is filled up


class TemplateLayout(eqx.Module):
    """Which sample, parameter, bins and channels each row belongs to.

    ``shape_*`` are the rows of histosys, ``norm_*`` those of normsys; ``*_acts`` says in which bins or channels of its
    sample a row changes anything. ``shape_norm`` is the row of the normsys of the same sample and parameter, their
    number where there is none.
    """

    shape_sample: Int[Array, " shapes"]
    shape_parameter: Int[Array, " shapes"]
    shape_acts: Bool[Array, "shapes bins"]
    norm_sample: Int[Array, " norms"]
    norm_parameter: Int[Array, " norms"]
    norm_acts: Bool[Array, "norms channels"]
    channel: Int[Array, " bins"]
    signal: Bool[Array, "samples bins"]
    shape_norm: Int[Array, " shapes"]
    is_systematic: Bool[Array, " params"]


class ConstraintLayout(eqx.Module):
    """One entry per auxiliary measurement, in pyhf's order; ``poisson`` lists the Poisson ones.

    ``uncertainty`` and ``yields`` index the numbers that make a staterror's or shapesys' relative
    uncertainty, behind a 0 for samples without one; ``width`` and ``auxdata`` are the values of all others,
    ``follows_*`` says which entries follow the templates, ``is_on`` which are terms of the likelihood.
    """

    parameter: Int[Array, " auxdata"]
    uncertainty: Int[Array, "auxdata samples"]
    yields: Int[Array, "auxdata samples"]
    width: Float[Array, " auxdata"]
    auxdata: Float[Array, " auxdata"]
    follows_width: Bool[Array, " auxdata"]
    follows_auxdata: Bool[Array, " auxdata"]
    follows_fixed: Bool[Array, " auxdata"]
    is_on: Bool[Array, " auxdata"]
    is_poisson: Bool[Array, " auxdata"]
    poisson: Int[Array, " poisson"]


class Rows:
    """The names behind the rows: samples, channels with their bins, parameters, and each modifier's sample."""

    def __init__(self, modifiers: Modifiers, parameters: Sequence[Parameter]):
        self.samples = modifiers.samples
        self.channels = tuple(modifiers.bins)
        ends = np.cumsum(list(modifiers.bins.values()))
        self.slices = {
            channel: slice(int(end) - size, int(end))
            for (channel, size), end in zip(modifiers.bins.items(), ends, strict=True)
        }
        self.bins = int(ends[-1])
        starts = np.cumsum([0, *(parameter.size for parameter in parameters)])
        self.first = {p.name: int(start) for p, start in zip(parameters, starts[:-1], strict=True)}
        self.parameters = int(starts[-1])
        self.sample = {name: number for number, name in enumerate(self.samples)}
        self.channel = {name: number for number, name in enumerate(self.channels)}
        self.shapes = self._rows(modifiers, "histosys")
        self.norms = self._rows(modifiers, "normsys")
        self.uncertainties = self._uncertainties(modifiers)

    def _rows(self, modifiers: Modifiers, kind: str) -> dict[tuple[str, str], int]:
        """Return the row of each (sample, name) of one type, those of a sample together."""
        found = {
            (sample, name) for name in modifiers.names(kind) for _, sample in modifiers.users(kind, name)
        }
        return {key: row for row, key in enumerate(sorted(found))}

    def _uncertainties(self, modifiers: Modifiers) -> dict[tuple[str, str, str], slice]:
        """Return where the uncertainties of each (channel, sample, name) stand in one vector of all."""
        found: dict[tuple[str, str, str], slice] = {}
        begin = 0
        for kind in BIN_BY_BIN:
            for name in modifiers.names(kind):
                for channel, sample in modifiers.users(kind, name):
                    end = begin + modifiers.bins[channel]
                    found[channel, sample, name] = slice(begin, end)
                    begin = end
        return found

    def components(
        self, modifiers: Modifiers, kind: str, name: str, channel: str
    ) -> Int[np.ndarray, " bins"]:
        """Return the component of a multiplying parameter for each bin of a channel."""
        size = modifiers.bins[channel]
        if kind in ("lumi", "normfactor"):
            return np.full(size, self.first[name])
        before = 0
        if kind == "staterror":
            channels = modifiers.channels(kind, name)
            before = sum(modifiers.bins[c] for c in channels[: channels.index(channel)])
        return self.first[name] + before + np.arange(size)

    def poi_index(self, name: str, parameters: Sequence[Parameter]) -> int | None:
        """Place of the POI; None when the measurement names none."""
        if not name:
            return None
        sizes = {p.name: p.size for p in parameters}
        if sizes.get(name) != 1:
            raise ValueError(
                f"measurement: POI '{name}' has {sizes.get(name, 0)} components in the model, allowed is "
                f"exactly 1; name one of {sorted(n for n, size in sizes.items() if size == 1)}"
            )
        return self.first[name]


def integers(values: object) -> Int[Array, "..."]:
    """Return an index array."""
    return jnp.asarray(np.asarray(values, dtype=np.int32))


def _acting(
    modifiers: Modifiers, names: Rows, kind: str, rows: Mapping[tuple[str, str], int], columns: int
) -> Bool[np.ndarray, "rows columns"]:
    """Return in which bins (histosys) or channels (normsys) each row acts."""
    acts = np.zeros((len(rows), columns), dtype=bool)
    for name in modifiers.names(kind):
        for channel, sample in modifiers.users(kind, name):
            column = names.slices[channel] if kind == "histosys" else names.channel[channel]
            acts[rows[sample, name], column] = True
    return acts


def _signal(modifiers: Modifiers, names: Rows, poi: str | None) -> Bool[np.ndarray, "samples bins"]:
    """Return bins of the samples that carry the POI as normfactor."""
    signal = np.zeros((len(names.samples), names.bins), dtype=bool)
    for channel, sample in modifiers.users("normfactor", poi or ""):
        signal[names.sample[sample], names.slices[channel]] = True
    return signal


def _systematic(names: Rows) -> Bool[np.ndarray, " params"]:
    """Return the parameters of histosys and normsys."""
    found = np.zeros(names.parameters, dtype=bool)
    found[[names.first[name] for _, name in (*names.shapes, *names.norms)]] = True
    return found


def build_layout(modifiers: Modifiers, names: Rows, poi: str | None) -> TemplateLayout:
    """Return the index arrays of the expected yields."""
    sizes = list(modifiers.bins.values())
    return TemplateLayout(
        shape_sample=integers([names.sample[sample] for sample, _ in names.shapes]),
        shape_parameter=integers([names.first[name] for _, name in names.shapes]),
        shape_acts=jnp.asarray(_acting(modifiers, names, "histosys", names.shapes, names.bins)),
        norm_sample=integers([names.sample[sample] for sample, _ in names.norms]),
        norm_parameter=integers([names.first[name] for _, name in names.norms]),
        norm_acts=jnp.asarray(_acting(modifiers, names, "normsys", names.norms, len(names.channels))),
        channel=integers(np.repeat(np.arange(len(sizes)), sizes)),
        signal=jnp.asarray(_signal(modifiers, names, poi)),
        shape_norm=integers([names.norms.get(key, len(names.norms)) for key in names.shapes]),
        is_systematic=jnp.asarray(_systematic(names)),
    )


def _bin_by_bin(
    modifiers: Modifiers, names: Rows
) -> tuple[Int[np.ndarray, "params samples"], Int[np.ndarray, "params samples"]]:
    """Return places of uncertainty and yield of each parameter component and sample, for staterror and shapesys."""
    components = modifiers.components  # their yields are changes of another sample's, in its events
    uncertainty = np.full((names.parameters, len(names.samples)), NOWHERE)
    yields = uncertainty.copy()
    for kind in BIN_BY_BIN:
        for name in modifiers.names(kind):
            for channel, sample in (u for u in modifiers.users(kind, name) if u[1] not in components):
                rows, own = names.components(modifiers, kind, name, channel), names.sample[sample]
                place = names.uncertainties[channel, sample, name]
                uncertainty[rows, own] = np.arange(place.start, place.stop)
                bins = names.slices[channel]
                yields[rows, own] = own * names.bins + np.arange(bins.start, bins.stop)
    return uncertainty, yields


def build_constraints(modifiers: Modifiers, names: Rows, parameters: Sequence[Parameter]) -> ConstraintLayout:
    """Return the index arrays and constants of the constraint terms."""
    uncertainty, yields = _bin_by_bin(modifiers, names)
    constrained = [p for p in parameters if p.constraint != "none"]
    index = [names.first[p.name] + i for p in constrained for i in range(p.size)]
    poisson = np.repeat(
        [p.constraint == "poisson" for p in constrained], [p.size for p in constrained]
    ).astype(bool)

    def flags(holds: Callable[[Parameter], bool]) -> Bool[Array, " auxdata"]:
        return jnp.asarray(np.asarray([holds(p) for p in constrained for _ in range(p.size)], dtype=bool))

    return ConstraintLayout(
        parameter=integers(index),
        uncertainty=integers(uncertainty[index] + 1),
        yields=integers(yields[index] + 1),
        width=jnp.asarray(np.asarray([w for p in constrained for w in p.widths or ()], dtype=np.float64)),
        auxdata=jnp.asarray(np.asarray([a for p in constrained for a in p.auxdata or ()], dtype=np.float64)),
        follows_width=flags(lambda p: "width" in p.from_templates),
        follows_auxdata=flags(lambda p: "auxdata" in p.from_templates),
        follows_fixed=flags(lambda p: "fixed" in p.from_templates),
        is_on=flags(lambda p: p.is_on),
        is_poisson=jnp.asarray(poisson),
        poisson=integers(np.flatnonzero(poisson)),
    )
