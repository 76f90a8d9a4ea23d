"""Sizes that numbers cannot resolve: widths, bandwidths and steps of a configuration that would do nothing in silence.

A relaxed cut of width w weights an event at x by a function of (x - t) / w. Where w is far below the spacing of the
values that t can have the cut is hard, where it is far above their range there is none, and its derivative is 0.
"""

import math

import numpy as np

from pipeline.analysis.contract import Analysis
from pipeline.config import Anneal, Bandwidth, Config
from pipeline.errors import ConfigError

SINGLE = float(np.finfo(np.float32).eps)
"""Least part of a range that matters: that of single precision, some 10^7 events between one width and the next."""


def check_sizes(config: Config, analysis: Analysis) -> None:
    """Raise where a width, a bandwidth or a step of the configuration is too small or too large to have an effect.

    Raises:
        ConfigError: the message has the key, the value, what is allowed and why.
    """
    working = np.finfo(config.cluster.precision)
    for name, schedule in config.widths.items():
        key, smallest = f"widths.{name}", math.sqrt(float(working.tiny))
        if name in analysis.parameters and np.all(np.isfinite(analysis.parameters[name].bounds)):
            low, high = analysis.parameters[name].bounds
            _check_range(key, schedule, low, high, float(working.eps), "the parameter's bounds")
        elif schedule.final < max(smallest, float(working.eps) * schedule.initial):
            raise ConfigError(
                f"{key}.final: {schedule.final} is below what {config.cluster.precision} resolves, {smallest:.2g} and "
                f"{working.eps:.2g} of initial {schedule.initial}; choose a larger width"
            )
        elif schedule.initial > 1 / smallest:
            raise ConfigError(
                f"{key}.initial: {schedule.initial} is above {1 / smallest:.2g}; choose a smaller width"
            )
    for name, channel in config.channels.items():
        if channel.bandwidth is not None and channel.edges is not None:
            _check_bandwidth(
                f"channels.{name}.bandwidth", channel.bandwidth, channel.edges, float(working.eps)
            )
        if channel.free_edges is not None and channel.edges is not None:
            least = float(working.eps) * max(abs(channel.edges[0]), abs(channel.edges[-1]))
            _require(f"channels.{name}.free_edges.smallest", channel.free_edges.smallest, least, "the edges")
    if config.surrogate is not None:
        _check_range("surrogate.region", config.surrogate.region, 0.0, 1.0, SINGLE, "the parameters' ranges")
        _require_step("surrogate.learning_rate", config.surrogate.learning_rate)
    if config.optimise.optimiser == "adam":  # whose steps do not grow with the gradient
        _require_step("optimise.learning_rate", config.optimise.learning_rate)


def _check_bandwidth(key: str, bandwidth: Bandwidth, edges: tuple[float, ...], eps: float) -> None:
    low, high = edges[0], edges[-1]
    if bandwidth.unit == "value":
        _check_range(key, bandwidth, low, high, eps, "the edges")
    else:
        narrowest = float(np.min(np.diff(edges)))
        _check_range(
            key,
            bandwidth,
            low / narrowest,
            high / narrowest,
            eps,
            "the edges, in units of the narrowest bin,",
        )


def _check_range(key: str, schedule: Anneal, low: float, high: float, eps: float, what: str) -> None:
    """Refuse a width that values from ``low`` to ``high``, known to ``eps`` of their size, cannot resolve."""
    least = max(eps * max(abs(low), abs(high)), SINGLE * (high - low))
    _require(f"{key}.final", schedule.final, least, f"{what} from {low:g} to {high:g}")
    most = (high - low) / SINGLE
    if schedule.initial > most:
        raise ConfigError(
            f"{key}.initial: {schedule.initial} is above {most:.2g}, where {what} from {low:g} to {high:g} make no "
            "difference, so that the derivative is 0; choose a smaller one"
        )


def _require(key: str, size: float, least: float, what: str) -> None:
    if size < least:
        raise ConfigError(
            f"{key}: {size} is below {least:.2g}, the least that {what} resolve, so that the derivative is 0; choose a "
            "larger one"
        )


def _require_step(key: str, step: float) -> None:
    least = float(np.finfo(np.float64).eps)
    if step < least:
        raise ConfigError(
            f"{key}: {step} is below {least:.2g}, a step that changes no number; choose a larger one"
        )
