"""Where each number of the templates goes: index arrays, built once from the concrete specification.

All leaves of the templates are joined to one flat vector with a 0 and a 1 in front; every dense array of the
likelihood is one gather from it, so the compiled program does not grow with the number of modifiers.
"""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int
from numpy.typing import ArrayLike

from pipeline.likelihood.parameters import Parameter, bins_of, channels_with, modifiers_of
from pipeline.likelihood.specification import Templates

ZERO, ONE = 0, 1  # places of the constants at the head of the flat vector
_MULTIPLIERS = ("lumi", "normfactor", "shapefactor", "shapesys", "staterror")


class Layout(eqx.Module):
    """Index arrays: into the flat templates, or (``*_parameter``, ``multipliers``) into the parameters.

    ``multipliers`` holds, for every bin of every sample, the parameters that multiply it; entries without one
    point behind the last parameter, where a 1 is appended.
    """

    nominal: Int[Array, "samples bins"]
    histosys: Int[Array, "sides histosys samples bins"]
    histosys_parameter: Int[Array, " histosys"]
    normsys: Int[Array, "sides normsys samples channels"]
    normsys_parameter: Int[Array, " normsys"]
    channel: Int[Array, " bins"]
    multipliers: Int[Array, "factors samples bins"]
    signal: Bool[Array, "samples bins"]


