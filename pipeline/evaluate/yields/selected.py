"""Selected yields: of each process with its statistical error, signal, background and their ratio.

A yield is the sum of a process's nominal template times its norm factors at their nominal values, as in Asimov data;
its error the square root of the sum of squared weights. Signal are the processes that the parameter of interest scales,
background all others. Channels of a fit share no event, so their errors add in quadrature.
"""

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Literal

from pipeline.config import Config
from pipeline.data.datasets import NOMINAL
from pipeline.data.names import Fold, Point
from pipeline.data.written import Written
from pipeline.evaluate.evaluation import Evaluation, Number, YieldTables

WHOLE: Literal["all"] = "all"
EventsOfYields = Fold | Literal["all"]


class Yield(Written):
    """Expected events, and the statistical error of the simulation."""

    value: float
    error: float

    def __str__(self) -> str:
        """Return both, to two digits of the error that are not 0."""
        if self.error == 0:
            return f"{self.value:.4g} ± 0"
        digits = max(0, 1 - math.floor(math.log10(self.error)))
        return f"{self.value:.{digits}f} ± {self.error:.{digits}f}"


class ChannelYields(Written):
    """The yields of a channel, or of several together.

    No signal, and no ratio, in a run without a model; no ratio without background.
    """

    samples: dict[str, Yield]
    signal: Yield | None
    background: Yield
    signal_over_background: Number


class SelectedYields(Written):
    """The yields of the channels of the fit, and of all of them."""

    channels: dict[str, ChannelYields]
    total: ChannelYields


def selected(config: Config, tables: YieldTables) -> SelectedYields:
    """Return the yields that are in tables."""
    channels = {
        name: {sample: _of_sample(config, sample, name, tables) for sample in config.data.samples}
        for name in tables.yields
        if name in config.regions
    }
    everywhere = {sample: _sum(own[sample] for own in channels.values()) for sample in config.data.samples}
    return SelectedYields(
        channels={name: _together(config, own) for name, own in channels.items()},
        total=_together(config, everywhere),
    )


def yields_of(config: Config, evaluation: Evaluation) -> dict[Point, dict[EventsOfYields, SelectedYields]]:
    """Return the yields of everything that was evaluated, by point and events.

    ``all`` are the events of both folds, as they would be published, where some are held out.
    """
    found: dict[Point, dict[EventsOfYields, SelectedYields]] = {}
    for row in evaluation.rows:
        found.setdefault(row.point, {})[row.fold] = selected(config, row.templates)
    for point, tables in evaluation.whole.items():
        found[point][WHOLE] = selected(config, tables)
    return found


def signals(config: Config) -> frozenset[str]:
    """Return the samples that depend on a parameter of interest."""
    scaled = [own.samples for own in config.model.may_be_poi if own.name in config.model.pois]
    return frozenset(itertools.chain.from_iterable(scaled))


def scale(config: Config, sample: str, channel: str) -> float:
    """Return the norm factors of a sample in a channel at their nominal values, as in Asimov data."""
    factors = [own.nominal for own in config.model.normfactors if own.acts_on(sample, channel)]
    return math.prod(factors, start=1.0)


def _of_sample(config: Config, sample: str, channel: str, tables: YieldTables) -> Yield:
    factor = scale(config, sample, channel)
    return Yield(
        value=factor * math.fsum(tables.yields[channel][sample][NOMINAL]),
        error=abs(factor) * math.sqrt(math.fsum(tables.sumw2[channel][sample])),
    )


def _together(config: Config, samples: Mapping[str, Yield]) -> ChannelYields:
    of_signal = signals(config)
    signal = (
        _sum(own for name, own in samples.items() if name in of_signal) if config.model.is_fitted else None
    )
    background = _sum(own for name, own in samples.items() if name not in of_signal)
    return ChannelYields(
        samples=dict(samples),
        signal=signal,
        background=background,
        signal_over_background=signal.value / background.value if signal and background.value else None,
    )


def _sum(parts: Iterable[Yield]) -> Yield:
    """Return the sum of independent yields."""
    every = [*parts]
    return Yield(value=math.fsum(own.value for own in every), error=math.hypot(*(own.error for own in every)))
