"""Whether the words of a model fit the samples and channels of its run, and one another there."""

from collections.abc import Collection, Iterable, Mapping

from pipeline.config.fit.abcd import Abcd
from pipeline.config.fit.model import Model
from pipeline.config.fit.systematics import NormPlusShapeSystematic
from pipeline.config.fit.theory import TheoryCoefficient
from pipeline.errors import nearest


def require_samples(where: str, names: Iterable[str], samples: Collection[str]) -> None:
    """Raise where a sample is not one of the run."""
    unknown = [name for name in names if name not in samples]
    if unknown:
        raise ValueError(f"{where}: sample {unknown[0]!r} is not in data.samples {sorted(samples)}")


def require_places(model: Model, samples: Collection[str], bins: Mapping[str, int]) -> None:
    """Raise where a word of a model names a sample or a channel that there is not, or acts where it cannot.

    Args:
        bins: their number by channel of the fit.
    """
    for entry in (*model.normfactors, *model.systematics, *model.shapefactors, *model.abcd):
        _require_known(entry.name, entry.samples or (), entry.channels or (), samples, bins)
    for coefficient in model.theory:
        _require_known(coefficient.name, coefficient.samples, (), samples, bins)
        _require_of_simulation(model, coefficient)
    _require_correlations(model)
    for own in model.shape_uncertainties:
        _require_known(own.name, (own.sample,), own.channels or (), samples, bins)
        named = model.parameter_names | {factor.name for factor in model.free_shapes}
        taken = [name for name in map(own.parameter, own.channels or bins) if name in named]
        if taken:
            raise ValueError(
                f"model.shape_uncertainties: {own.name!r}: its parameter {taken[0]!r} has the name of another one; "
                "rename either"
            )
        if isinstance(own.size, tuple):
            _require_bins(own.name, bins, own.channels, len(own.size), "the number of its sizes")
    _require_counted_once(model, bins)
    for factor in model.free_shapes:
        first = (factor.channels or tuple(bins))[0] if bins else ""
        _require_bins(factor.name, bins, factor.channels, bins.get(first, 0), f"as channel {first!r} has")
    for number, estimate in enumerate(model.abcd):
        for sample in estimate.samples:
            for channel in estimate.channels:
                _require_estimated(model, estimate, model.abcd[:number], sample, channel)


def _require_of_simulation(model: Model, coefficient: TheoryCoefficient) -> None:
    """Raise where a sample of a coefficient is estimated from data, or has bin-by-bin parameters of its own."""
    for sample in coefficient.samples:
        taken = [own.name for own in model.abcd if sample in own.samples]
        taken += [own.name for own in model.shape_uncertainties if own.sample == sample]
        if taken:
            raise ValueError(
                f"model.theory: {coefficient.name!r}: its sample {sample!r} is that of {taken[0]!r}, of abcd or "
                "shape_uncertainties, and no polynomial is defined for that; remove either"
            )
    if model.correlations:
        raise ValueError(
            f"model.theory: {coefficient.name!r}: not with model.correlations; remove either, or name the independent "
            "parameters as systematics"
        )


def require_weighted(model: Model, variations: Mapping[str, Collection[str]]) -> None:
    """Raise where events of a variation are other ones than those whose weights depend on the theory.

    Args:
        variations: those that the manifest has, by sample.
    """
    for sample in (sample for coefficient in model.theory for sample in coefficient.samples):
        for own in model.systematics:
            used = (own.up, own.down) if isinstance(own, NormPlusShapeSystematic) else ()
            read = [name for name in used if name in variations[sample]]
            if read and own.acts_on(sample):
                raise ValueError(
                    f"model.theory: sample {sample!r} has the variation {read[0]!r} of systematic {own.name!r} from "
                    f"the manifest; let the analysis make it, and remove it from data.samples.{sample}.variations"
                )


def _require_counted_once(model: Model, channels: Iterable[str]) -> None:
    """Raise where simulated events of a sample are in two uncertainties, or are not in the likelihood at all."""
    statistical = [own for own in model.shape_uncertainties if own.is_statistical]
    for number, own in enumerate(statistical):
        for channel in (channel for channel in channels if own.acts_on(own.sample, channel)):
            where = f"model.shape_uncertainties: {own.name!r}: sample {own.sample!r} in channel {channel!r}"
            twice = [other.name for other in statistical[:number] if other.acts_on(own.sample, channel)]
            if twice:
                raise ValueError(
                    f"{where} has size statistical in {twice[0]!r} too, and its events would count twice; remove one"
                )
            estimate = model.estimate_of(own.sample, channel)
            if estimate is not None and not estimate.needs_simulation:
                raise ValueError(
                    f"{where} is estimated from data by {estimate.name!r}, so that no simulated events are uncertain; "
                    "leave the channel out, or give a size"
                )


def _require_correlations(model: Model) -> None:
    try:
        _ = model.loadings
    except ValueError as error:
        raise ValueError(f"model.{error}") from None
    named = {name for own in model.correlations for name in own.between}
    wrong = sorted(named & set(model.constraint_widths))
    if wrong:
        raise ValueError(
            f"model.correlations: {wrong[0]!r} has another constraint_width than 1, and no correlation is defined for "
            "that; remove either"
        )


def _require_known(
    name: str,
    own_samples: Iterable[str],
    own_channels: Iterable[str],
    samples: Collection[str],
    channels: Collection[str],
) -> None:
    require_samples(f"model: {name!r}", own_samples, samples)
    unknown = [channel for channel in own_channels if channel not in channels]
    if unknown:
        raise ValueError(
            f"model: {name!r}: channel {unknown[0]!r} is not one of the fit; {nearest(unknown[0], channels)}"
        )


def _require_bins(
    name: str, bins: Mapping[str, int], channels: Iterable[str] | None, size: int, why: str
) -> None:
    """Raise where a channel has another number of bins than what acts on each of them."""
    unequal = [channel for channel in channels or bins if bins[channel] != size]
    if unequal:
        raise ValueError(
            f"model: {name!r}: channel {unequal[0]!r} has {bins[unequal[0]]} bins, not {size}, {why}; its `channels` "
            "must have as many bins"
        )


def _require_estimated(model: Model, own: Abcd, before: Iterable[Abcd], sample: str, channel: str) -> None:
    """Raise where something acts on a sample that is estimated from data as if it were simulated."""
    where = f"model.abcd: {own.name!r}: its sample {sample!r} in channel {channel!r}"
    taken = [f.name for f in model.normfactors if f.acts_on(sample, channel)]
    taken += [f.name for f in model.shapefactors if f.acts_on(sample, channel)]
    taken += [other.name for other in before if other.estimates(sample, channel)]
    if taken:
        raise ValueError(f"{where} has a free factor {taken[0]!r} already; remove either")
    named = [s for s in model.systematics if isinstance(s, NormPlusShapeSystematic)]
    shapes = [s.name for s in named if model.affects(s, sample, channel)]
    if shapes and not own.closure_from_simulation:
        raise ValueError(
            f"{where} is named by systematic {shapes[0]!r}, but its estimate is not simulated; leave it out there, or "
            "set closure_from_simulation: true"
        )
