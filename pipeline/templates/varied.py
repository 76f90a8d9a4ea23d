"""The templates of every variation that the model uses, beside the nominal ones, with their noise."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from pipeline.config import Config, NormPlusShapeSystematic
from pipeline.containers import AnyArray, Templates
from pipeline.data.datasets import NOMINAL
from pipeline.templates.axes import Axes, affecting
from pipeline.templates.shapes import Channels, symmetrised
from pipeline.templates.smoothing import smoothed_by

Bins = Float[np.ndarray, " bins"]


class VariedTemplates(NamedTuple):
    """The templates of one variation of a sample in a channel.

    Up and down as ``given``, without those that are missing, and as ``used``, smoothed and symmetrised; ``noise`` of
    the changes given.
    """

    systematic: NormPlusShapeSystematic
    sample: str
    channel: str
    nominal: Bins
    given: list[Bins]
    used: list[Bins]
    noise: list[Bins]
    filled: Bool[np.ndarray, " bins"]
    total: float  # yield of all samples in the channel


def varied_templates(templates: Templates, axes: Axes, config: Config) -> Iterator[VariedTemplates]:
    """Yield them by channel, sample and systematic uncertainty."""
    for channel in config.regions:
        yields, sumw2 = np.asarray(templates.yields[channel]), np.asarray(templates.sumw2[channel])
        everything = sum(yields[axes.row(sample, NOMINAL)] for sample in config.data.samples)
        for sample in config.data.samples:
            for systematic in affecting(config.model, sample, channel):
                if isinstance(systematic, NormPlusShapeSystematic):
                    names = [name for name in (systematic.up, systematic.down) if name is not None]
                    yield VariedTemplates(
                        systematic,
                        sample,
                        channel,
                        nominal=yields[axes.row(sample, NOMINAL)],
                        given=[yields[axes.row(sample, name)] for name in names],
                        used=[
                            np.asarray(a) for a in _varied(yields, axes, sample, systematic) if a is not None
                        ],
                        noise=[_noise(yields, sumw2, axes, sample, name) for name in names],
                        filled=everything > 0,
                        total=float(np.sum(everything)),
                    )


def _noise(
    yields: Float[np.ndarray, "samples variations bins"],
    sumw2: Float[np.ndarray, "samples bins"],
    axes: Axes,
    sample: str,
    variation: str,
) -> Bins:
    """Return the standard deviation of what a variation changes in each bin.

    Of other events than the nominal's: that of both. Of the same events, whose changes are correlated: that of as many
    events of mean weight as would make the change, were they moved in or out.
    """
    (own, _), (other, row) = axes.row(sample, NOMINAL), axes.row(sample, variation)
    nominal = yields[own, 0]
    weight = np.divide(sumw2[own], nominal, out=np.zeros_like(nominal), where=nominal > 0)
    moved = np.abs(yields[own, row] - nominal) * weight
    square = moved if own == other else sumw2[own] + sumw2[other]
    return np.asarray(np.sqrt(np.maximum(square, 0.0)))  # of smooth cuts it may be a rounding below 0


def _varied(
    yields: Float[AnyArray, "samples variations bins"],
    axes: Axes,
    sample: str,
    systematic: NormPlusShapeSystematic,
) -> tuple[Float[AnyArray, " bins"], Float[AnyArray, " bins"] | None]:
    """Return the up and down templates of a sample in a channel.

    They are smoothed and symmetrised where that is asked for; down may be missing.
    """
    nominal = yields[axes.row(sample, NOMINAL)]
    up = yields[axes.row(sample, systematic.up)]
    down = None if systematic.down is None else yields[axes.row(sample, systematic.down)]
    if systematic.smoothing is not None:
        channel, how = Channels.of_sizes([len(nominal)]), systematic.smoothing
        up = smoothed_by(how, nominal[None], up[None], channel)[0]
        down = None if down is None else smoothed_by(how, nominal[None], down[None], channel)[0]
    if systematic.symmetrise is None:
        return up, down
    return symmetrised(nominal, up, down, systematic.symmetrise)
