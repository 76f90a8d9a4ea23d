"""Templates of backgrounds that are estimated from data in four channels: A = B C / D, relative to simulation.

The free factors n, a and b of ``model.abcd`` are relative to simulation, so that they start at 1 and everything that
depends on the templates stays in the templates. With T the simulated ones, B holds ``n a T_B``, C ``n b T_C``, D
``n T_D`` and A ``n a b T_B T_C / T_D``, which for the best n, a and b is the data's own B C / D whatever T is. With
the closure of simulation A holds ``n a b T_A``: the estimate is then times ``T_A T_D / (T_B T_C)``.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from pipeline.config import Config
from pipeline.containers import Templates
from pipeline.data.datasets import NOMINAL
from pipeline.templates.axes import Axes


class AbcdTemplates(NamedTuple):
    """An estimate whose template in the signal region is not simulated: its samples, and the bins of its channels."""

    samples: Int[np.ndarray, " own"]
    signal: slice
    sidebands: tuple[slice, slice]
    control: slice
    per_bin: bool

    def made(
        self, nominal: Float[Array, "samples bins"], sumw2: Float[Array, "samples bins"]
    ) -> tuple[Float[Array, "samples bins"], Float[Array, "samples bins"]]:
        """Return templates, and squares of their errors, with the estimate of simulation in the signal region.

        Bin by bin it is divided among the samples as the control region is; of the yields it has the shapes of
        simulation. NaN where a region has no simulated events, which ``lacking`` says in words.
        """
        first, second = (nominal[self.samples, own] for own in self.sidebands)
        control, simulated = nominal[self.samples, self.control], nominal[self.samples, self.signal]
        if self.per_bin:
            totals = [own.sum(axis=0, keepdims=True) for own in (first, second, control)]
            factor = _ratio(totals[0] * totals[1], totals[2] ** 2)
            return nominal.at[self.samples, self.signal].set(control * factor), sumw2
        factor = _ratio(first.sum() * second.sum(), control.sum() * simulated.sum())
        errors = sumw2[self.samples, self.signal]
        return (
            nominal.at[self.samples, self.signal].set(factor * simulated),
            sumw2.at[self.samples, self.signal].set(factor**2 * errors),
        )


def _ratio(above: Float[Array, "*bins"], below: Float[Array, "*bins"]) -> Float[Array, "*bins"]:
    """Return a quotient, NaN where either is not positive: no free factor changes what is not there."""
    known = (above > 0) & (below > 0)
    return jnp.where(known, above / jnp.where(known, below, 1.0), jnp.nan)


def estimates_of(
    config: Config, sample: Mapping[str, int], bins: Mapping[str, slice]
) -> Sequence[AbcdTemplates]:
    """Return the estimates of a model, from the rows of the samples and the bins of the channels."""
    return [
        AbcdTemplates(
            np.array([sample[name] for name in own.samples]),
            bins[own.signal],
            (bins[own.sidebands[0]], bins[own.sidebands[1]]),
            bins[own.control],
            own.per_bin,
        )
        for own in config.model.abcd
        if not own.closure_from_simulation
    ]


def lacking(config: Config, axes: Axes, templates: Templates) -> str | None:
    """Return the channel and bin where the samples of an estimate have no simulated events to start from, or None."""
    for own in config.model.abcd:
        last = 3 if own.per_bin and not own.closure_from_simulation else 4
        for channel in (*own.sidebands, own.control, own.signal)[:last]:
            rows = [axes.row(sample, NOMINAL) for sample in own.samples]
            yields = np.sum([np.asarray(templates.yields[channel])[row] for row in rows], axis=0)
            found = yields if own.per_bin else yields.sum(keepdims=True)
            if np.any(~(found > 0)):
                number = int(np.argmin(np.where(found > 0, np.inf, found)))
                where = f"bin {number} of channel {channel!r}" if own.per_bin else f"channel {channel!r}"
                return (
                    f"model.abcd: {own.name!r}: the samples {', '.join(map(repr, own.samples))} have "
                    f"{found[number]:.4g} simulated events in {where}, and their estimate is relative to simulation; "
                    "loosen the channel's cuts, merge bins, or add a sample"
                )
    return None
