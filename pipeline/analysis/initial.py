"""The start values of the free parameters, without the arrays that an analysis draws, and what values are allowed."""

from pipeline.analysis.contract import analysis_of
from pipeline.analysis.declarations import Free
from pipeline.analysis.resolution import check_sizes
from pipeline.config import Config
from pipeline.errors import ConfigError, nearest


def initial_values(config: Config) -> dict[str, float]:
    """Return the start values of the parameters with bounds: the analysis's own, then the configuration's.

    Raises:
        ConfigError: a parameter that is none, a value outside its bounds, a width that would have no effect.
    """
    found = analysis_of(config)
    check_sizes(config, found)
    for name in config.parameters:
        if name not in found.parameters:
            raise ConfigError(f"parameters.{name}: no such free parameter; {nearest(name, found.parameters)}")
    values = {name: config.parameters.get(name, free.initial) for name, free in found.parameters.items()}
    for name, value in values.items():
        check_bounds(name, value, found.parameters[name])
    return values


def check_bounds(name: str, value: float, free: Free) -> None:
    """Raise where a value is outside its parameter's bounds."""
    low, high = free.bounds
    if not low <= value <= high:
        raise ConfigError(
            f"parameters.{name}: value {value} is outside its bounds [{low}, {high}]"
            f"{' ' + free.unit if free.unit else ''}; choose a value inside"
        )
