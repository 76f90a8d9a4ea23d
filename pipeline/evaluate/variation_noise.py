"""The statistical error of what a variation changes: is it an effect, or the noise of the simulated events?

Where nominal and varied template are of the same events, their noise is common and cancels in the difference; where a
variation is a sample of its own it does not. A bootstrap of the events knows which: the spread of the difference over
its replicas is the error. The statistic is the sum over bins of (difference / error)^2, and what it is without any
effect the replicas say, too, by their own deviations from the mean; bins may be correlated.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from pipeline.config import Config, NormPlusShapeSystematic
from pipeline.containers import Templates
from pipeline.data.datasets import NOMINAL
from pipeline.data.written import Written
from pipeline.templates.axes import Axes, affecting

FEWEST_REPLICAS = 20  # of the bootstrap, to say how likely a statistic is
QUANTILE = 0.95  # of the statistic without an effect: above it there is one
SEEN = 2.0  # errors: a bin in which an effect is seen


class VariationNoise(Written):
    """What a variation changes in a channel, [bins], all samples of the systematic added up, and the error of that.

    ``statistic`` is the sum of their squared ratios, ``likely`` what 95 % of the replicas stay below without an effect.
    """

    systematic: str
    variation: str
    channel: str
    effect: tuple[float, ...]
    error: tuple[float, ...]
    nominal: tuple[float, ...]
    statistic: float
    likely: float

    @property
    def is_seen(self) -> bool:
        """Whether there is an effect beyond the noise."""
        return self.statistic > self.likely

    @property
    def largest(self) -> int | None:
        """The filled bin whose effect is largest in units of its error; None where there is none."""
        ratios = [
            abs(d) / e if e > 0 and n != 0 else -1.0
            for d, e, n in zip(self.effect, self.error, self.nominal, strict=True)
        ]
        return ratios.index(max(ratios)) if max(ratios) >= 0 else None

    @property
    def bins_seen(self) -> tuple[int, ...]:
        """The bins with an effect of more than two errors."""
        return tuple(
            bin_
            for bin_, (d, e) in enumerate(zip(self.effect, self.error, strict=True))
            if abs(d) > SEEN * e > 0
        )


def variation_noise(
    config: Config, axes: Axes, exact: Templates, replicas: Sequence[Templates]
) -> tuple[VariationNoise, ...]:
    """Return the noise of every variation in the model, from exact templates and those of bootstrap replicas.

    Empty with fewer than 20 replicas.
    """
    if len(replicas) < FEWEST_REPLICAS:
        return ()
    return tuple(
        _of(systematic, variation, channel, config, axes, exact, replicas)
        for systematic in config.model.systematics
        if isinstance(systematic, NormPlusShapeSystematic)
        for variation in (systematic.up, systematic.down)
        if variation is not None
        for channel in config.regions
        if systematic.acts_in(channel)
    )


def _of(
    systematic: NormPlusShapeSystematic,
    variation: str,
    channel: str,
    config: Config,
    axes: Axes,
    exact: Templates,
    replicas: Sequence[Templates],
) -> VariationNoise:
    samples = [name for name in axes.processes if systematic in affecting(config.model, name, channel)]

    def total(templates: Templates, which: str) -> Float[np.ndarray, " bins"]:
        array = np.asarray(templates.yields[channel])
        return np.asarray(sum(array[axes.row(sample, which)] for sample in samples))

    effect = total(exact, variation) - total(exact, NOMINAL)
    resampled = np.array([total(own, variation) - total(own, NOMINAL) for own in replicas])
    away = resampled - resampled.mean(axis=0)
    error = away.std(axis=0, ddof=1)
    scale = np.where(error > 0, error, np.inf)
    without = np.sum((away / scale) ** 2, axis=1) * len(replicas) / (len(replicas) - 1)
    certain = bool(np.any((error == 0) & (np.abs(effect) > 0)))  # an effect without any noise
    return VariationNoise(
        systematic=systematic.name,
        variation=variation,
        channel=channel,
        effect=tuple(effect.tolist()),
        error=tuple(error.tolist()),
        nominal=tuple(total(exact, NOMINAL).tolist()),
        statistic=float(np.finfo(float).max) if certain else float(np.sum((effect / scale) ** 2)),
        likely=float(np.quantile(without, QUANTILE)),
    )