class ConstraintLayout(eqx.Module):
    """One entry per auxiliary measurement, in pyhf's order; ``poisson`` lists the Poisson ones.

    ``uncertainty`` and ``yields`` index the numbers that make a staterror's or shapesys' relative
    uncertainty; ``width`` and ``auxdata`` are the values of all others, ``follows_*`` says which entries
    follow the templates, ``is_on`` which are terms of the likelihood.
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


class Axes:
    """The axes of the dense arrays: samples, channels with their bins, parameters with their components."""

    def __init__(self, templates: Templates, parameters: Sequence[Parameter]):
        self.samples = sorted({sample for samples in templates.values() for sample in samples})
        self.channels = sorted(templates)
        ends = np.cumsum([bins_of(templates, channel) for channel in self.channels])
        self.slices = {
            channel: slice(int(end) - bins_of(templates, channel), int(end))
            for channel, end in zip(self.channels, ends, strict=True)
        }
        self.bins = int(ends[-1])
        starts = np.cumsum([0, *(parameter.size for parameter in parameters)])
        self.first = {p.name: int(start) for p, start in zip(parameters, starts[:-1], strict=True)}
        self.parameters = int(starts[-1])

    def sample(self, name: str) -> int:
        """Row of a sample."""
        return self.samples.index(name)


def flat_templates(templates: Templates, dtype: DTypeLike) -> Float[Array, " numbers"]:
    """All numbers of the templates in one vector, behind the constants 0 and 1."""
    leaves = [jnp.ravel(jnp.asarray(leaf, dtype=dtype)) for leaf in jax.tree.leaves(templates)]
    return jnp.concatenate([jnp.asarray([0.0, 1.0], dtype=dtype), *leaves])


def _places(templates: Templates) -> Templates:
    """The templates with every number replaced by its place in the flat vector."""
    leaves, structure = jax.tree.flatten(templates)
    starts = np.cumsum([2, *(leaf.size for leaf in leaves)])
    places = [
        np.arange(leaf.size).reshape(leaf.shape) + start for leaf, start in zip(leaves, starts, strict=False)
    ]
    filled: Templates = jax.tree.unflatten(structure, places)
    return filled


def _nominal(axes: Axes, places: Templates) -> Int[np.ndarray, "samples bins"]:
    """Places of the nominal yields; a sample absent from a channel has zeros."""
    nominal = np.full((len(axes.samples), axes.bins), ZERO)
    for channel, samples in places.items():
        for sample, entry in samples.items():
            nominal[axes.sample(sample), axes.slices[channel]] = entry["data"]
    return nominal


def _interpolated(
    axes: Axes,
    places: Templates,
    kind: str,
    keys: tuple[str, str],
    absent: Int[np.ndarray, "samples columns"],
) -> tuple[Int[np.ndarray, "sides modifiers samples columns"], list[int]]:
    """Places of the up and down values of histosys or normsys (else ``absent``), and their parameters."""
    names = sorted({name for _, _, name, _ in modifiers_of(places, kind)})
    table = np.broadcast_to(absent, (2, len(names), *absent.shape)).copy()
    for channel, sample, name, arrays in modifiers_of(places, kind):
        column = axes.slices[channel] if kind == "histosys" else axes.channels.index(channel)
        for side, key in enumerate(keys):
            table[side, names.index(name), axes.sample(sample), column] = arrays[key]
    return table, [axes.first[name] for name in names]


def _multipliers(axes: Axes, places: Templates) -> Int[np.ndarray, "factors samples bins"]:
    """Parameters that multiply each bin of each sample, padded to the deepest stack."""
    stacks: list[list[list[int]]] = [[[] for _ in range(axes.bins)] for _ in axes.samples]
    for kind in _MULTIPLIERS:
        for channel, sample, name, _ in modifiers_of(places, kind):
            components = _components(axes, places, kind, name, channel)
            bins = range(axes.slices[channel].start, axes.slices[channel].stop)
            for b, component in zip(bins, components, strict=True):
                stacks[axes.sample(sample)][b].append(int(component))
    depth = max(len(stack) for row in stacks for stack in row)
    table = np.full((depth, len(axes.samples), axes.bins), axes.parameters)
    for s, row in enumerate(stacks):
        for b, stack in enumerate(row):
            table[: len(stack), s, b] = stack
    return table


def _components(
    axes: Axes, places: Templates, kind: str, name: str, channel: str
) -> Int[np.ndarray, " bins"]:
    """Component of a multiplying parameter for each bin of a channel."""
    size = bins_of(places, channel)
    if kind in ("lumi", "normfactor"):
        return np.full(size, axes.first[name])
    before = 0
    if kind == "staterror":
        channels = channels_with(places, kind, name)
        before = sum(bins_of(places, c) for c in channels[: channels.index(channel)])
    return axes.first[name] + before + np.arange(size)


def _signal(axes: Axes, places: Templates, poi: str | None) -> Bool[np.ndarray, "samples bins"]:
    """Bins of the samples that carry the POI as normfactor."""
    signal = np.zeros((len(axes.samples), axes.bins), dtype=bool)
    for channel, sample, name, _ in modifiers_of(places, "normfactor"):
        if name == poi:
            signal[axes.sample(sample), axes.slices[channel]] = True
    return signal


def _integers(values: ArrayLike) -> Int[Array, "..."]:
    return jnp.asarray(np.asarray(values, dtype=np.int32))


def build_layout(templates: Templates, axes: Axes, poi: str | None) -> Layout:
    """The index arrays of the expected yields."""
    places = _places(templates)
    nominal = _nominal(axes, places)
    histosys, histosys_parameter = _interpolated(axes, places, "histosys", ("hi_data", "lo_data"), nominal)
    one = np.full((len(axes.samples), len(axes.channels)), ONE)
    normsys, normsys_parameter = _interpolated(axes, places, "normsys", ("hi", "lo"), one)
    sizes = [axes.slices[channel].stop - axes.slices[channel].start for channel in axes.channels]
    return Layout(
        nominal=_integers(nominal),
        histosys=_integers(histosys),
        histosys_parameter=_integers(histosys_parameter),
        normsys=_integers(normsys),
        normsys_parameter=_integers(normsys_parameter),
        channel=_integers(np.repeat(np.arange(len(sizes)), sizes)),
        multipliers=_integers(_multipliers(axes, places)),
        signal=jnp.asarray(_signal(axes, places, poi)),
    )


def _bin_by_bin(
    axes: Axes, places: Templates, parameters: Sequence[Parameter]
) -> tuple[Int[np.ndarray, "params samples"], Int[np.ndarray, "params samples"]]:
    """Places of uncertainty and yield of each parameter component and sample, for staterror and shapesys."""
    uncertainty = np.full((axes.parameters, len(axes.samples)), ZERO)
    yields = uncertainty.copy()
    for kind in ("shapesys", "staterror"):
        for channel, sample, name, arrays in modifiers_of(places, kind):
            rows = _components(axes, places, kind, name, channel)
            uncertainty[rows, axes.sample(sample)] = arrays
            yields[rows, axes.sample(sample)] = places[channel][sample]["data"]
    return uncertainty, yields


def build_constraints(templates: Templates, axes: Axes, parameters: Sequence[Parameter]) -> ConstraintLayout:
    """The index arrays and constants of the constraint terms."""
    uncertainty, yields = _bin_by_bin(axes, _places(templates), parameters)
    constrained = [p for p in parameters if p.constraint != "none"]
    index = [axes.first[p.name] + i for p in constrained for i in range(p.size)]
    poisson = np.repeat(
        [p.constraint == "poisson" for p in constrained], [p.size for p in constrained]
    ).astype(bool)

    def flags(holds: Callable[[Parameter], bool]) -> Bool[Array, " auxdata"]:
        return jnp.asarray(np.asarray([holds(p) for p in constrained for _ in range(p.size)], dtype=bool))

    return ConstraintLayout(
        parameter=_integers(index),
        uncertainty=_integers(uncertainty[index]),
        yields=_integers(yields[index]),
        width=jnp.asarray(np.asarray([w for p in constrained for w in p.widths or ()], dtype=np.float64)),
        auxdata=jnp.asarray(np.asarray([a for p in constrained for a in p.auxdata or ()], dtype=np.float64)),
        follows_width=flags(lambda p: "width" in p.from_templates),
        follows_auxdata=flags(lambda p: "auxdata" in p.from_templates),
        follows_fixed=flags(lambda p: "fixed" in p.from_templates),
        is_on=flags(lambda p: p.is_on),
        is_poisson=jnp.asarray(poisson),
        poisson=_integers(np.flatnonzero(poisson)),
    )
