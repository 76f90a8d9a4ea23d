"""What a configuration's model is in the words of a pyhf specification: which modifier acts where, without numbers."""

from collections.abc import Iterable, Mapping

import numpy as np

from pipeline.config import LUMINOSITY, Config, Model, NormPlusShapeSystematic
from pipeline.config.fit.theory import Monomial, coefficients_of, component, monomials
from pipeline.likelihood.workspace import JsonObject, SampleArrays, Specification
from pipeline.templates.axes import affecting


def structure(config: Config, sizes: Mapping[str, int]) -> Specification:
    """Return the specification with zeros for all numbers."""
    loadings = config.model.loadings
    found: Specification = {
        channel: {
            sample: _empty(config.model, loadings, channel, sample, size) for sample in config.data.samples
        }
        for channel, size in sizes.items()
    }
    for own in found.values():
        own |= {
            component(sample, monomial): {**entry, **_powers(monomial)}
            for sample, entry in own.items()
            for monomial in monomials(coefficients_of(config.model.theory, sample))
        }
    return found


def _powers(monomial: Monomial) -> SampleArrays:
    """Return what multiplies the templates of a monomial: a modifier of each of its coefficients."""
    kind = "quadratic" if len(monomial) == 2 and len(set(monomial)) == 1 else "linear"
    return {kind: dict.fromkeys(monomial)}


def _empty(
    model: Model, loadings: Mapping[str, Iterable[str]], channel: str, sample: str, size: int
) -> SampleArrays:
    """Return one sample of one channel, without numbers."""
    bins, number = np.zeros(size), np.zeros(())
    systematics = affecting(model, sample, channel)
    parameters = {s.name: loadings.get(s.name, (s.name,)) for s in systematics}
    shapes = [s.name for s in systematics if isinstance(s, NormPlusShapeSystematic)]
    has_lumi = model.luminosity_uncertainty is not None and model.estimate_of(sample, channel) is None
    entry: SampleArrays = {
        "data": bins,
        "histosys": {name: {"hi_data": bins, "lo_data": bins} for own in shapes for name in parameters[own]},
        "normsys": {name: {"hi": number, "lo": number} for own in parameters.values() for name in own},
        "normfactor": {n.name: None for n in model.free_factors if n.acts_on(sample, channel)},
        "shapefactor": {f.name: None for f in model.free_shapes if f.acts_on(sample, channel)},
        "shapesys": {
            u.parameter(channel): bins for u in model.shape_uncertainties if u.acts_on(sample, channel)
        },
        "lumi": {LUMINOSITY: None} if has_lumi else {},
        "staterror": {f"staterror_{channel}": bins} if model.is_simulated(sample, channel) else {},
    }
    return {key: value for key, value in entry.items() if key == "data" or value}


def measurement(model: Model, bins: Mapping[str, int]) -> JsonObject:
    """Return the ``config`` of the run's measurement: its POI, and what its parameters start with.

    Args:
        bins: their number by channel.
    """
    parameters: list[JsonObject] = [
        {"name": n.name, "inits": [n.nominal], "bounds": [list(n.bounds)]} for n in model.free_parameters
    ]
    for factor in model.free_shapes:
        size = bins[(factor.channels or tuple(bins))[0]]
        parameters.append(
            {"name": factor.name, "inits": [1.0] * size, "bounds": [list(factor.bounds)] * size}
        )
    if model.luminosity_uncertainty is not None:
        sigma = model.luminosity_uncertainty
        bounds = [max(0.0, 1 - 10 * sigma), 1 + 10 * sigma]
        parameters.append(
            {"name": LUMINOSITY, "auxdata": [1.0], "sigmas": [sigma], "inits": [1.0], "bounds": [bounds]}
        )
    return {"poi": model.poi, "parameters": parameters}
