"""The settings of a first run: one signal over backgrounds with uncertain rates, in place of a YAML file."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import ConfigError


def simple_settings(
    run: str,
    *,
    expected: Mapping[str, float],
    edges: Mapping[str, Sequence[float]],
    uncertainties: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Return settings for ``Run.of``: the uncertainty on a signal's strength, over 40 epochs.

    They are the sections of a configuration (config/README.md), to be changed or added to before the run begins.

    Args:
        run: the name of the run.
        expected: events before any selection by sample; the first is the signal, whose strength ``mu`` is fitted.
        edges: of the bins of each channel that the analysis observes, as many as one likes.
        uncertainties: relative ones on the rate of samples, as in ``{"background": 0.1}``; default: none.

    Raises:
        ConfigError: ``expected`` names no sample.
    """
    if not expected:
        raise ConfigError("simple_settings: expected is empty; give {sample: events}, the signal first")
    signal = next(iter(expected))
    return {
        "run": run,
        "data": {
            "luminosity_per_pb": 1,
            "samples": {name: {"cross_section_pb": float(events)} for name, events in expected.items()},
        },
        "channels": {name: {"edges": [float(edge) for edge in own]} for name, own in edges.items()},
        "model": {
            "poi": "mu",
            "normfactors": [{"name": "mu", "samples": [signal]}],
            "systematics": [_rate(name, size) for name, size in (uncertainties or {}).items()],
        },
        "objective": {"kind": "poi_uncertainty"},
        "optimise": {"epochs": 40},
        "evaluate": {"bootstrap": 20},
    }


def _rate(sample: str, size: float) -> dict[str, Any]:
    """Return the uncertainty on the rate of a sample."""
    ends = {"up": float(size), "down": -float(size)}
    return {"name": f"rate of {sample}", "type": "Normalization", **ends, "samples": [sample]}
