"""Which parameters multiply the yields, and which of them act in one bin only: index arrays, built once from names.

Factors that hold for a whole channel (normsys, lumi, normfactor, a power of a theory's coefficient less its nominal
value) have a row for each sample. A shapefactor may act in several bins, one of each channel that shares it. The
gammas, the parameters of staterror and shapesys, act in one bin each: a fit eliminates them.
"""

from collections.abc import Mapping, Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from pipeline.likelihood.layout import BIN_BY_BIN, Rows, integers
from pipeline.likelihood.paramsets import Modifiers
from pipeline.likelihood.workspace import POWERS

SCALES = ("lumi", "normfactor")


class Multipliers(eqx.Module):
    """Rows of channel-wide factors, and tables of those that act bin by bin.

    ``factor_*`` are the rows of the normsys, then those of lumi and normfactor, for which ``scale_acts`` says in which
    channels they act, then those of coefficients, whose difference to ``origin`` is taken to ``power``;
    ``factor_rows`` holds the rows of each sample, filled up with their number. ``free`` holds the shapefactor,
    ``gamma`` the eliminated parameter of each bin, layer upon layer where there are several, filled up with the
    number of parameters; ``gamma_acts`` says which samples a gamma multiplies, ``gamma_term`` which its constraint
    term is. ``kept`` lists the parameters that are not eliminated, ``position`` is the place of each parameter
    there (their number for a gamma, and behind the last parameter). ``is_whole``: each gamma multiplies all that
    there is in its bin.
    """

    factor_sample: Int[Array, " rows"]
    factor_parameter: Int[Array, " rows"]
    factor_rows: Int[Array, "samples depth"]
    scale_acts: Bool[Array, "scales channels"]
    power: Int[Array, " powers"]
    origin: Float[Array, " powers"]
    free: Int[Array, "free samples bins"]
    gamma: Int[Array, "layers bins"]
    gamma_acts: Bool[Array, "layers samples bins"]
    gamma_term: Int[Array, "layers bins"]
    kept: Int[Array, " kept"]
    position: Int[Array, " params_and_none"]
    is_whole: bool = eqx.field(static=True)

    def others(self, values: Float[Array, "others one *lanes"]) -> Float[Array, "others channels *lanes"]:
        """Return the factors of all rows but those of normsys, from the value of each row's parameter."""
        more = (1,) * (values.ndim - 2)
        acts = self.scale_acts.reshape(*self.scale_acts.shape, *more)
        scales = jnp.where(acts, values[: acts.shape[0]], 1.0)
        if not self.power.size:
            return scales
        shape = (-1, 1, *more)
        away = values[acts.shape[0] :] - self.origin.reshape(shape)
        powers = jnp.where(self.power.reshape(shape) == 1, away, away**2)
        whole = jnp.broadcast_to(powers, (powers.shape[0], acts.shape[1], *powers.shape[2:]))
        return jnp.concatenate([scales, whole])


def build_multipliers(
    modifiers: Modifiers,
    names: Rows,
    terms: Int[np.ndarray, " auxdata"],
    initial: Float[Array, " params"],
) -> Multipliers:
    """Return the index arrays of all that multiplies.

    Args:
        terms: the parameters of the constraint terms.
        initial: nominal values of all parameters.
    """
    scales = [
        (sample, name)
        for kind in SCALES
        for name in modifiers.names(kind)
        for sample in sorted({s for _, s in modifiers.users(kind, name)})
    ]
    powers = [
        (sample, name, power)
        for kind, power in POWERS.items()
        for name in modifiers.names(kind)
        for sample in sorted({s for _, s in modifiers.users(kind, name)})
    ]
    rows = [*names.norms, *scales, *(row[:2] for row in powers)]
    gamma, acts = _gammas(modifiers, names)
    kept = np.setdiff1d(np.arange(names.parameters), gamma)
    position = np.full(names.parameters + 1, kept.size)
    position[kept] = np.arange(kept.size)
    term = np.full(names.parameters + 1, terms.size)
    term[terms] = np.arange(terms.size)
    return Multipliers(
        factor_sample=integers([names.sample[sample] for sample, _ in rows]),
        factor_parameter=integers([names.first[name] for _, name in rows]),
        factor_rows=integers(rows_by_sample(rows, names)),
        scale_acts=jnp.asarray(_scale_acts(modifiers, names, scales)),
        power=integers([power for *_, power in powers]),
        origin=initial[integers([names.first[name] for _, name, _ in powers])],
        free=integers(_free(modifiers, names)),
        gamma=integers(gamma),
        gamma_acts=jnp.asarray(acts),
        gamma_term=integers(term[gamma]),
        kept=integers(kept),
        position=integers(position),
        is_whole=bool(np.all(acts | ~_present(modifiers, names) | (gamma == names.parameters)[:, None])),
    )


