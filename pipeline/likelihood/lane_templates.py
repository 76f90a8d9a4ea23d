"""Templates in the order in which many data sets at once need them, those in lanes, the last axis of every array."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from pipeline.likelihood.histfactory import HistFactory
from pipeline.likelihood.stacked import DenseTemplates


class LaneTemplates(eqx.Module):
    """Templates in the order in which lanes need them: made once for all fits.

    ``slopes`` are mean and bend of the histosys by sample and parameter, ``sides`` the same as matrices, ``moments``
    by channel, too. ``rows`` and ``shapes`` are the rows of each parameter in each sample, their number where there is
    none. ``of_channel`` is 1 where a bin is the channel's.
    """

    model: HistFactory
    dense: DenseTemplates
    sides: Float[Array, "samples bins two_kept"]
    slopes: Float[Array, "samples two bins kept"]
    moments: Float[Array, "samples rows bins"]
    rows: Int[Array, "samples kept"]
    shapes: Int[Array, "samples kept"]
    of_channel: Float[Array, "channels bins"]


MOST_NUMBERS = 2**25  # of the templates by parameter and channel, a quarter of a gigabyte


def has_lanes(model: HistFactory) -> bool:
    """Return whether a model is of the kind that lanes are for, and not too large."""
    table, (samples, bins) = model.multiplying, model.layout.signal.shape
    is_simple = table.gamma.shape[0] <= 1 and table.free.shape[0] == 0 and table.is_whole
    return is_simple and 2 * samples * len(model.bins) * table.kept.size * bins <= MOST_NUMBERS


def lane_templates(model: HistFactory, dense: DenseTemplates) -> LaneTemplates:
    """Return the templates of a model as lanes need them."""
    layout, table = model.layout, model.multiplying
    (samples, bins), kept = layout.signal.shape, table.kept.size
    shapes = _places(layout.shape_sample, table.position[layout.shape_parameter], samples, kept)
    rows = _places(table.factor_sample, table.position[table.factor_parameter], samples, kept)
    none = jnp.zeros((1, bins), dtype=dense.mean.dtype)
    mean, bend = (jnp.concatenate([part, none]) for part in (dense.mean, dense.bend))
    slopes = jnp.stack([mean[shapes], bend[shapes]], axis=1)
    of_channel = jax.nn.one_hot(layout.channel, len(model.bins), dtype=none.dtype, axis=0)
    moments = slopes[:, :, None] * of_channel[None, None, :, None]
    return LaneTemplates(
        model=model,
        dense=dense,
        sides=jnp.moveaxis(slopes.reshape(samples, -1, bins), 1, 2),
        slopes=jnp.swapaxes(slopes, 2, 3),
        moments=moments.reshape(samples, -1, bins),
        rows=rows,
        shapes=shapes,
        of_channel=of_channel,
    )


def _places(
    sample: Int[Array, " rows"], parameter: Int[Array, " rows"], samples: int, kept: int
) -> Int[Array, "samples kept"]:
    """Return the row of each parameter in each sample, the number of rows where there is none."""
    none = jnp.full((samples, kept), sample.size, dtype=sample.dtype)
    return none.at[sample, parameter].set(jnp.arange(sample.size, dtype=sample.dtype))