def rows_by_sample(rows: Sequence[tuple[str, str]], names: Rows) -> Int[np.ndarray, "samples depth"]:
    """Return rows of each sample, filled up with the number of rows."""
    own: list[list[int]] = [[] for _ in names.samples]
    for row, (sample, _) in enumerate(rows):
        own[names.sample[sample]].append(row)
    depth = max(map(len, own))
    table = np.full((len(own), depth), len(rows))
    for number, found in enumerate(own):
        table[number, : len(found)] = found
    return table


def _scale_acts(
    modifiers: Modifiers, names: Rows, scales: Sequence[tuple[str, str]]
) -> Bool[np.ndarray, "scales channels"]:
    acts = np.zeros((len(scales), len(names.channels)), dtype=bool)
    places: Mapping[tuple[str, str], int] = {key: row for row, key in enumerate(scales)}
    for kind in SCALES:
        for name in modifiers.names(kind):
            for channel, sample in modifiers.users(kind, name):
                acts[places[sample, name], names.channel[channel]] = True
    return acts


def _free(modifiers: Modifiers, names: Rows) -> Int[np.ndarray, "free samples bins"]:
    """Return the shapefactors of each bin of each sample, filled up to the deepest stack."""
    layers: list[Int[np.ndarray, "samples bins"]] = []
    depth = np.zeros((len(names.samples), len(names.channels)), dtype=int)  # of all bins of a channel alike
    for name in modifiers.names("shapefactor"):
        for channel, sample in modifiers.users("shapefactor", name):
            place = names.sample[sample], names.channel[channel]
            if depth[place] == len(layers):
                layers.append(np.full((len(names.samples), names.bins), names.parameters))
            components = names.components(modifiers, "shapefactor", name, channel)
            layers[depth[place]][place[0], names.slices[channel]] = components
            depth[place] += 1
    return np.stack(layers) if layers else np.zeros((0, len(names.samples), names.bins), dtype=int)


def _gammas(
    modifiers: Modifiers, names: Rows
) -> tuple[Int[np.ndarray, "layers bins"], Bool[np.ndarray, "layers samples bins"]]:
    """Return the gammas of each bin, and the samples that each multiplies."""
    own: dict[str, list[tuple[str, str]]] = {channel: [] for channel in names.channels}
    for kind in BIN_BY_BIN:
        for name in modifiers.names(kind):
            for channel in modifiers.channels(kind, name):
                own[channel].append((kind, name))
    layers = max(map(len, own.values()))
    gamma = np.full((layers, names.bins), names.parameters)
    acts = np.zeros((layers, len(names.samples), names.bins), dtype=bool)
    for channel, found in own.items():
        for layer, (kind, name) in enumerate(found):
            gamma[layer, names.slices[channel]] = names.components(modifiers, kind, name, channel)
            for where, sample in modifiers.users(kind, name):
                if where == channel:
                    acts[layer, names.sample[sample], names.slices[channel]] = True
    return gamma, acts


def _present(modifiers: Modifiers, names: Rows) -> Bool[np.ndarray, "samples bins"]:
    """Return the samples that there are in each bin."""
    present = np.zeros((len(names.samples), names.bins), dtype=bool)
    for channel, sample in modifiers.cells:
        present[names.sample[sample], names.slices[channel]] = True
    return present
